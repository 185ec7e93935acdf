"""Headers made by hand: one that is good, and all the ways in which one can be made to harm."""

import os
import struct

import pytest

from vmkit.errors import Refused
from vmkit.images.qcow2 import parse_header, read_header, sniff_format

GOOD = {
    "magic": b"QFI\xfb",
    "version": 3,
    "backing_offset": 0,
    "backing_size": 0,
    "cluster_bits": 16,
    "virtual_bytes": 1 << 30,
    "crypt": 0,
    "l1_size": 2,
    "l1_offset": 0x30000,
    "refcount_offset": 0x10000,
    "refcount_clusters": 1,
    "snapshots": 0,
    "snapshots_offset": 0,
    "incompatible": 0,
    "compatible": 0,
    "autoclear": 0,
    "refcount_order": 4,
    "header_bytes": 104,
}
FILE_BYTES = 0x40000


def header(*, extensions: bytes = b"", **changes: object) -> bytes:
    values = list((GOOD | changes).values())
    start = struct.pack(">4sIQIIQIIQQIIQ", *values[:13])
    if values[1] != 2:
        start += struct.pack(">QQQII", *values[13:])
    return (start + extensions).ljust(1 << 16, b"\0")


def extension(kind: int, content: bytes, *, length: int | None = None) -> bytes:
    padded = content.ljust((len(content) + 7) // 8 * 8, b"\0")
    return struct.pack(">II", kind, len(content) if length is None else length) + padded


@pytest.mark.parametrize(
    "content",
    [
        header(),
        header(version=2),
        header(incompatible=1),
        header(extensions=extension(0x6803F857, b"feature names".ljust(48, b"\0"))),
        header(extensions=extension(0x23852875, bytes(24))),
        header(header_bytes=112, extensions=bytes(8)),
        header(cluster_bits=12, l1_size=512),
    ],
)
def test_a_header_that_stands_alone_is_read(content):
    read = parse_header(content, file_bytes=FILE_BYTES)

    assert read.virtual_bytes == 1 << 30


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"QFI\xfb", "shorter", id="cut off"),
        pytest.param(header()[:80], "shorter", id="cut off in version 3"),
        pytest.param(header(magic=b"QFI\xfa"), "not qcow2", id="magic"),
        pytest.param(header(version=1), "version", id="version 1"),
        pytest.param(header(version=4), "version", id="version 4"),
        pytest.param(header(backing_offset=0x200, backing_size=11), "backing", id="backing file"),
        pytest.param(header(backing_offset=0x200), "backing", id="backing offset alone"),
        pytest.param(header(backing_size=9), "backing", id="backing size alone"),
        pytest.param(header(incompatible=2), "features", id="corrupt"),
        pytest.param(header(incompatible=4), "another file", id="external data"),
        pytest.param(header(incompatible=8), "features", id="compression type"),
        pytest.param(header(incompatible=16), "features", id="extended L2"),
        pytest.param(header(incompatible=1 << 40), "features", id="unknown feature"),
        pytest.param(header(crypt=1), "encrypted", id="AES"),
        pytest.param(header(crypt=2), "encrypted", id="LUKS"),
        pytest.param(header(cluster_bits=8), "clusters", id="small clusters"),
        pytest.param(header(cluster_bits=22), "clusters", id="large clusters"),
        pytest.param(header(cluster_bits=0xFFFFFFFF), "clusters", id="absurd clusters"),
        pytest.param(header(virtual_bytes=0), "virtual size", id="no size"),
        pytest.param(header(virtual_bytes=(2 << 40) + 512), "virtual size", id="over 2 TiB"),
        pytest.param(header(virtual_bytes=(1 << 64) - 1), "virtual size", id="largest number"),
        pytest.param(header(snapshots=1), "snapshots", id="snapshots"),
        pytest.param(header(snapshots_offset=0x30000), "snapshots", id="snapshot table"),
        pytest.param(header(refcount_order=6), "refcounts", id="refcount order"),
        pytest.param(header(header_bytes=96), "header is of", id="short header length"),
        pytest.param(header(header_bytes=1 << 31), "header is of", id="long header length"),
        pytest.param(header(header_bytes=105), "header is of", id="odd header length"),
        pytest.param(header(l1_size=0), "too small", id="no L1 table"),
        pytest.param(header(l1_size=1), "too small", id="small L1 table"),
        pytest.param(header(l1_size=0x7FFFFFFF), "larger", id="huge L1 table"),
        pytest.param(header(l1_offset=0), "L1", id="L1 over the header"),
        pytest.param(header(l1_offset=0x30008), "L1", id="L1 unaligned"),
        pytest.param(header(l1_offset=FILE_BYTES), "beyond", id="L1 beyond the end"),
        pytest.param(header(l1_offset=0xFFFFFFFFFFFF0000), "beyond", id="L1 far beyond"),
        pytest.param(header(refcount_offset=0), "refcount", id="refcounts over the header"),
        pytest.param(header(refcount_offset=FILE_BYTES), "beyond", id="refcounts beyond the end"),
        pytest.param(header(refcount_clusters=0), "refcount", id="no refcounts"),
        pytest.param(header(refcount_clusters=0xFFFFFFFF), "refcount", id="huge refcount table"),
        pytest.param(header(extensions=extension(0xE2792ACA, b"qcow2")), "backing format", id="backing format"),
        pytest.param(header(extensions=extension(0x44415441, b"/etc/shadow")), "data file", id="data file name"),
        pytest.param(header(extensions=extension(0x0537BE77, bytes(16))), "encrypted", id="crypto header"),
        pytest.param(header(extensions=extension(0x12345678, b"x")), "extension", id="unknown extension"),
        pytest.param(header(extensions=extension(0x6803F857, b"", length=0xFFFFFFFF)), "longer", id="long extension"),
        pytest.param(header(extensions=extension(0x23852875, bytes(16))), "bitmaps", id="short bitmaps"),
        pytest.param(header(version=2, extensions=extension(0x44415441, b"x")), "data file", id="version 2 data file"),
        pytest.param(
            header(extensions=extension(0x6803F857, bytes(48)) + extension(0xE2792ACA, b"raw")),
            "backing format",
            id="second extension",
        ),
    ],
)
def test_a_hostile_header_is_refused_with_its_reason(content, reason):
    with pytest.raises(Refused) as caught:
        parse_header(content, file_bytes=FILE_BYTES)

    assert reason in caught.value.message


