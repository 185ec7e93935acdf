"""The Guest behind a connection: commands run to their end, small files put and fetched whole."""

import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from vmkit.drivers.base import Address
from vmkit.errors import NotFound, Refused, TimedOut
from vmkit.guest.base import Command, CommandFailed, Outcome
from vmkit.guest.connection import Connection, Liveness
from vmkit.guest.conversation import Conversation, Produce, Reader, Sender
from vmkit.guest.dial import dial
from vmkit.host.text import MAX_LINE_CHARS, printable
from vmkit.host.wait import Deadline

_BLOCK_BYTES = 128 << 10
_TICK_S = 1.0
_MISSING, _NOT_A_FILE, _SHORT = 44, 45, 46

# The size says whether all has come: to `cat`, a lost connection looks like the end of the file.
_PUT = f"""
set -eC; umask 077; part="$1.$4"
trap 'rm -f -- "$part"' EXIT
cat >"$part"
[ "$(wc -c <"$part")" -eq "$3" ] || exit {_SHORT}
chmod "$2" "$part"
if [ -d "$1" ]; then echo "$1 is a directory" >&2; exit 1; fi
mv -f -- "$part" "$1"
"""
_GET = f"""
[ -e "$1" ] || exit {_MISSING}
[ -f "$1" ] || exit {_NOT_A_FILE}
exec head -c "$2" -- "$1"
"""


def connect(address: Address, *, user: str, key: Path, host_key: str, timeout_s: float = 30.0) -> "SshGuest":
    """Log in to a running guest, whose sshd must show `host_key` (a public line) before anything is sent.

    Raises Refused (another host key), TransportFailed.
    """
    return SshGuest(dial(address, user=user, key=key, host_key=host_key, timeout_s=timeout_s))


class SshGuest:
    """A Guest over one SSH connection. Close it, or use it in a `with`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def run(
        self,
        command: Command,
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        max_bytes: int = 1 << 20,
        on_line: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Run a command to its end; at the deadline, or on an error here, its process group is killed.

        `on_line` is called from other threads, one call at a time.

        Raises CommandFailed unless it exited 0 or `check` is off; TimedOut; TransportFailed.
        """
        lock = threading.Lock()
        out, err = _Collector(max_bytes, on_line, lock), _Collector(max_bytes, on_line, lock)
        code = self.stream(command, produce=_sending(stdin), out=out.read_all, err=err.read_all, timeout_s=timeout_s)
        outcome = Outcome(command=str(command), code=code, stdout=bytes(out.kept), stderr=bytes(err.kept))
        if check and not outcome.ok:
            raise CommandFailed(outcome)
        return outcome

    def stream(
        self,
        command: Command,
        *,
        produce: Produce,
        out: Callable[[Reader], None],
        err: Callable[[Reader], None],
        timeout_s: float,
    ) -> int:
        """Run a command between a producer and two consumers, each on a thread of its own; return its exit code.

        What they raise kills the command and is raised here. Raises TimedOut, TransportFailed.
        """
        with (
            Conversation(self.connection, command, produce=produce, out=out, err=err) as conversation,
            Liveness(self.connection) as liveness,
        ):
            try:
                _await_end(conversation, liveness, command, Deadline(timeout_s))
            except BaseException:
                conversation.kill("KILL")
                raise
            return conversation.code

    def put(
        self, source: Path, target: str, *, mode: int = 0o644, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Copy a file into the guest: written beside the target, then renamed. `on_bytes`: bytes sent so far."""

        def produce(send: Sender) -> None:
            sent = 0
            with source.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    send(block)
                    sent += len(block)
                    if on_bytes:
                        on_bytes(sent)

        self._put(produce, source.stat().st_size, target, mode)

    def put_bytes(self, content: bytes, target: str, *, mode: int = 0o644) -> None:
        """Write a small file in the guest, the same way."""
        self._put(_sending(content), len(content), target, mode)

    def get_bytes(self, source: str, *, max_bytes: int = 1 << 20) -> bytes:
        """Read a small file from the guest. Raises NotFound, Refused (longer than `max_bytes`, no regular file)."""
        command = Command("sh", "-c", _GET, "sh", source, str(max_bytes + 1))
        outcome = self.run(command, check=False, max_bytes=max_bytes + 1)
        if outcome.code == _MISSING:
            raise NotFound(f'there is no "{printable(source)}" in the guest')
        if outcome.code == _NOT_A_FILE:
            raise Refused(f'"{printable(source)}" in the guest is not a regular file')
        if not outcome.ok:
            raise CommandFailed(outcome)
        if len(outcome.stdout) > max_bytes:
            raise Refused(f'"{printable(source)}" in the guest is larger than {max_bytes} bytes')
        return outcome.stdout

    def close(self) -> None:
        """End the connection."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, produce: Produce, size_bytes: int, target: str, mode: int) -> None:
        words = (target, f"{mode & 0o7777:o}", str(size_bytes), f"vmkit-{secrets.token_hex(4)}")
        command = Command("sh", "-c", _PUT, "sh", *words)
        err = _Collector(1 << 16, None, threading.Lock())
        timeout_s = 60.0 + size_bytes / (256 << 10)  # a guest under emulation takes 0.6 MiB/s
        code = self.stream(command, produce=produce, out=_discard, err=err.read_all, timeout_s=timeout_s)
        if code:
            said = b"the file came incomplete" if code == _SHORT else bytes(err.kept)
            raise CommandFailed(Outcome(command=f"put {target}", code=code, stdout=b"", stderr=said))


class _Collector:
    """Keep the first `max_bytes` of a stream, and tell each of its lines."""

    def __init__(self, max_bytes: int, on_line: Callable[[str], None] | None, lock: threading.Lock) -> None:
        self.kept = bytearray()
        self._max_bytes, self._on_line, self._lock = max_bytes, on_line, lock
        self._line = b""

    def read_all(self, read: Reader) -> None:
        while block := read():
            self.kept += block[: self._max_bytes - len(self.kept)]
            if self._on_line:
                *lines, self._line = (self._line + block).replace(b"\r", b"\n").split(b"\n")
                self._tell(lines)
                self._line = self._line[: 4 * MAX_LINE_CHARS]
        self._tell([self._line])

    def _tell(self, lines: list[bytes]) -> None:
        if self._on_line:
            for line in lines:
                if line.strip():
                    with self._lock:
                        self._on_line(printable(line))


def _await_end(conversation: Conversation, liveness: Liveness, command: Command, deadline: Deadline) -> None:
    while not conversation.ended_within(min(_TICK_S, deadline.left_s)):
        conversation.check(liveness)
        if deadline.passed:
            begun = printable(str(command).partition("\n")[0], max_chars=200)  # it may be a whole script
            raise TimedOut(f"a command in the guest did not end within {deadline.seconds:g} s", detail=begun)


def _sending(content: bytes) -> Produce:
    def produce(send: Sender) -> None:
        for start in range(0, len(content), _BLOCK_BYTES):
            send(content[start : start + _BLOCK_BYTES])

    return produce


def _discard(read: Reader) -> None:
    while read():
        pass
