"""Which tags may be moved. All others mean the same image for good."""

CHANNELS = frozenset({"latest", "stable", "beta", "edge", "dev", "nightly"})


def is_channel(name: str) -> bool:
    """Tell whether the tag of `name:tag` may be moved."""
    return name.partition(":")[2] in CHANNELS
