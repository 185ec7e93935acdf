"""What the guest package asks of an SSH library, so that only `transport` knows which one it is."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from vmkit.errors import TransportFailed

WINDOW_BYTES = 2 << 20  # what a guest may send ahead of its reader
ASK_EVERY_S = 10.0
ANSWER_WITHIN_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """A terminal's size in characters."""

    columns: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Pty:
    """The terminal a guest program is to have."""

    term: str
    size: Size
    language: str | None = None  # LANG


class Channel(Protocol):
    """One program in the guest. `recv` and `recv_stderr` block, and return nothing at the end."""

    exit_status: int  # -1 until known; 128+n after signal n
    status_event: threading.Event  # set when the exit status is known, or the channel closed

    def recv(self, nbytes: int) -> bytes:
        """Read its output."""

    def recv_stderr(self, nbytes: int) -> bytes:
        """Read its errors."""

    def recv_ready(self) -> bool:
        """Tell whether output can be read at once."""

    def sendall(self, s: bytes) -> None:
        """Write to its input. Raises OSError when it is gone."""

    def send(self, s: bytes) -> int:
        """Write what fits, and return how much that was."""

    def send_ready(self) -> bool:
        """Tell whether something fits."""

    def shutdown_write(self) -> None:
        """End its input."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is output, or the end."""

    def close(self) -> None:
        """Let go of it."""


class Connection(Protocol):
    """An authenticated connection to a guest's sshd. Errors: TransportFailed."""

    def start(self, wire: str | None, *, pty: Pty | None = None) -> Channel:
        """Start a line for the guest's shell, or (None) the login shell itself."""

    def resize(self, channel: Channel, size: Size) -> None:
        """Tell a program's terminal its new size; nothing when the program has ended."""

    def buffered_bytes(self, channel: Channel) -> int:
        """Return how much a channel holds that nobody has read."""

    def is_alive(self) -> bool:
        """Tell whether the connection still stands, as far as is known."""

    def ask_alive(self) -> None:
        """Ask the guest's sshd for any answer; return when it came or the connection ended."""

    def close(self) -> None:
        """End it."""


class Listening(Connection, Protocol):
    """A connection through which the guest's own programs can reach us."""

    def accept(self, port: int, admit: Callable[[Channel], None]) -> None:
        """Have the guest's sshd listen on its loopback `port`; each connection there is a channel that never blocks."""

    def refuse(self, port: int) -> None:
        """End what `accept` began; the channels that there are stay."""


class Liveness:
    """Notice, during a long session, that a guest has stopped answering: TCP alone would wait for hours."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ended = threading.Event()
        self._asked_at: float | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._ask, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def check(self) -> None:
        """Raise TransportFailed, after ending the connection, when the guest is overdue."""
        asked_at = self._asked_at
        if asked_at is not None and time.monotonic() - asked_at > ANSWER_WITHIN_S:
            self._connection.close()
            raise TransportFailed("the guest stopped answering", detail=f"no answer for {ANSWER_WITHIN_S:g} s")

    def _ask(self) -> None:
        while not self._ended.wait(ASK_EVERY_S) and self._connection.is_alive():
            self._asked_at = time.monotonic()
            self._connection.ask_alive()
            self._asked_at = None
