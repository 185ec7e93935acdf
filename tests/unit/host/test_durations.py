import datetime as dt

import pytest

from vmkit.errors import UsageError
from vmkit.host.durations import parse_duration, parse_moment, show_age, show_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400), (" 5 m ", 300), ("366d", 366 * 86400)],
)
def test_a_span_of_time_is_read(text: str, seconds: int) -> None:
    assert parse_duration(text, what="--for") == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "0m", "-1h", "1.5h", "1w", "30M", "h", "367d", "99999999999s", "1h30m", "٣m"]
)
def test_what_is_none_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match="span of time") as refused:
        parse_duration(text, what="--for")

    assert "30m" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "1 s"), (59, "59 s"), (60, "1 min"), (1799.9, "29 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_a_span_is_said_rounded_down_and_never_as_nothing(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "just now"), (59, "just now"), (60, "1 minute"), (7199, "1 hour"), (7200, "2 hours"), (86400, "1 day"),
        (12.9 * 86400, "12 days"),
    ],
)  # fmt: skip
def test_an_age_is_said_in_words(seconds: float, shown: str) -> None:
    assert show_age(seconds) == shown


NOW = dt.datetime(2026, 11, 22, 10, 0, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30d", dt.datetime(2026, 12, 22, 10, 0, 0, tzinfo=dt.UTC)),
        ("2027-01-31", dt.datetime(2027, 1, 31, 23, 59, 59, tzinfo=dt.UTC)),
        ("2026-11-22", dt.datetime(2026, 11, 22, 23, 59, 59, tzinfo=dt.UTC)),
        ("2027-01-31T12:00:00Z", dt.datetime(2027, 1, 31, 12, 0, 0, tzinfo=dt.UTC)),
    ],
)
def test_a_moment_is_read(text: str, moment: dt.datetime) -> None:
    assert parse_moment(text, what="--expires", now=NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "never", "2026-11-21", "2026-11-22T10:00:00Z", "2027-02-30", "2027-01-31T12:00:00", "0d", "400d", "Z"]
)
def test_what_is_no_moment_to_come_is_usage(text: str) -> None:
    with pytest.raises(UsageError, match="not a time to come"):
        parse_moment(text, what="--expires", now=NOW)
