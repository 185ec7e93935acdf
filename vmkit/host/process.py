"""Run other programs: argv lists only, stdin closed, a built environment, a deadline, bounded output.

The only module that imports subprocess.
"""

import contextlib
import errno
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from vmkit.errors import HostLacks, TimedOut, ToolFailed
from vmkit.host.computer import die_with_parent, forbid_core_dumps
from vmkit.host.text import printable_lines

QUICK_S = 20.0
SLOW_S = 600.0
BUILD_S = 3600.0

_MAX_OUTPUT = 16 << 20
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")
_KEPT_FOR_LONG = ("PATH", "HOME", "TMPDIR")  # no agent and no proxy: what outlives a command speaks for nobody
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A program that has ended."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")


class Process(Protocol):
    """A program that runs on."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""


class Runner:
    """Run host programs. Tests pass `vmkit.testing.FakeRunner` instead."""

    def find(self, program: str) -> Path | None:
        """Return where `program` is, looking in the sbin folders too, or None."""
        found = shutil.which(program, path=_path())
        return Path(found) if found else None

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = QUICK_S,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        ok_codes: tuple[int, ...] | None = (0,),
        on_line: Callable[[str], None] | None = None,
        on_output: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a program to its end. It dies with this process. `ok_codes=None` accepts every exit code.

        `on_line` is called, from another thread, with each line of stderr as it comes; `on_output` with each of stdout.

        Raises HostLacks when there is no such program, TimedOut at the deadline, ToolFailed on another exit code.
        """
        _say(argv)
        with self._started(argv, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL, env=env) as child:
            out, err = _Collector(child.stdout, on_output), _Collector(child.stderr, on_line)
            try:
                if stdin is not None and child.stdin is not None:
                    with contextlib.suppress(BrokenPipeError):
                        child.stdin.write(stdin)
                        child.stdin.close()
                code = child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                _kill_group(child)
                raise TimedOut(f'"{argv[0]}" did not end within {timeout_s:g} s', detail=shlex.join(argv)) from None
            except BaseException:
                _kill_group(child)
                raise
            finally:
                out.join()
                err.join()
        done = Completed(argv=tuple(argv), code=code, stdout=bytes(out.buffer), stderr=bytes(err.buffer))
        if ok_codes is not None and code not in ok_codes:
            raise tool_failed(done)
        return done

    def spawn(
        self,
        argv: Sequence[str],
        *,
        log_path: Path,
        pass_fds: tuple[int, ...] = (),
        env: Mapping[str, str] | None = None,
        umask: int = 0o077,
    ) -> Process:
        """Start a program that outlives this process, in a session of its own; its output goes to `log_path`.

        What it makes is the user's alone, its memory is never dumped to a file, and of the environment it gets only
        where programs and temporary files are.

        Raises HostLacks when there is no such program.
        """
        _say(argv)
        descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=_environment(env, _KEPT_FOR_LONG),
                pass_fds=pass_fds,
                start_new_session=True,
                umask=umask,
                preexec_fn=forbid_core_dumps,  # noqa: PLW1509  # one setrlimit; no lock is taken between fork and exec
            )
        except FileNotFoundError:
            raise missing(argv[0]) from None
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _started(
        self, argv: Sequence[str], *, stdin: int, env: Mapping[str, str] | None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        try:
            child = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(env),
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # one prctl; no lock is taken between fork and exec
            )
        except FileNotFoundError:
            raise missing(argv[0]) from None
        with child:
            yield child


class _Collector:
    """Read a pipe to its end on a thread, keeping at most `_MAX_OUTPUT` bytes."""

    def __init__(self, pipe: IO[bytes] | None, on_line: Callable[[str], None] | None = None) -> None:
        self._pipe, self._on_line, self.buffer = pipe, on_line, bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(5)

    def _read(self) -> None:
        if self._pipe is None:
            return
        for block in self._blocks(self._pipe):
            if len(self.buffer) < _MAX_OUTPUT:
                self.buffer += block
            if self._on_line:
                for line in printable_lines(block):
                    self._on_line(line)

    def _blocks(self, pipe: IO[bytes]) -> Iterator[bytes]:
        while block := pipe.readline(1 << 16) if self._on_line else pipe.read(1 << 16):
            yield block


def tool_failed(done: Completed) -> ToolFailed | HostLacks:
    """Word a failed program: what, how it ended, and the last lines it said. That the disk is full comes first."""
    how = f"was killed by {signal.Signals(-done.code).name}" if done.code < 0 else f"exited with {done.code}"
    said = printable_lines(done.stderr or done.stdout, max_lines=12)
    detail = "\n".join([shlex.join(done.argv), *said])
    if any(os.strerror(errno.ENOSPC) in line for line in said):
        return HostLacks("no space is left", detail=detail, hint="free some space, or set VMKIT_HOME to a larger disk")
    return ToolFailed(f'"{Path(done.argv[0]).name}" {how}', detail=detail)


def missing(program: str) -> HostLacks:
    """Word a program that is not installed."""
    return HostLacks(f'"{Path(program).name}" is not installed', hint="vmkit doctor")


def _say(argv: Sequence[str]) -> None:
    """Log the line to paste, for `-vv`."""
    import logging  # noqa: PLC0415  # 9 ms that asking for states does not pay

    logging.getLogger("vmkit.run").debug("%s", shlex.join(argv))


def _path() -> str:
    return os.environ.get("PATH", os.defpath) + ":" + _SBIN


def _environment(extra: Mapping[str, str] | None, names: tuple[str, ...] = _KEPT) -> dict[str, str]:
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "PATH": _path(), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **(extra or {})}


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
