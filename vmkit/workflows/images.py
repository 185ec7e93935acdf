"""Make sure that an image is there, building it the first time."""

from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.images.build import RELEASES, build_image
from vmkit.images.layout import Image
from vmkit.images.store import ImageStore


def ensure_image(reference: str, *, images: ImageStore, runner: Runner, report: Report) -> Image:
    """Return the image `reference`; one that vmkit knows how to build is built when it is missing.

    Raises NotFound for any other missing image, HostLacks where this computer cannot build.
    """
    if images.find(reference) is not None:
        return images.get(reference, report=report)
    require_buildable(reference, images=images)
    name, _, tag = reference.partition(":")
    return build_image(name, store=images, runner=runner, report=report, tag=tag)


def require_buildable(reference: str, *, images: ImageStore) -> None:
    """Raise NotFound, with the nearest names, for a missing image that vmkit does not know how to build."""
    if reference.partition(":")[0] not in RELEASES:
        images.get(reference)
