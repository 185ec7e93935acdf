"""Files that are whole or absent: private folders, atomic writes, locks that die with their holder, staging."""

import contextlib
import errno
import fcntl
import io
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from vmkit.errors import Busy, HostLacks, Refused
from vmkit.host.computer import free_bytes, fsync_directory, fsync_file
from vmkit.host.text import printable


def own_directory(path: Path) -> Path:
    """Make `path` and its parents, mode 0700, or check that an existing one is ours and nobody else may write to it.

    Raises Refused when it is not.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise Refused(
            f'"{path}" must be a folder of yours that nobody else can write to',
            hint=f"chmod go-w {path}" if status.st_uid == os.getuid() else None,
        )
    return path


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    import tempfile  # noqa: PLC0415  # 10 ms with what it imports; `list` writes nothing

    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            fsync_file(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def read_bounded(path: Path, *, max_bytes: int) -> bytes:
    """Read a file that somebody else may have written. Raises Refused when it is longer than `max_bytes`."""
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise Refused(f'"{path.name}" is larger than {max_bytes} bytes')
    return content


def open_foreign(path: Path) -> io.BufferedReader:
    """Open a file for reading in a folder that somebody else made: no link is followed, no pipe waited for.

    Raises Refused for what is not a regular file, FileNotFoundError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a symbolic link; a socket
            raise Refused(f'"{path.name}" is not a file') from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused(f'"{path.name}" is not a file')
    return os.fdopen(descriptor, "rb")


def tail(path: Path, *, max_bytes: int = 16 << 10) -> bytes:
    """Return the end of a file, or nothing when there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - max_bytes))
            return file.read(max_bytes)
    except FileNotFoundError:
        return b""


class Lock:
    """An exclusive `flock`, released by the kernel when its holder dies; the file is never deleted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, purpose: str, *, wait: bool = False) -> Self:
        """Take the lock. Raises Busy, naming the holder, when another process has it and `wait` is not set."""
        own_directory(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, wait=wait)
        except BlockingIOError:
            holder = _holder(os.read(descriptor, 500))
            os.close(descriptor)
            raise Busy(f'"{self.path.stem}" is busy: {holder}', hint="try again when it has ended") from None
        except BaseException:
            os.close(descriptor)
            raise
        with contextlib.suppress(OSError):  # on a full disk the lock holds without words, so that things can be deleted
            os.truncate(descriptor, 0)
            os.write(descriptor, json.dumps({"pid": os.getpid(), "purpose": purpose}).encode())
        self._descriptor = descriptor
        return self

    def fileno(self) -> int:
        """Return the descriptor that holds the lock: a child that inherits it keeps the lock past `release`."""
        if self._descriptor is None:
            raise ValueError(self.path)
        return self._descriptor

    def release(self) -> None:
        """Give the lock back, unless a child inherited it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _lock(descriptor: int, *, wait: bool) -> None:
    if wait:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    for _ in range(10):  # is_locked() holds a lock for an instant; a true holder outlasts this
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.01)
    raise BlockingIOError


def is_locked(path: Path) -> bool:
    """Tell whether a living process holds the lock at `path`; reads only."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def staging(root: Path) -> Iterator[Path]:
    """Give a private folder under `root` to build something in; what is still there at the end is removed.

    A folder left by a killed process is removed by the next call: its lock is free.
    """
    import shutil  # noqa: PLC0415  # as above
    import tempfile  # noqa: PLC0415  # as above

    own_directory(root)
    with _guard(root):  # nobody sweeps between the making of a folder and the taking of its lock
        _sweep(root)
        folder = Path(tempfile.mkdtemp(dir=root))
        lock = Lock(folder.with_suffix(".lock")).acquire("staging")
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.path.unlink(missing_ok=True)


def sweep(root: Path) -> None:
    """Remove what killed processes left under a staging `root`."""
    with _guard(root):
        _sweep(root)


def _guard(root: Path) -> Lock:
    return Lock(root / "guard").acquire("staging", wait=True)


def _sweep(root: Path) -> None:
    import shutil  # noqa: PLC0415  # as above

    for lock in root.glob("*.lock"):
        if not is_locked(lock):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


def publish(staged: Path, final: Path) -> None:
    """Make `staged` appear as `final`, by one rename. Raises FileExistsError when something is there already."""
    own_directory(final.parent)
    try:
        staged.rename(final)
    except OSError as error:
        if final.exists():
            raise FileExistsError(final) from error
        raise
    fsync_directory(final.parent)


def require_space(path: Path, *, needed_bytes: int, what: str) -> None:
    """Raise HostLacks, with the figures, unless `needed_bytes` and a reserve of 256 MiB are free at `path`."""
    free = free_bytes(path)
    if free < needed_bytes + (256 << 20):
        raise HostLacks(
            f"not enough free space for {what}",
            detail=f"{needed_bytes / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free at {path}",
            hint="free some space, or set VMKIT_HOME to a larger disk",
        )


def _holder(content: bytes) -> str:
    try:
        held = json.loads(content)
        return printable(f"{held['purpose']} (process {held['pid']})", max_chars=120)
    except (ValueError, KeyError, TypeError):
        return "held by another process"
