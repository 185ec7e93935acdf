"""The files of a machine that is adopted: judged by their headers, then copied; the originals are only read."""

import struct
from pathlib import Path

from vmkit.bundle.adopted import Adopted, Copy
from vmkit.errors import Refused
from vmkit.host.computer import clone_file
from vmkit.host.files import require_space
from vmkit.host.process import SLOW_S, Runner
from vmkit.images.disk import read_info
from vmkit.images.layout import MAX_VIRTUAL_BYTES
from vmkit.images.qcow2 import read_header, sniff_format

_SECTOR = 512
# Apple's sparse image format, of macOS 26: sectors at 0x30, their size at 0x44 (github.com/huven/asif-format).
_ASIF = struct.Struct(">4s44xQ12xH")


def look_at_disk(path: Path) -> tuple[str, int]:
    """Return a disk's format (qcow2, raw, asif) and the bytes that its guest sees. Raises Refused."""
    with path.open("rb") as file:
        start = file.read(0x60)
    if start.startswith(b"shdw"):
        return "asif", _asif_bytes(start, path)
    disk_format = sniff_format(path)
    if disk_format == "qcow2":
        return disk_format, read_header(path).virtual_bytes
    size = path.stat().st_size
    if size == 0 or size % _SECTOR or size > MAX_VIRTUAL_BYTES:
        raise Refused(f'"{path.name}" cannot be a raw disk', detail=f"{size} bytes: not a whole number of sectors")
    return "raw", size


def copy_files(adopted: Adopted, data: Path, *, runner: Runner) -> None:
    """Fill our bundle's `Data/`: blocks are shared where the file system can, a raw disk of QEMU's becomes qcow2.

    Raises Refused (qemu-img sees another disk than we do), HostLacks (space, qemu-img), ToolFailed (in use).
    """
    needed = sum(copy.source.stat().st_blocks * _SECTOR for copy in adopted.copies)
    require_space(data, needed_bytes=needed, what="a copy of the machine's disks")
    for copy in adopted.copies:
        if copy.format == "qcow2":
            _copy_for_qemu(copy, data / copy.name, runner=runner)
        else:
            clone_file(copy.source, data / copy.name)
        (data / copy.name).chmod(0o600)


def _copy_for_qemu(copy: Copy, target: Path, *, runner: Runner) -> None:
    """Copy a disk, or UEFI variables, whose format our driver says to QEMU: it is always qcow2."""
    found, size = look_at_disk(copy.source)
    seen = read_info(copy.source, source_format=found, runner=runner)
    if (seen.format, seen.virtual_bytes) != (found, size):
        raise Refused(f'qemu-img and vmkit do not read "{copy.source.name}" alike', detail=f"{seen}, {size} bytes")
    if found == "qcow2":
        clone_file(copy.source, target)
        return
    source, made = str(copy.source.absolute()), str(target.absolute())
    runner.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", source, made], timeout_s=SLOW_S)


def _asif_bytes(start: bytes, path: Path) -> int:
    _, sectors, sector_bytes = _ASIF.unpack_from(start.ljust(0x60, b"\0"))
    size = int(sectors) * int(sector_bytes)
    if not 0 < size <= MAX_VIRTUAL_BYTES:
        raise Refused(f'"{path.name}" is of the format asif, with a header that cannot be')
    return size
