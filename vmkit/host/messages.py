"""JSON messages between processes of one user over a unix socket, with open descriptors beside them."""

import array
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vmkit.errors import VmkitError

MAX_BYTES = 4 << 20  # a command line may be long; no longer than Linux lets one be

_READ_BYTES = 64 << 10
_MAX_DESCRIPTORS = 8


@dataclass(kw_only=True)
class Messages:
    """One end of a conversation. Raises OSError and EOFError when the other end is gone, ValueError on nonsense."""

    connected: socket.socket
    descriptors: list[int] = field(default_factory=list)  # that came and nobody has taken
    _pending: bytearray = field(default_factory=bytearray)

    def send(self, message: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        """Send one message; the descriptors arrive with it and stay open here."""
        line = json.dumps(message).encode() + b"\n"
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        sent = self.connected.sendmsg([line], ancillary)
        if sent < len(line):  # even nothing cannot be sent to one who has read all and hung up
            self.connected.sendall(line[sent:])

    def receive(self) -> dict[str, object]:
        """Wait for one message."""
        while b"\n" not in self._pending:
            if len(self._pending) > MAX_BYTES:
                raise ValueError("a message is too long")
            block, came, _, _ = socket.recv_fds(self.connected, _READ_BYTES, _MAX_DESCRIPTORS)
            self.descriptors += came
            for descriptor in came:
                os.set_inheritable(descriptor, False)  # noqa: FBT003  # the standard library's
            if not block:
                raise EOFError
            self._pending += block
        line, _, rest = self._pending.partition(b"\n")
        self._pending = bytearray(rest)
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("a message is no object")  # noqa: TRY004  # what came is wrong, not the caller
        return message

    def take_descriptors(self) -> list[int]:
        """Return the descriptors that came; the caller closes them."""
        taken, self.descriptors = self.descriptors, []
        return taken

    def close(self) -> None:
        """Hang up."""
        for descriptor in self.take_descriptors():
            os.close(descriptor)
        self.connected.close()


def dial_local(path: os.PathLike[str], *, timeout_s: float | None = None) -> Messages:
    """Connect to a local server. Raises OSError when nobody listens."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(timeout_s)
        connected.connect(os.fspath(path))
        connected.settimeout(None)
    except BaseException:
        connected.close()
        raise
    return Messages(connected=connected)


def error_message(error: VmkitError) -> dict[str, object]:
    """Return an error as a message; its kinds are the names of its class and of those above, the nearest first."""
    kinds = [one.__name__ for one in type(error).__mro__ if issubclass(one, VmkitError)]
    return {"error": {"kinds": kinds, "message": error.message, "detail": error.detail, "hint": error.hint}}


def raise_error(message: Mapping[str, object]) -> None:
    """Raise the error that a message carries, if it does, as the nearest class that this process has loaded."""
    content = message.get("error")
    if not isinstance(content, dict):
        return
    known, kinds = _classes(VmkitError), content.get("kinds")
    found = (
        next((known[kind] for kind in kinds if kind in known), VmkitError) if isinstance(kinds, list) else VmkitError
    )
    error = VmkitError.__new__(found)
    VmkitError.__init__(
        error,
        str(content.get("message")),
        detail=_text(content.get("detail")),
        hint=_text(content.get("hint")),
    )
    raise error


def _classes(base: type[VmkitError]) -> dict[str, type[VmkitError]]:
    found = {base.__name__: base}
    for below in base.__subclasses__():
        found |= _classes(below)
    return found


def _text(value: object) -> str | None:
    return None if value is None else str(value)
