"""Spans of time as users type them, and as we say them back."""

import datetime as dt
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


def parse_moment(text: str, *, what: str, now: dt.datetime) -> dt.datetime:
    """Return when `30d`, `2027-01-31` (the end of that day) or `2027-01-31T12:00:00Z` is, in UTC.

    Raises UsageError for anything else, and for what is past.
    """
    try:
        if len(text) == 10:
            moment = dt.datetime.strptime(text, "%Y-%m-%d").replace(hour=23, minute=59, second=59, tzinfo=dt.UTC)
        elif text.endswith("Z"):
            moment = dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)
        else:
            moment = now + dt.timedelta(seconds=parse_duration(text, what=what))
    except (ValueError, OverflowError, UsageError):
        moment = dt.datetime.min.replace(tzinfo=dt.UTC)
    if moment <= now:
        raise UsageError(
            f'{what} "{text[:40]}" is not a time to come',
            hint="write 12h, 30d (at most 366d), 2027-01-31 or 2027-01-31T12:00:00Z",
        )
    return moment


def show_duration(seconds: float) -> str:
    """Return `45 s`, `29 min`, `2 h`, `3 d`: rounded down, never to nothing."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit or (seconds >= unit and unit == 60):
            return f"{int(seconds // unit)} {name}"
    return f"{max(1, int(seconds))} s"


def show_age(seconds: float) -> str:
    """Return `12 days`, `1 hour` and the like: rounded down; `just now` under a minute and for what is to come."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = int(seconds // unit)
        if count >= 1:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "just now"
