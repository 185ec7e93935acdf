"""Run one command line: map every error to its message and exit code, put the terminal and the streams right."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from vmkit.cli.flags import Flags, split_flags
from vmkit.cli.render import show_error
from vmkit.errors import HostLacks, VmkitError

_SIGNALS = {signal.SIGTERM: 143, signal.SIGHUP: 129}


class _Ended(BaseException):
    """A signal asked this process to end."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(words: Sequence[str]) -> int:
    """Run one command line and return its exit code; print what went wrong, on stderr."""
    flags, rest = split_flags(words)
    code = 1
    try:
        with _signals_as_exceptions():
            code = _dispatch(rest, flags)
    except VmkitError as error:
        code = show_error(error, flags)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        code = 130
    except _Ended as ended:
        code = ended.code
    except BrokenPipeError:
        _forget_stdout()
        code = 141
    except OSError as error:
        code = show_error(_worded(error), flags)
    except Exception as error:
        if flags.debug:
            raise
        code = show_error(VmkitError(f"this is a bug in vmkit: {type(error).__name__}: {error}", hint="--debug"), flags)
    finally:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.flush()
    return code


def _worded(error: OSError) -> VmkitError:
    """Put a failed system call into words: a full disk first of all."""
    where = str(error.filename) if error.filename else None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostLacks("no space is left", detail=where, hint="free some space, or set VMKIT_HOME to a larger disk")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return HostLacks(f"permission denied: {error.strerror}", detail=where)
    return VmkitError(error.strerror or str(error), detail=where)


def _dispatch(rest: list[str], flags: Flags) -> int:
    if rest in (["list"], ["ls"]):  # what scripts and prompts poll: answered without the parser, in half the time
        from vmkit.cli.app import App  # noqa: PLC0415
        from vmkit.cli.listing import show_list  # noqa: PLC0415

        show_list(App(flags=flags))
        return 0
    from vmkit.cli.commands import dispatch  # noqa: PLC0415  # typer, 40 ms

    return dispatch(rest, flags)


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into exceptions, so that staging, locks and the terminal are put right."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise _Ended(_SIGNALS[signal.Signals(number)])

    previous = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _forget_stdout() -> None:
    """Point stdout at nothing, lest the interpreter complains about the broken pipe when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
