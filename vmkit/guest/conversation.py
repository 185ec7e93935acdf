"""One program in the guest: both output streams drained at once, input fed, its end awaited, its group signalled.

The line sent to the guest's shell first says the shell's process id and then becomes the program. sshd makes it the
leader of a process group, so a signal can reach the program and its children over a second channel. (SSH's own
"signal" request does not do: OpenSSH refuses it for root, and it cannot reach a program that runs under sudo.)
"""

import contextlib
import queue
import secrets
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Self

from vmkit.errors import Refused, TransportFailed
from vmkit.guest.base import Command
from vmkit.guest.connection import WINDOW_BYTES, Channel, Connection, Liveness
from vmkit.host.wait import Deadline

# paramiko's buffers move all that is left after each read: small reads make a full window quadratic
READ_BYTES = 1 << 20

_MAX_PREAMBLE_BYTES = 64 << 10  # what a login script may say before our line
_KILL_S = 5.0
_KILL = """
group() { kill -s "$1" -- "-$2" || kill -s "$1" "$2"; }
group "$1" "$2" 2>/dev/null || sudo -n sh -c 'kill -s "$1" -- "-$2"' sh "$1" "$2" 2>/dev/null
"""

Reader = Callable[[], bytes]  # blocks; b"" is the end
Sender = Callable[[bytes], None]
Produce = Callable[[Sender], None]
Consume = Callable[[Reader], None]


class Wake(Enum):
    """What else than an exception the threads have to tell."""

    ENDED = auto()
    UP = auto()


class Conversation:
    """A running guest program. Each of `produce`, `out` and `err` is called once, on a thread of its own.

    What they raise is raised by `ended_within`.
    """

    def __init__(
        self, connection: Connection, command: Command | None, *, produce: Produce, out: Consume, err: Consume
    ) -> None:
        self._connection = connection
        self._mark = f"vmkit-{secrets.token_hex(8)} ".encode()
        self._preamble: bytearray | None = bytearray() if command is not None else None
        self._news: queue.SimpleQueue[BaseException | Wake] = queue.SimpleQueue()
        self._pid: int | None = None
        self._announced = threading.Event()
        wire = None if command is None else f"echo {self._mark.decode()}$$; exec {command.wire()}"
        self._channel: Channel = connection.start(wire)
        self._running = 2
        self._begin(lambda: self._feed(produce))
        self._begin(lambda: self._drain(out, self._read_out))
        self._begin(lambda: self._drain(err, lambda: self._channel.recv_stderr(READ_BYTES)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def ended_within(self, seconds: float) -> bool:
        """Wait for the end of the program and its streams; also return when `wake` is called."""
        deadline = Deadline(seconds)
        while self._running:
            try:
                news = self._news.get(timeout=deadline.left_s)
            except queue.Empty:
                return False
            if isinstance(news, BaseException):
                raise news
            if news is Wake.UP:
                return False
            self._running -= 1
        return True

    def wake(self) -> None:
        """Make `ended_within` return; a signal handler may call this, SimpleQueue.put is reentrant."""
        self._news.put(Wake.UP)

    def check(self, liveness: Liveness) -> None:
        """Raise TransportFailed when the guest stopped answering, Refused when it sends more than was asked for."""
        liveness.check()
        if self._connection.buffered_bytes(self._channel) > 2 * WINDOW_BYTES:
            self._connection.close()
            raise Refused("the guest's sshd ignores the window it was given")

    @property
    def code(self) -> int:
        """The exit code, 128+n after signal n. Raises TransportFailed when the guest never said it."""
        code = self._channel.exit_status
        if code < 0:
            lost = not self._connection.is_alive()
            raise TransportFailed(
                "the connection to the guest was lost" if lost else "the guest's sshd gave no exit code"
            )
        return code

    def await_pid(self, seconds: float) -> None:
        """Wait until the program can be killed."""
        self._announced.wait(seconds)

    def kill(self, name: str) -> None:
        """Send a signal ("INT", "KILL") to the program's process group; best effort."""
        if self._pid is None or not self._connection.is_alive():
            return
        with contextlib.suppress(TransportFailed):
            helper = self._connection.start(Command("sh", "-c", _KILL, "sh", name, str(self._pid)).wire())
            helper.status_event.wait(_KILL_S)
            helper.close()

    def _begin(self, work: Callable[[], None]) -> None:
        threading.Thread(target=self._reporting, args=(work,), daemon=True).start()

    def _reporting(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
            self._news.put(error)

    def _feed(self, produce: Produce) -> None:
        with contextlib.suppress(_InputClosedError):
            produce(self._send)
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def _send(self, block: bytes) -> None:
        try:
            self._channel.sendall(block)
        except OSError:
            raise _InputClosedError from None

    def _drain(self, consume: Consume, read: Reader) -> None:
        consume(read)
        while read():  # what the consumer left, lest the program block
            pass
        self._channel.status_event.wait()
        self._news.put(Wake.ENDED)

    def _read_out(self) -> bytes:
        while True:
            block = self._channel.recv(READ_BYTES)
            if self._preamble is None:
                return block
            self._preamble += block
            rest = self._without_announcement(self._preamble, ended=not block)
            if rest is not None:
                self._preamble = None
                self._announced.set()
                if rest or not block:
                    return rest

    def _without_announcement(self, seen: bytearray, *, ended: bool) -> bytes | None:
        before, mark, after = seen.partition(self._mark)
        number, newline, rest = after.partition(b"\n")
        if mark and newline:
            if number.isdigit() and len(number) < 12:
                self._pid = int(number)
            return bytes(before + rest)
        return bytes(seen) if ended or len(seen) > _MAX_PREAMBLE_BYTES else None


class _InputClosedError(Exception):
    """The program has closed its input, or ended."""