def test_a_file_is_named_in_the_refusal(tmp_path):
    path = tmp_path / "evil.qcow2"
    path.write_bytes(header(backing_offset=8, backing_size=1))

    with pytest.raises(Refused, match=r'"evil\.qcow2" cannot be used: it has a backing file'):
        read_header(path)


@pytest.mark.parametrize(
    ("offset", "magic", "name"),
    [
        (0, b"KDMV", "VMDK"),
        (0, b"vhdxfile", "VHDX"),
        (0, b"conectix", "VHD"),
        (0x40, b"\x7f\x10\xda\xbe", "VDI"),
        (0, b"LUKS\xba\xbe", "LUKS"),
        (0, b"\x1f\x8b\x08", "gzip"),
        (0, b"\xfd7zXZ\0", "xz"),
        (0, b"# Disk DescriptorFile\n", "VMDK"),
        (0, b"QED\0", "QED"),
        (0x8001, b"CD001", "ISO"),
    ],
)
def test_other_formats_are_refused_by_their_marks(tmp_path, offset, magic, name):
    path = tmp_path / "disk"
    path.write_bytes(bytes(offset) + magic + bytes(0x9000))

    with pytest.raises(Refused, match=name):
        sniff_format(path)


def test_a_raw_disk_with_a_qcow2_mark_is_not_raw(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(header(backing_offset=8, backing_size=1))

    assert sniff_format(path) == "qcow2"


def test_what_is_not_a_file_is_not_opened(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(Refused, match="not a file"):
        sniff_format(pipe)
