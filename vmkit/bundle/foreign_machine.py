"""What we believe of a machine that another program made, and the checks that come before belief.

Nothing in such a folder is trusted: files are looked at without following links, read only so far, and the numbers in
them have to be numbers that a machine can have.
"""

import fcntl
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmkit.bundle.mac_platform import read_hardware_model, read_machine_identifier
from vmkit.errors import Refused
from vmkit.host.text import printable

MAX_CPUS = 255
MIN_MEMORY_MIB, MAX_MEMORY_MIB = 128, 4 << 20
MAX_COMMAND_LINE = 2000

_MAC = re.compile(r"[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignDisk:
    """A disk file. `format` is qcow2, raw or asif; `interface` is UTM's word, which only its QEMU backend has."""

    path: Path
    format: str
    virtual_bytes: int
    interface: str = "VirtIO"


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignMachine:
    """A machine as its maker describes it, every value checked. Paths lead into its folder, which is only read.

    `boot` is uefi, bios, direct or mac. `firmware` is the UEFI variables, or a Mac's auxiliary storage.
    """

    kind: str  # utm, tart or lume
    path: Path
    name: str
    backend: str  # UTM's: qemu or apple
    system: str  # linux or macos
    arch: str
    cpus: int  # 0: as many as there are
    memory_mib: int
    mac: str
    disks: tuple[ForeignDisk, ...]
    boot: str
    firmware: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    command_line: str | None = None
    hardware_model: bytes | None = None
    machine_identifier: bytes | None = None
    uuid: str | None = None
    dropped: tuple[str, ...] = ()  # what a machine of vmkit's does not have, in words

    @property
    def disk_bytes(self) -> int:
        """The size that the guest sees of its first disk."""
        return self.disks[0].virtual_bytes

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is copied when the machine is adopted."""
        others = (self.firmware, self.kernel, self.initrd)
        return (*(disk.path for disk in self.disks), *(path for path in others if path))


LookAtDisk = Callable[[Path], tuple[str, int]]  # format and virtual bytes; raises Refused


def refuse(path: Path, reason: str, *, hint: str | None = None) -> Refused:
    """Word why a folder is not taken."""
    return Refused(f'"{printable(path.name, max_chars=80)}" cannot be adopted: {reason}', detail=str(path), hint=hint)


def require_folder(path: Path, *, of: Path) -> Path:
    """Return `path` when it is a folder and no link. Raises Refused."""
    if not stat.S_ISDIR(_status(path, of).st_mode):
        raise refuse(of, f'its "{printable(path.name, max_chars=80)}" is not a folder')
    return path


def require_file(path: Path, *, of: Path) -> Path:
    """Return `path` when it is a regular file and no link. Raises Refused."""
    if not stat.S_ISREG(_status(path, of).st_mode):
        raise refuse(of, f'its "{printable(path.name, max_chars=80)}" is not a regular file')
    return path


def read_file(path: Path, *, of: Path, max_bytes: int) -> bytes:
    """Return what a file holds, without following a link or waiting for a pipe. Raises Refused."""
    require_file(path, of=of)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise refuse(of, f'its "{path.name}" is larger than {max_bytes} bytes')
    return content


def require_unlocked(path: Path, *, of: Path, hint: str) -> None:
    """Raise Refused when a process holds a lock on the file, as tart (POSIX) and lume (flock) do while they run it."""
    descriptor = os.open(require_file(path, of=of), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        raise refuse(of, "it is in use", hint=hint) from None
    finally:
        os.close(descriptor)  # gives both locks back


def require_cpus(count: Any, *, of: Path) -> int:
    """Return a number of CPUs. Raises Refused."""
    if not _is_int(count) or not 0 <= count <= MAX_CPUS:
        raise refuse(of, f"it has {_shown(count)} CPUs")
    return int(count)


def require_memory(mib: Any, *, of: Path) -> int:
    """Return a size of memory in MiB. Raises Refused."""
    if not _is_int(mib) or not MIN_MEMORY_MIB <= mib <= MAX_MEMORY_MIB:
        raise refuse(of, f"it has {_shown(mib)} MiB of memory")
    return int(mib)


def require_mac(text: Any, *, of: Path) -> str:
    """Return a MAC address as UTM writes it, `52:54:00:12:34:56`. Raises Refused; a group address is none."""
    if not isinstance(text, str) or not _MAC.fullmatch(text):
        raise refuse(of, f"its MAC address is {_shown(text)}")
    octets = [int(octet, 16) for octet in text.split(":")]
    if octets[0] & 1 or not any(octets):
        raise refuse(of, f"no machine can have the MAC address {_shown(text)}")
    return ":".join(f"{octet:02X}" for octet in octets)


def require_hardware_model(content: bytes, *, of: Path) -> bytes:
    """Return a Mac's hardware model when it is one. Raises Refused."""
    return _judged(read_hardware_model, content, of)


def require_machine_identifier(content: bytes, *, of: Path) -> bytes:
    """Return a Mac's machine identifier when it names an ECID. Raises Refused."""
    return _judged(read_machine_identifier, content, of)


def require_command_line(text: str, *, of: Path) -> str:
    """Return a kernel command line of one printable line. Raises Refused."""
    if len(text) > MAX_COMMAND_LINE or not text.isprintable() or '"' in text:
        raise refuse(of, "its kernel command line is not one plain line")
    return text


def _judged(judge: Callable[[bytes], object], content: bytes, of: Path) -> bytes:
    try:
        judge(content)
    except Refused as error:
        raise refuse(of, f"{error.message}: {error.detail}") from error
    return content


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return printable(str(value), max_chars=40) if isinstance(value, str) or _is_int(value) else "no number"


def _status(path: Path, of: Path) -> os.stat_result:
    try:
        return path.lstat()
    except (OSError, ValueError):
        raise refuse(of, f'its "{printable(path.name, max_chars=80)}" is missing') from None
