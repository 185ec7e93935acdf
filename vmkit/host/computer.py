"""What kind of computer this is, and the few system calls that differ between Linux and macOS.

The macOS branches have never run on a Mac: they are written from the manual pages and tested with fakes (unverified).
"""

import ctypes
import fcntl
import os
import resource
import shutil
import socket
import struct
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FICLONE = 0x40049409  # linux/fs.h
_F_FULLFSYNC = 51  # macOS sys/fcntl.h
_SOL_LOCAL, _LOCAL_PEERPID = 0, 0x002  # macOS sys/un.h


def is_macos() -> bool:
    """Tell whether this is macOS."""
    return sys.platform == "darwin"


def machine_arch() -> str:
    """Return this computer's architecture in QEMU's words, `x86_64` or `aarch64` on what we know."""
    machine = os.uname().machine.lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def has_seccomp() -> bool:
    """Tell whether the kernel can confine a process to a list of system calls, as QEMU's `-sandbox` asks."""
    return sys.platform == "linux"


def has_namespaces() -> bool:
    """Tell whether the kernel can give a process a network of its own; whether it may is another question."""
    return sys.platform == "linux"


def cpu_count() -> int:
    """Return the number of CPUs this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def total_memory_mib() -> int:
    """Return this computer's memory in MiB."""
    return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES")) // (1 << 20)


def free_bytes(path: Path) -> int:
    """Return the bytes this user may still write at `path`, or at its nearest existing parent."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def boot_id() -> str:
    """Return a text that changes when this computer restarts."""
    if is_macos():
        return _macos_boot_time()
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies. For use between fork and exec; nothing on macOS."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)


def forbid_core_dumps() -> None:
    """Keep this process's memory out of core files. For use between fork and exec."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def raise_open_files(minimum: int) -> int:
    """Let this process have `minimum` files open, or as many as it may; return how many that is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = minimum if hard == resource.RLIM_INFINITY else min(minimum, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return minimum if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def peer_pid(connection: socket.socket) -> int:
    """Return the process that listens on the other end of a connected Unix socket, as the kernel knows it."""
    if is_macos():
        return int(connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID))
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def clone_file(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the file system can (FICLONE, clonefile), else with its holes kept.

    Raises FileExistsError when `target` exists.
    """
    if is_macos():
        if ctypes.CDLL(None, use_errno=True).clonefile(os.fsencode(source), os.fsencode(target), 0) == 0:
            return
        if target.exists():
            raise FileExistsError(target)
    with source.open("rb") as reader, target.open("xb") as writer:
        if sys.platform == "linux":
            try:
                fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
            except OSError:
                _copy_with_holes(reader.fileno(), writer.fileno())
        else:
            _copy_with_holes(reader.fileno(), writer.fileno())


def _copy_with_holes(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(source, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        end = os.lseek(source, offset, os.SEEK_HOLE)
        os.lseek(source, offset, os.SEEK_SET)
        os.lseek(target, offset, os.SEEK_SET)
        while offset < end:
            block = os.read(source, min(1 << 20, end - offset))
            if not block:
                return
            os.write(target, block)
            offset += len(block)


def fsync_directory(path: Path) -> None:
    """Make a rename in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(descriptor: int) -> None:
    """Make a file's contents durable; on macOS `fsync` alone leaves them in the drive's cache."""
    if is_macos():
        fcntl.fcntl(descriptor, _F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def _macos_boot_time() -> str:
    size = ctypes.c_size_t(16)
    buffer = ctypes.create_string_buffer(16)
    ctypes.CDLL(None).sysctlbyname(b"kern.boottime", buffer, ctypes.byref(size), None, 0)
    return buffer.raw.hex()
