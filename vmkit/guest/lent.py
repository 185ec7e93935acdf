"""A connection to a guest that another process holds and lends: a program in the guest for a round trip, no handshake.

Each program is a conversation of its own with the keeper. Its three streams are pipes, which the keeper fills and
empties; its size, its end and its exit code are messages. Nothing here needs the SSH library.
"""

import contextlib
import os
import select
import threading
from pathlib import Path

from vmkit.errors import TransportFailed
from vmkit.guest.connection import Channel, Pty, Size
from vmkit.host.messages import Messages, dial_local, raise_error
from vmkit.host.text import printable

_STARTED_WITHIN_S = 60.0  # the keeper gives the guest half of it


class LentChannel:
    """A Channel over three pipes and a conversation."""

    def __init__(self, messages: Messages, *, stdin: int, stdout: int, stderr: int) -> None:
        self.exit_status = -1
        self.status_event = threading.Event()
        self.lost = False
        self._messages = messages
        self._stdin: int | None = stdin
        self._stdout, self._stderr = stdout, stderr
        self._closed = False
        threading.Thread(target=self._await_exit, daemon=True).start()

    def recv(self, nbytes: int) -> bytes:
        """Read its output."""
        return self._read(self._stdout, nbytes)

    def recv_stderr(self, nbytes: int) -> bytes:
        """Read its errors."""
        return self._read(self._stderr, nbytes)

    def recv_ready(self) -> bool:
        """Tell whether output can be read at once."""
        return bool(select.select([self._stdout], [], [], 0)[0])

    def sendall(self, s: bytes) -> None:
        """Write to its input. Raises OSError when it is gone."""
        left = memoryview(s)
        while left:
            left = left[self.send(left) :]

    def send(self, s: bytes | memoryview) -> int:
        """Write what fits, and return how much that was."""
        if self._stdin is None:
            raise BrokenPipeError
        return os.write(self._stdin, s)

    def send_ready(self) -> bool:
        """Tell whether something fits."""
        return self._stdin is not None and bool(select.select([], [self._stdin], [], 0)[1])

    def shutdown_write(self) -> None:
        """End its input."""
        if self._stdin is not None:
            descriptor, self._stdin = self._stdin, None
            os.close(descriptor)

    def resize(self, size: Size) -> None:
        """Tell its terminal the new size."""
        with contextlib.suppress(OSError):
            self._messages.send({"resize": [size.columns, size.rows]})

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is output, or the end."""
        return self._stdout

    def close(self) -> None:
        """Let go of it: the keeper closes it in the guest. What still reads here sees the end."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):
                self._messages.connected.shutdown(2)

    def __del__(self) -> None:
        """Close the pipes only when no thread can read them any more, lest their numbers be another's by then."""
        self.close()
        self.shutdown_write()
        os.close(self._stdout)
        os.close(self._stderr)
        self._messages.close()

    def _read(self, descriptor: int, nbytes: int) -> bytes:
        try:
            return os.read(descriptor, nbytes)
        except OSError:
            return b""

    def _await_exit(self) -> None:
        try:
            message = self._messages.receive()
            code = message.get("exit")
            self.exit_status = code if isinstance(code, int) else -1
            self.lost = bool(message.get("lost"))
        except (OSError, EOFError, ValueError):
            self.lost = not self._closed
        finally:
            self.status_event.set()


class LentConnection:
    """A Connection that borrows another process's. Raises TransportFailed where that process is gone."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._channels: list[LentChannel] = []

    def start(self, wire: str | None, *, pty: Pty | None = None) -> Channel:
        """Start a line for the guest's shell, or (None) the login shell itself."""
        ours, theirs = _pipes()
        try:
            messages = self._ask(wire, pty, theirs)
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        channel = LentChannel(messages, stdin=ours[0], stdout=ours[1], stderr=ours[2])
        self._channels.append(channel)
        return channel

    def resize(self, channel: Channel, size: Size) -> None:
        """Tell a program's terminal its new size; nothing when the program has ended."""
        if isinstance(channel, LentChannel):
            channel.resize(size)

    def buffered_bytes(self, channel: Channel) -> int:  # noqa: ARG002  # the keeper bounds it
        """Return 0: what nobody has read is in the keeper, and bounded there."""
        return 0

    def is_alive(self) -> bool:
        """Tell whether the connection still stands, as far as is known."""
        return not any(channel.lost for channel in self._channels)

    def ask_alive(self) -> None:
        """Return at once: the keeper asks the guest, and ends what is lost."""

    def close(self) -> None:
        """Close what was started here; the keeper keeps the connection."""
        for channel in self._channels:
            channel.close()

    def _ask(self, wire: str | None, pty: Pty | None, descriptors: tuple[int, int, int]) -> Messages:
        shown = pty and {"term": pty.term, "size": [pty.size.columns, pty.size.rows], "language": pty.language}
        try:
            messages = dial_local(self._path)
        except OSError as error:
            raise TransportFailed("the machine's keeper is gone", detail=printable(str(error))) from error
        try:
            messages.send({"op": "start", "wire": wire, "pty": shown}, descriptors)
            messages.connected.settimeout(_STARTED_WITHIN_S)
            raise_error(messages.receive())
            messages.connected.settimeout(None)
        except (OSError, EOFError, ValueError) as error:
            messages.close()
            raise TransportFailed("the machine's keeper is gone", detail=printable(str(error))) from error
        except BaseException:
            messages.close()
            raise
        return messages


def _pipes() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return our ends and the keeper's of standard input, output and error."""
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    return (stdin[1], stdout[0], stderr[0]), (stdin[0], stdout[1], stderr[1])
