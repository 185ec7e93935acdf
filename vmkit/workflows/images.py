"""Make sure that an image is there: built where Debian's tools run, fetched from its publisher elsewhere."""

import datetime as dt

from vmkit.host.computer import is_macos, machine_arch
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.images.build import RELEASES, build_image
from vmkit.images.catalog import NAMES, find_cloud_image
from vmkit.images.layout import Image
from vmkit.images.store import ImageStore
from vmkit.workflows.trust import Guard, require_signed, unsigned_source


def ensure_image(reference: str, *, images: ImageStore, runner: Runner, report: Report, guard: Guard | None) -> Image:
    """Return the image `reference`; one that vmkit knows how to come by is built or fetched when it is missing.

    With a `guard` only an image that somebody trusted has signed is returned, and it is the very one that was verified.
    Raises NotFound for any other missing image, HostLacks, Refused and Unreachable as building and fetching do.
    """
    found = images.find(reference)
    if found is not None:
        if guard is not None:
            require_signed(found, guard=guard, now=dt.datetime.now(dt.UTC))
        return images.ready(found, report=report)
    require_obtainable(reference, images=images)
    if guard is not None:
        raise unsigned_source(reference)
    name, _, tag = reference.partition(":")
    if _is_built(name, runner):
        return build_image(name, store=images, runner=runner, report=report, tag=tag)
    from vmkit.images.fetch import fetch_image  # noqa: PLC0415  # only where nothing is built

    image = find_cloud_image(name, arch=machine_arch())
    return fetch_image(image, store=images, runner=runner, report=report, tag=tag)


def how_it_comes(reference: str, *, images: ImageStore, runner: Runner) -> str:
    """Say for people how `ensure_image` would come by the image; nothing when it is there. Raises NotFound."""
    if images.find(reference) is not None:
        return ""
    require_obtainable(reference, images=images)
    name = reference.partition(":")[0]
    if _is_built(name, runner):
        return "will be built"
    return f"will be fetched from {find_cloud_image(name, arch=machine_arch()).host}"


def require_obtainable(reference: str, *, images: ImageStore) -> None:
    """Raise NotFound, with the nearest names, for a missing image that vmkit can neither build nor fetch."""
    if reference.partition(":")[0] not in (*RELEASES, *NAMES):
        images.get(reference)


def _is_built(name: str, runner: Runner) -> bool:
    return name in RELEASES and not is_macos() and runner.find("mmdebstrap") is not None
