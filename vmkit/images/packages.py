"""The list of packages that an image carries, in lines that a guest or a registry wrote.

`packages`: `name version arch`. `sources`: `name source version`, where these are not the package's own; None when
nobody asked.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vmkit.errors import Refused
from vmkit.host.text import printable

MAX_LINES = 20_000

_LINE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.+-]{0,99}) (?P<version>[A-Za-z0-9.+:~-]{1,100}) (?P<arch>[a-z0-9-]{1,20})", re.ASCII
)


_SOURCE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9.+-]{0,99}) (?P<source>[a-z0-9][a-z0-9.+-]{0,99}) (?P<version>[A-Za-z0-9.+:~-]{1,100})",
    re.ASCII,
)


@dataclass(frozen=True, order=True, slots=True)
class Package:
    """An installed package."""

    name: str
    version: str
    arch: str


def parse_installed(lines: Iterable[str]) -> tuple[Package, ...]:
    """Return the packages in lines of the allowed form, by name; other lines are left out."""
    matches = (_LINE.fullmatch(line) for line in lines)
    return tuple(sorted({Package(**match.groupdict()) for match in matches if match}))


def listed_sources(config: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the lines of a config's `sources`, or None for an image without. Raises Refused."""
    said = config.get("sources")
    if said is None:
        return None
    if not isinstance(said, list) or len(said) > MAX_LINES:
        raise Refused("the image config's list of sources is none")
    return tuple(printable(str(line), max_chars=300) for line in said)


def parse_sources(lines: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return source and its version by package; lines of another form are left out."""
    matches = (_SOURCE.fullmatch(line) for line in lines)
    return {match["name"]: (match["source"], match["version"]) for match in matches if match}


def differing_sources(lines: Iterable[str]) -> tuple[str, ...]:
    """Return `name source version` from lines `name version source source-version` where these are not the same."""
    words = (line.split(" ") for line in lines)
    said = (f"{one[0]} {one[2]} {one[3]}" for one in words if len(one) == 4 and (one[0] != one[2] or one[1] != one[3]))
    return tuple(line for line in dict.fromkeys(said) if _SOURCE.fullmatch(line))[:MAX_LINES]
