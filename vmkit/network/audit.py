"""The log of a machine's network: one JSON line for each decision and for each connection's end; bounded."""

import datetime as dt
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

MAX_BYTES = 8 << 20  # then its content becomes that of NAME.1, whose own is gone
REFUSALS_PER_S = 50  # more in one second are counted, not written: a guest must not wash the log out

_BLOCK_BYTES = 1 << 20


class Kind(StrEnum):
    """What happened."""

    REFUSED = "refused"
    OPENED = "opened"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line. `host` is printable whatever was asked for; a CLOSED connection says how it ended in `reason`."""

    kind: Kind
    host: str
    port: int
    reason: str = ""
    rule: str | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0


class AuditLog:
    """Appends events to a file that only its owner reads. Raises OSError when it cannot: the caller then denies."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.time) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._second = 0
        self._refusals = 0
        self._descriptor = _opened(path, os.O_RDWR | os.O_APPEND)
        self._older = _opened(path.with_name(path.name + ".1"), os.O_WRONLY)
        self._size = os.fstat(self._descriptor).st_size

    def __call__(self, event: Event) -> None:
        """Write one event at once: a line survives the death of this process."""
        now = self._clock()
        if int(now) != self._second:
            unwritten, self._refusals, self._second = self._refusals - REFUSALS_PER_S, 0, int(now)
            if unwritten > 0:
                self._write({"time": _stamp(now), "kind": "unwritten", "refused": unwritten})
        if event.kind is Kind.REFUSED:
            self._refusals += 1
            if self._refusals > REFUSALS_PER_S:
                return
        self._write({"time": _stamp(now), "allowed": event.kind is not Kind.REFUSED, **asdict(event)})

    def close(self) -> None:
        """Close the files."""
        os.close(self._descriptor)
        os.close(self._older)

    def _write(self, entry: dict[str, object]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        if self._size and self._size + len(line) > self._max_bytes:
            self._begin_anew()
        self._size += os.write(self._descriptor, line)

    def _begin_anew(self) -> None:
        """Move the content to the older file, opening nothing: a process that has given up root could not."""
        os.ftruncate(self._older, 0)
        moved = 0
        while block := os.pread(self._descriptor, _BLOCK_BYTES, moved):
            moved += os.pwrite(self._older, block, moved)
        os.ftruncate(self._descriptor, 0)
        self._size = 0


def _opened(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _stamp(now: float) -> str:
    return dt.datetime.fromtimestamp(now, dt.UTC).isoformat(timespec="milliseconds")
