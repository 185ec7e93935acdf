"""Spans of time as users type them, and as we say them back."""

import re

from vmkit.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORM = re.compile(r"(\d{1,9})\s*([smhd])", re.ASCII)
_MAX_S = 366 * 86400


def parse_duration(text: str, *, what: str) -> int:
    """Return the seconds of `90s`, `30m`, `2h`, `1d`. Raises UsageError, also past a year."""
    match = _FORM.fullmatch(text.strip())
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= _MAX_S:
        raise UsageError(f'{what} "{text[:40]}" is not a span of time', hint="write 90s, 30m, 2h or 1d; at most 366d")
    return seconds


def show_duration(seconds: float) -> str:
    """Return `45 s`, `29 min`, `2 h`, `3 d`: rounded down, never to nothing."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit or (seconds >= unit and unit == 60):
            return f"{int(seconds // unit)} {name}"
    return f"{max(1, int(seconds))} s"
