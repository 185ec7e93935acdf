"""Read a disk file's header before any other program does: what a hostile one could make qemu-img open, we refuse.

Layout: docs/interop/qcow2.txt of QEMU. A backing file, an external data file or a `json:` name in a header makes
qemu-img read other files of this computer (CVE-2024-32498 and its kin).
"""

import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import Refused
from vmkit.images.layout import MAX_VIRTUAL_BYTES

_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")  # version 2: 72 bytes
_HEADER_3 = struct.Struct(">QQQII")  # what version 3 adds: 32 bytes
_MAX_EXTENSION_BYTES = 1 << 16
_DIRTY = 1

_END, _FEATURE_NAMES, _BITMAPS = 0x0, 0x6803F857, 0x23852875
_FORBIDDEN = {0xE2792ACA: "names a backing format", 0x44415441: "names a data file", 0x0537BE77: "is encrypted"}

_MAGICS = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (0x40, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"Bochs Virtual HD Image", "Bochs"),
    (0, b"OOOO", "the old qcow"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"7z\xbc\xaf", "7z"),
    (0, b"koly", "Apple disk image"),
    (0, b"encrcdsa", "encrypted Apple disk image"),
    (0, b"sprs", "Apple sparse image"),
    (0x101, b"ustar", "tar"),
    (0x8001, b"CD001", "ISO 9660"),
    (0x8001, b"BEA01", "UDF"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Qcow2Header:
    """What a qcow2 file that passed says of itself."""

    version: int
    cluster_bits: int
    virtual_bytes: int


def sniff_format(path: Path) -> str:
    """Return `qcow2`, or `raw` when the file carries the mark of no image format. Raises Refused for every other."""
    _require_file(path)
    with path.open("rb") as file:
        start = file.read(0x8010)
    for offset, magic, name in _MAGICS:
        if start[offset : offset + len(magic)] == magic:
            if name == "qcow2":
                return name
            raise Refused(
                f'"{path.name}" is of the format {name}', hint="vmkit reads qcow2 and raw: convert it on your own side"
            )
    return "raw"


def read_header(path: Path) -> Qcow2Header:
    """Return the header of a qcow2 file that stands alone. Raises Refused, with the reason."""
    _require_file(path)
    with path.open("rb") as file:
        start = file.read(_MAX_EXTENSION_BYTES)
    try:
        return parse_header(start, file_bytes=path.stat().st_size)
    except Refused as error:
        raise Refused(f'"{path.name}" cannot be used: {error.message}', detail=error.detail, hint=error.hint) from None


def parse_header(start: bytes, *, file_bytes: int) -> Qcow2Header:
    """Return the header from the first 64 KiB of a file of `file_bytes`. Raises Refused, with the reason."""
    _require(len(start) >= _HEADER.size, "it is shorter than a header")
    (magic, version, backing_offset, backing_size, cluster_bits, virtual_bytes, crypt, l1_size, l1_offset,
     refcount_offset, refcount_clusters, snapshots, snapshots_offset) = _HEADER.unpack_from(start)  # fmt: skip
    _require(magic == b"QFI\xfb", "it is not qcow2")
    _require(version in (2, 3), f"its version is {version}")
    _require(backing_offset == 0 and backing_size == 0, "it has a backing file")
    _require(crypt == 0, "it is encrypted")
    _require(9 <= cluster_bits <= 21, f"its clusters are of 2^{cluster_bits} bytes")
    _require(0 < virtual_bytes <= MAX_VIRTUAL_BYTES, f"its virtual size is {virtual_bytes} bytes")
    _require(snapshots == 0 and snapshots_offset == 0, "it holds snapshots")
    header_bytes = _HEADER.size
    if version == 3:
        header_bytes = _check_version_3(start)
    _check_extensions(start, header_bytes, cluster_bytes=1 << cluster_bits)
    # One L2 table maps cluster_bytes / 8 clusters.
    _require(l1_size <= (virtual_bytes >> (2 * cluster_bits - 3)) + 1, "its L1 table is larger than its disk needs")
    _require(l1_size << (2 * cluster_bits - 3) >= virtual_bytes, "its L1 table is too small for its disk")
    _check_table("L1", l1_offset, l1_size * 8, cluster_bits=cluster_bits, file_bytes=file_bytes)
    refcount_bytes = refcount_clusters << cluster_bits
    _require(0 < refcount_bytes <= 8 << 20, "its refcount table cannot be of that size")  # QEMU's own limit
    _check_table("refcount", refcount_offset, refcount_bytes, cluster_bits=cluster_bits, file_bytes=file_bytes)
    return Qcow2Header(version=version, cluster_bits=cluster_bits, virtual_bytes=virtual_bytes)


def _check_version_3(start: bytes) -> int:
    """Check what version 3 adds and return the length of the header."""
    _require(len(start) >= _HEADER.size + _HEADER_3.size, "it is shorter than a header")
    incompatible, _compatible, _autoclear, refcount_order, length = _HEADER_3.unpack_from(start, _HEADER.size)
    _require(incompatible & 4 == 0, "its data is in another file")
    _require(incompatible & ~_DIRTY == 0, f"it needs features that are not allowed (bits {incompatible:#x})")
    _require(refcount_order == 4, f"its refcounts are of 2^{refcount_order} bits")
    _require(104 <= length <= 4096 and length % 8 == 0, f"its header is of {length} bytes")
    return int(length)


def _check_extensions(start: bytes, offset: int, *, cluster_bytes: int) -> None:
    limit = min(cluster_bytes, len(start))
    while offset + 8 <= limit:
        kind, length = struct.unpack_from(">II", start, offset)
        if kind == _END:
            return
        _require(kind not in _FORBIDDEN, f"it {_FORBIDDEN.get(kind)}")
        _require(kind in (_FEATURE_NAMES, _BITMAPS), f"it has a header extension {kind:#010x}")
        _require(kind != _BITMAPS or length == 24, "its bitmaps extension is malformed")
        offset += 8 + (length + 7) // 8 * 8
        _require(offset <= limit, "a header extension is longer than the header")
    _require(offset >= cluster_bytes, "its header extensions do not end")


def _check_table(name: str, offset: int, size: int, *, cluster_bits: int, file_bytes: int) -> None:
    _require(offset % (1 << cluster_bits) == 0 and offset > 0, f"its {name} table is not where one can be")
    _require(offset + size <= file_bytes, f"its {name} table lies beyond its end")


def _require_file(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise Refused(f'"{path.name}" is not a file')


def _require(condition: bool, otherwise: str) -> None:  # noqa: FBT001  # reads as an assertion
    if not condition:
        raise Refused(otherwise)
