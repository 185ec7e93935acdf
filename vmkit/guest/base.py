"""What recipes and workflows may do in a running guest: five verbs, with quoting and secrecy in the types."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vmkit.errors import VmkitError


@dataclass(frozen=True)
class Secret:
    """A value that no log, error or repr shows."""

    value: str

    def __str__(self) -> str:
        return "******"

    __repr__ = __str__


@dataclass(frozen=True, init=False)
class Command:
    """An argv for the guest. `wire()` is quoted for its shell; `str()` is the same with secrets masked, safe to log."""

    words: tuple[str | Secret, ...]

    def __init__(self, *words: "str | Secret | Path") -> None:
        object.__setattr__(self, "words", tuple(word if isinstance(word, Secret) else str(word) for word in words))

    def wire(self) -> str:
        """Return the line for the guest's shell, each word quoted."""
        return " ".join(shlex.quote(word.value if isinstance(word, Secret) else word) for word in self.words)

    def __str__(self) -> str:
        return " ".join(str(word) if isinstance(word, Secret) else shlex.quote(word) for word in self.words)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A guest command that has ended. `stdout` and `stderr` are hostile bytes, cut at the caller's limit."""

    command: str
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """Whether it exited 0."""
        return self.code == 0

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")


class CommandFailed(VmkitError):  # noqa: N818  # as in vmkit.errors
    """A guest command exited with another code than 0. `outcome` holds what it said."""

    kind = "guest-command-failed"

    def __init__(self, outcome: Outcome) -> None:
        from vmkit.host.text import printable_lines  # noqa: PLC0415

        said = printable_lines(outcome.stderr or outcome.stdout, max_lines=12)
        super().__init__(
            f"a command in the guest exited with {outcome.code}", detail="\n".join([outcome.command, *said])
        )
        self.outcome = outcome


class Guest(Protocol):
    """The running system inside a machine. Errors: TransportFailed, TimedOut, Refused (host key), CommandFailed."""

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
        """Run a command to its end, draining both streams. `on_line` gets each output line, printable.

        Raises CommandFailed unless it exited 0 or `check` is off; TimedOut at the deadline.
        """

    def put(
        self, source: Path, target: str, *, mode: int = 0o644, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Copy a file into the guest: written beside the target, then renamed. `on_bytes`: bytes sent so far."""

    def put_bytes(self, content: bytes, target: str, *, mode: int = 0o644) -> None:
        """Write a small file in the guest, the same way."""

    def get_bytes(self, source: str, *, max_bytes: int = 1 << 20) -> bytes:
        """Read a small file from the guest. Raises NotFound, Refused (longer than `max_bytes`)."""

    def close(self) -> None:
        """End the connection."""
