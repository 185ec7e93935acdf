"""A guest without a machine: answers the commands it was told of, keeps files in a dict. Public, for your tests too."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from vmkit.errors import NotFound, Refused, TransportFailed
from vmkit.guest.base import Command, CommandFailed, Outcome
from vmkit.host.text import printable_lines

Response = Outcome | bytes | int  # all of it, or what it writes and exit 0, or an exit code


class UnexpectedCommandError(AssertionError):
    """A command that the test did not declare."""


class FakeGuest:
    """A Guest that knows only the commands in `responses`, by their `str()`; any other one fails the test.

    A list of responses is used up in order. `ran` holds the commands, `inputs` what was written to each, `files` and
    `modes` what was put.
    """

    def __init__(
        self,
        responses: Mapping[str, Response | Sequence[Response]] | None = None,
        *,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.files = dict(files or {})
        self.modes: dict[str, int] = {}
        self.ran: list[str] = []
        self.inputs: list[bytes] = []
        self.closed = False
        self._responses: dict[str, list[Response] | Response] = {
            command: response if isinstance(response, (Outcome, bytes, int)) else list(response)
            for command, response in (responses or {}).items()
        }

    def run(
        self,
        command: Command,
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,  # noqa: ARG002  # nothing here takes time
        check: bool = True,
        max_bytes: int = 1 << 20,
        on_line: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Return the declared outcome. Raises CommandFailed as the real one does."""
        self._require_open()
        self.ran.append(str(command))
        self.inputs.append(stdin)
        full = self._response(str(command))
        outcome = Outcome(
            command=str(command), code=full.code, stdout=full.stdout[:max_bytes], stderr=full.stderr[:max_bytes]
        )
        if on_line:
            for line in [*printable_lines(full.stdout), *printable_lines(full.stderr)]:
                on_line(line)
        if check and not outcome.ok:
            raise CommandFailed(outcome)
        return outcome

    def put(
        self, source: Path, target: str, *, mode: int = 0o644, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Keep a file's content under `target`."""
        content = source.read_bytes()
        self.put_bytes(content, target, mode=mode)
        if on_bytes:
            on_bytes(len(content))

    def put_bytes(self, content: bytes, target: str, *, mode: int = 0o644) -> None:
        """Keep `content` under `target`."""
        self._require_open()
        self.files[target] = content
        self.modes[target] = mode

    def get_bytes(self, source: str, *, max_bytes: int = 1 << 20) -> bytes:
        """Return what is kept under `source`. Raises NotFound, Refused (longer than `max_bytes`)."""
        self._require_open()
        if source not in self.files:
            raise NotFound(f'there is no "{source}" in the guest')
        if len(self.files[source]) > max_bytes:
            raise Refused(f'"{source}" in the guest is larger than {max_bytes} bytes')
        return self.files[source]

    def close(self) -> None:
        """Refuse everything from now on."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_open(self) -> None:
        if self.closed:
            raise TransportFailed("the connection to the guest was lost")

    def _response(self, command: str) -> Outcome:
        declared = self._responses.get(command)
        if isinstance(declared, list):
            declared = declared.pop(0) if declared else None
        if declared is None:
            expected = "\n  ".join(self._responses) or "none at all"
            raise UnexpectedCommandError(f"the guest was not told of this command:\n  {command}\nbut of\n  {expected}")
        if isinstance(declared, Outcome):
            return declared
        if isinstance(declared, bytes):
            return Outcome(command=command, code=0, stdout=declared, stderr=b"")
        return Outcome(command=command, code=declared, stdout=b"", stderr=b"")
