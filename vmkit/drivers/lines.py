"""Exchange JSON, a value a line, over a Unix socket whose other end is not trusted: waits and lines are bounded."""

import json
import socket
from pathlib import Path
from typing import Any, Self

from vmkit.errors import VmkitError
from vmkit.host.computer import peer_pid
from vmkit.host.wait import Deadline


class Silent(VmkitError):  # noqa: N818  # as in vmkit.errors
    """Nobody answers on a socket: its owner is busy, suspended or gone. `missing`: there is no such socket."""

    kind = "silent"

    def __init__(self, message: str, *, detail: str | None = None, missing: bool = False) -> None:
        super().__init__(message, detail=detail)
        self.missing = missing


class JsonLines:
    """One connection. All its calls together end by `deadline`."""

    def __init__(self, path: Path, *, deadline: Deadline, max_line: int = 1 << 20) -> None:
        self.deadline = deadline
        self._name, self._max_line, self._buffer = path.name, max_line, bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(max(0.01, deadline.left_s))
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            gone = isinstance(error, FileNotFoundError | ConnectionRefusedError)
            raise Silent(f'"{path.name}" does not answer', detail=str(error), missing=gone) from error

    @property
    def peer_pid(self) -> int:
        """The process that listens, even when it is suspended and will never accept."""
        return peer_pid(self._socket)

    def send(self, value: dict[str, Any], *, prefix: bytes = b"") -> None:
        """Send one value. Raises Silent."""
        self._wait()
        try:
            self._socket.sendall(prefix + json.dumps(value).encode() + b"\n")
        except OSError as error:
            raise self._silent(str(error)) from error

    def receive(self, *, after: bytes = b"") -> dict[str, Any]:
        """Return the next object; what comes before the byte `after` is dropped first.

        Raises Silent when none comes in time, the line is too long, or is no JSON object.
        """
        if after:
            self._line(after)
        try:
            value = json.loads(self._line(b"\n"))
        except (ValueError, RecursionError) as error:
            raise self._silent("what it said is not JSON") from error
        if not isinstance(value, dict):
            raise self._silent("what it said is not a JSON object")
        return value

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > self._max_line:
                raise self._silent(f"it said more than {self._max_line} bytes in one line")
            self._wait()
            try:
                block = self._socket.recv(1 << 16)
            except OSError as error:
                raise self._silent(str(error)) from error
            if not block:
                raise self._silent("it hung up")
            self._buffer += block
        line = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return line

    def _wait(self) -> None:
        left = self.deadline.left_s
        if left == 0.0:
            raise self._silent("no answer in time")
        self._socket.settimeout(left)

    def _silent(self, detail: str) -> Silent:
        return Silent(f'"{self._name}" does not answer', detail=detail)
