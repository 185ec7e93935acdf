"""Read what the proxy logged. The names in it came from a guest: whatever does not fit is dropped, all is bounded."""

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vmkit.errors import Refused
from vmkit.host.files import tail
from vmkit.host.text import printable
from vmkit.network.audit import MAX_BYTES, Kind
from vmkit.network.policy import show_time
from vmkit.network.rules import HTTPS, checked_host

UNWRITTEN = "unwritten"  # what the log says of refusals that came too fast
_MAX_LINE = 4096


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the log, every text printable."""

    time: float  # seconds of the epoch
    kind: str
    host: str
    port: int
    allowed: bool
    reason: str
    rule: str | None
    bytes_up: int
    bytes_down: int
    seconds: float

    @property
    def target(self) -> str:
        """Host, and port where it is not 443; a request that could not be read has none."""
        if not self.host:
            return "-"
        return self.host if self.port == HTTPS else f"{self.host}:{self.port}"

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return asdict(self) | {"time": show_time(self.time)}

    def line(self) -> str:
        """Return what `vmkit net log` prints."""
        carried = f"{self.bytes_up} B up, {self.bytes_down} B down, {self.seconds:g} s" if self.kind == "closed" else ""
        why = "; ".join(part for part in (carried, self.reason) if part)
        return printable(f"{show_time(self.time)}  {self.kind:<9}  {self.target}  {why}".rstrip())


def parse_entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the lines that are entries."""
    for line in lines:
        entry = _entry(line) if len(line) <= _MAX_LINE else None
        if entry:
            yield entry


def read_entries(path: Path, *, since: float | None = None) -> list[Entry]:
    """Return what the log and the one before it hold, oldest first; nothing when there is none yet."""
    content = tail(path.with_name(path.name + ".1"), max_bytes=MAX_BYTES) + tail(path, max_bytes=MAX_BYTES)
    return [entry for entry in parse_entries(content.split(b"\n")) if since is None or entry.time >= since]


def last_refusal(entries: Iterable[Entry], host: str, port: int) -> Entry | None:
    """Return the newest refusal of this host and port."""
    found = [entry for entry in entries if entry.kind == Kind.REFUSED and (entry.host, entry.port) == (host, port)]
    return found[-1] if found else None


def refused_names(entries: Iterable[Entry]) -> dict[tuple[str, int], int]:
    """Return how often each host and port was refused; only what can be allowed at all is counted."""
    counts: dict[tuple[str, int], int] = {}
    for entry in entries:
        if entry.kind != Kind.REFUSED or not 1 <= entry.port <= 65535:
            continue
        try:
            name = (checked_host(entry.host.encode()), entry.port)
        except Refused:
            continue
        counts[name] = counts.get(name, 0) + 1
    return counts


def _entry(line: bytes) -> Entry | None:
    try:
        data: Any = json.loads(line)
        if isinstance(data, dict) and data.get("kind") == UNWRITTEN:
            more = f"{_number(data['refused'])} more refusals within a second were not written"
            data = {**data, "host": "", "port": 0, "allowed": False, "reason": more}
        elif not isinstance(data, dict) or data.get("kind") not in list(Kind):
            return None
        return Entry(
            time=dt.datetime.fromisoformat(data["time"]).astimezone(dt.UTC).timestamp(),
            kind=data["kind"],
            host=printable(str(data["host"]), max_chars=253),
            port=_number(data["port"]),
            allowed=data["allowed"] is True,
            reason=printable(str(data.get("reason", "")), max_chars=1000),
            rule=None if data.get("rule") is None else printable(str(data["rule"]), max_chars=255),
            bytes_up=_number(data.get("bytes_up", 0)),
            bytes_down=_number(data.get("bytes_down", 0)),
            seconds=float(data.get("seconds", 0.0)),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError
    return value
