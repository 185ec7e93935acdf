"""A guest program on a terminal of its own, with which vmkit talks, not the user: nothing it prints is shown."""

import select
from typing import Self

from vmkit.errors import TransportFailed
from vmkit.guest.base import Command
from vmkit.guest.connection import Pty, Size
from vmkit.guest.ssh import SshGuest

_SIZE = Size(columns=500, rows=50)  # wide, so that no line is broken
_READ_BYTES = 16 << 10
_CODE_S = 10.0


class Dialogue:
    """Start a program and read what it prints, in pieces. Leaving the context hangs it up."""

    def __init__(self, guest: SshGuest, command: Command) -> None:
        self._channel = guest.connection.start(command.wire(), pty=Pty(term="xterm-256color", size=_SIZE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def read(self, *, timeout_s: float) -> bytes | None:
        """Return what was printed since, nothing when nothing came in time, None when the program has ended."""
        readable, _, _ = select.select([self._channel.fileno()], [], [], max(0.0, timeout_s))
        return (self._channel.recv(_READ_BYTES) or None) if readable else b""

    def press(self, keys: bytes) -> None:
        """Type keys."""
        self._channel.sendall(keys)

    def code(self) -> int:
        """Return the exit code of a program that has ended. Raises TransportFailed when it is not known."""
        self._channel.status_event.wait(_CODE_S)
        if self._channel.exit_status < 0:
            raise TransportFailed("the connection to the guest was lost")
        return self._channel.exit_status
