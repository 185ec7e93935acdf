"""Lend a connection to a guest to other processes of this user: each program they start runs in a channel of it."""

import contextlib
import os
import threading
from collections.abc import Callable

from vmkit.errors import Refused, VmkitError
from vmkit.guest.connection import WINDOW_BYTES, Channel, Connection, Pty, Size
from vmkit.host.messages import Messages, error_message

_READ_BYTES = 256 << 10
_MAX_SIDE = 9999


def lend(connection: Connection, request: dict[str, object], messages: Messages) -> None:
    """Run one program for the client at the other end of `messages`, whose three descriptors came with `request`.

    Returns when the client has hung up. Raises OSError and EOFError when it is gone at once.
    """
    descriptors = messages.take_descriptors()
    try:
        if len(descriptors) != 3:
            raise Refused("a program takes three descriptors")
        channel = connection.start(_text(request.get("wire")), pty=_pty(request.get("pty")))
    except VmkitError as error:
        _close(descriptors)
        messages.send(error_message(error))
        return
    _Lent(connection, channel, messages, descriptors).serve()


class _Lent:
    """One program, its client, and the threads between them."""

    def __init__(self, connection: Connection, channel: Channel, messages: Messages, descriptors: list[int]) -> None:
        self._connection, self._channel, self._messages = connection, channel, messages
        self._stdin, self._stdout, self._stderr = descriptors

    def serve(self) -> None:
        try:
            self._messages.send({"ok": True})
            self._begin(self._feed)
            self._begin(lambda: self._drain(self._channel.recv, self._stdout))
            self._begin(lambda: self._drain(self._channel.recv_stderr, self._stderr))
            self._begin(self._tell_exit)
            self._obey()
        finally:
            self._channel.close()

    def _begin(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, daemon=True).start()

    def _obey(self) -> None:
        """Follow the client until it hangs up."""
        with contextlib.suppress(OSError, EOFError, ValueError):
            while True:
                if size := _size(self._messages.receive().get("resize")):
                    self._connection.resize(self._channel, size)

    def _feed(self) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                while block := os.read(self._stdin, _READ_BYTES):
                    self._channel.sendall(block)
            with contextlib.suppress(OSError, EOFError):
                self._channel.shutdown_write()
        finally:
            os.close(self._stdin)

    def _drain(self, read: Callable[[int], bytes], descriptor: int) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                while block := read(_READ_BYTES):
                    left = memoryview(block)
                    while left:
                        left = left[os.write(descriptor, left) :]
                    if self._connection.buffered_bytes(self._channel) > 2 * WINDOW_BYTES:
                        self._connection.close()  # the guest's sshd ignores the window it was given
        finally:
            os.close(descriptor)

    def _tell_exit(self) -> None:
        self._channel.status_event.wait()
        code = self._channel.exit_status
        with contextlib.suppress(OSError):
            self._messages.send({"exit": code, "lost": code < 0 and not self._connection.is_alive()})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _pty(value: object) -> Pty | None:
    if not isinstance(value, dict):
        return None
    size = _size(value.get("size")) or Size(columns=80, rows=24)
    return Pty(term=str(value.get("term")), size=size, language=_text(value.get("language")))


def _size(value: object) -> Size | None:
    if (
        isinstance(value, list)
        and len(value) == 2
        and all(type(side) is int and 0 < side <= _MAX_SIDE for side in value)
    ):
        return Size(columns=value[0], rows=value[1])
    return None


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
