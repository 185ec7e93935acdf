"""What is signed of an image: an in-toto statement that names its manifest, its line, its number in it, its end.

A line is all images of one name: `kiro` is the line of `kiro:1.4.0` and `kiro:stable`.
"""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

from vmkit.errors import Refused, UsageError
from vmkit.host.text import printable
from vmkit.images.layout import canonical_json, parse_object, parse_reference
from vmkit.images.signing.referrer import MAX_STATEMENT_BYTES

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://vmkit.dev/image-release/v1"
MAX_SEQUENCE = (1 << 53) - 1  # what every JSON reader keeps

_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """One image's release. Of two images of a line the one with the larger `sequence` is newer."""

    name: str
    digest: str
    sequence: int
    created: dt.datetime
    expires: dt.datetime

    @property
    def line(self) -> str:
        """The name without the tag."""
        return line_of(self.name)


def line_of(name: str) -> str:
    """Return the line that an image of that name is of."""
    return name.partition(":")[0]


def show_time(time: dt.datetime) -> str:
    """Return the time in UTC, as statements say it."""
    return time.astimezone(dt.UTC).strftime(_TIME)


def render_statement(statement: Statement) -> bytes:
    """Return the bytes to sign."""
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": statement.name, "digest": {"sha256": statement.digest.removeprefix("sha256:")}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "line": statement.line,
                "sequence": statement.sequence,
                "created": show_time(statement.created),
                "expires": show_time(statement.expires),
            },
        }
    )


def parse_statement(content: bytes) -> Statement:
    """Read a statement: exactly the bytes that `render_statement` would have written. Raises Refused.

    That leaves no second reading: no key twice, no other key, no other spelling of a number.
    """
    if len(content) > MAX_STATEMENT_BYTES:
        raise Refused("the signed statement is too long")
    value = parse_object(content, what="the signed statement")
    try:
        statement = _read(value)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, UsageError) as error:
        raise Refused("the signed statement is incomplete", detail=printable(repr(error), max_chars=120)) from error
    if render_statement(statement) != content:
        raise Refused("the signed statement is not one that vmkit writes", hint="update vmkit")
    return statement


def _read(value: dict[str, Any]) -> Statement:
    subject, predicate = value["subject"][0], value["predicate"]
    digest, sequence = subject["digest"]["sha256"], predicate["sequence"]
    if not _HEX.fullmatch(digest) or type(sequence) is not int or not 0 <= sequence <= MAX_SEQUENCE:
        raise ValueError("digest or sequence")
    name = str(subject["name"])
    if ":" not in name or parse_reference(name) != name:
        raise ValueError("name")
    return Statement(
        name=name,
        digest=f"sha256:{digest}",
        sequence=sequence,
        created=_time(predicate["created"]),
        expires=_time(predicate["expires"]),
    )


def _time(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, _TIME).replace(tzinfo=dt.UTC)
