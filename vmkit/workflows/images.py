"""Make sure that an image is there, building it the first time."""

from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.images.store import Image, ImageStore


def ensure_image(reference: str, *, images: ImageStore, runner: Runner, report: Report) -> Image:
    """Return the image `reference`; one that vmkit knows how to build is built when it is missing.

    Raises NotFound for any other missing image, HostLacks where this computer cannot build.
    """
    found = images.find(reference)
    if found is not None:
        return found
    images.require_buildable(reference)
    from vmkit.images.build import build_image  # noqa: PLC0415  # only the first create pays for it

    name, _, tag = reference.partition(":")
    return build_image(name, store=images, runner=runner, report=report, tag=tag)
