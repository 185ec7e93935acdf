"""Sizes as users type them, and as we say them back."""

import re

from vmkit.errors import UsageError

_UNITS = {"": 30, "k": 10, "m": 20, "g": 30, "t": 40}
_FORM = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str, *, what: str) -> int:
    """Return the bytes of `4`, `4G`, `4GiB`, `4096M`; a bare number is GiB. Raises UsageError."""
    match = _FORM.fullmatch(text.strip())
    size = int(float(match[1]) * (1 << _UNITS[match[2].lower()])) if match else 0
    if size <= 0:
        raise UsageError(f'{what} "{text[:40]}" is not a size', hint="write 4, 4G, 4GiB or 4096M; a bare number is GiB")
    return size


def show_size(size_bytes: int) -> str:
    """Return `8 GiB`, `512 MiB`, `1.5 GiB` and the like."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size_bytes >= 1 << shift:
            return f"{size_bytes / (1 << shift):.4g} {unit}"
    return f"{size_bytes} B"


def gib(size_bytes: int) -> int | float:
    """Return GiB, as a whole number where it is one."""
    return size_bytes >> 30 if size_bytes % (1 << 30) == 0 else round(size_bytes / 2**30, 3)
