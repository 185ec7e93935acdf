"""Which tags may be moved. All others mean the same image for good."""

from vmkit.errors import UsageError, WrongState
from vmkit.images.layout import parse_reference
from vmkit.images.store import ImageStore

CHANNELS = frozenset({"latest", "stable", "beta", "edge", "dev", "nightly"})


def is_channel(name: str) -> bool:
    """Tell whether the tag of `name:tag` may be moved."""
    return name.partition(":")[2] in CHANNELS


def require_free_tag(reference: str, *, images: ImageStore) -> str:
    """Return `NAME:TAG`. Raises UsageError without a tag, WrongState when the tag is taken and is not moved."""
    name = parse_reference(reference)
    if ":" not in reference:
        raise UsageError("an image is saved under a name and a tag", hint=f"write {name}, or another tag")
    if not is_channel(name) and images.find(name):
        raise WrongState(
            f'the image "{name}" exists, and its tag is not moved',
            hint=f"choose another tag; these may be moved: {', '.join(sorted(CHANNELS))}",
        )
    return name
