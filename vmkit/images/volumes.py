"""What lies where on a raw disk: partitions, and which blocks of an ext4 file system are free.

Read without any other program: a guest wrote it all, and may have meant us ill.

Layouts: UEFI specification 5.3 (GPT); Documentation/filesystems/ext4 of Linux.
"""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_SECTOR = 512
_MAX_PARTITIONS = 128
_SUPERBLOCK_OFFSET, _SUPERBLOCK_BYTES = 1024, 1024
_MAGIC = 0xEF53
_CLEAN = 1
_RECOVER, _META_BG, _64BIT = 0x4, 0x10, 0x80
_BIGALLOC = 0x200
_UNINIT = 0x2
_HAS_JOURNAL = 0x4
_INODE_BYTES, _INODE_MAP = 128, 0x28
_JOURNAL_MAGIC, _EXTENTS, _LONGEST_EXTENT = b"\xc0\x3b\x39\x98", 0xF30A, 32768
_ZEROS = re.compile("0+")
_PIECE_BYTES = 1 << 20


class Content(StrEnum):
    """What a volume holds."""

    EXT4 = "ext4"
    SWAP = "swap"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume:
    """A partition, or a whole disk that has none. `number` as the guest's system counts, 0 for the disk."""

    number: int
    offset: int
    length: int
    content: Content


@dataclass(frozen=True, kw_only=True, slots=True)
class Ext4:
    """The measures of an ext4 file system that its free blocks can be read from. `is_clean`: no journal to replay."""

    offset: int
    block_bytes: int
    blocks: int
    first_block: int
    blocks_per_group: int
    descriptor_bytes: int
    is_clean: bool


def find_volumes(disk: Path) -> tuple[Volume, ...]:
    """Return the partitions of a GPT in order of their place; without one, the disk as one volume."""
    size = disk.stat().st_size
    with disk.open("rb", buffering=0) as file:
        found = _partitions(file.fileno(), size) or [(0, 0, size)]
        return tuple(
            Volume(number=number, offset=offset, length=length, content=_content(file.fileno(), offset))
            for number, offset, length in sorted(found, key=lambda one: one[1])
        )


def read_ext4(disk: Path, offset: int) -> Ext4 | None:
    """Return the file system at `offset`, or None when it is not one whose free blocks we can tell."""
    with disk.open("rb", buffering=0) as file:
        block = os.pread(file.fileno(), _SUPERBLOCK_BYTES, offset + _SUPERBLOCK_OFFSET)
    if len(block) < _SUPERBLOCK_BYTES or struct.unpack_from("<H", block, 0x38)[0] != _MAGIC:
        return None
    blocks_low, first_block, log_block, per_group = (struct.unpack_from("<I", block, at)[0] for at in (4, 20, 24, 32))
    state = struct.unpack_from("<H", block, 0x3A)[0]
    incompatible, read_only_compatible = struct.unpack_from("<II", block, 0x60)
    if incompatible & _META_BG or read_only_compatible & _BIGALLOC or log_block > 6:
        return None
    block_bytes = 1024 << log_block
    wide = incompatible & _64BIT
    blocks = blocks_low | (struct.unpack_from("<I", block, 0x150)[0] << 32 if wide else 0)
    descriptor_bytes = struct.unpack_from("<H", block, 0xFE)[0] if wide else 32
    fits = blocks * block_bytes <= disk.stat().st_size - offset
    if not (fits and 0 < per_group <= 8 * block_bytes and first_block < blocks and 32 <= descriptor_bytes <= 1024):
        return None
    return Ext4(
        offset=offset,
        block_bytes=block_bytes,
        blocks=blocks,
        first_block=first_block,
        blocks_per_group=per_group,
        descriptor_bytes=descriptor_bytes,
        is_clean=bool(state & _CLEAN) and not incompatible & _RECOVER,
    )


def free_runs(disk: Path, system: Ext4) -> Iterator[tuple[int, int]]:
    """Give offset and length, in the disk, of what the file system says is free.

    Left out are groups of which nothing was ever used.
    """
    groups = -(-(system.blocks - system.first_block) // system.blocks_per_group)
    table = system.offset + (system.first_block + 1) * system.block_bytes
    with disk.open("rb", buffering=0) as file:
        for group in range(groups):
            at = table + group * system.descriptor_bytes
            entry = os.pread(file.fileno(), system.descriptor_bytes, at).ljust(64, b"\0")
            low, flags, high = (struct.unpack_from(form, entry, where)[0] for form, where in _BITMAP_FIELDS)
            bitmap_block = low | (high << 32 if system.descriptor_bytes >= 64 else 0)
            if flags & _UNINIT or not 0 < bitmap_block < system.blocks:
                continue
            first = system.first_block + group * system.blocks_per_group
            count = min(system.blocks_per_group, system.blocks - first)
            bitmap = os.pread(file.fileno(), -(-count // 8), system.offset + bitmap_block * system.block_bytes)
            bits = f"{int.from_bytes(bitmap, 'little'):0{8 * len(bitmap)}b}"[::-1][:count]
            for run in _ZEROS.finditer(bits):
                start = system.offset + (first + run.start()) * system.block_bytes
                yield start, (run.end() - run.start()) * system.block_bytes


_BITMAP_FIELDS = (("<I", 0x0), ("<H", 0x12), ("<I", 0x20))


def journal_runs(disk: Path, system: Ext4) -> Iterator[tuple[int, int]]:
    """Give offset and length, in the disk, of the blocks of an ext4 journal that nobody will replay.

    Its own superblock is left out. Nothing is given for a journal that lies elsewhere, or in many pieces.
    """
    with disk.open("rb", buffering=0) as file:
        inode = _journal_inode(file.fileno(), system)
        magic, count, _, depth = struct.unpack_from("<4H", inode, _INODE_MAP)
        if magic != _EXTENTS or depth or not 0 < count <= 4:
            return
        extents = [struct.unpack_from("<IHHI", inode, _INODE_MAP + 12 * (1 + number)) for number in range(count)]
        runs = [(low | high << 32, length) for _, length, high, low in extents]
        if any(start + length > system.blocks or not 0 < length <= _LONGEST_EXTENT for start, length in runs):
            return
        places = [(system.offset + start * system.block_bytes, length * system.block_bytes) for start, length in runs]
        start, length = places[0]
        head = os.pread(file.fileno(), 32, start)
        if extents[0][0] == 0 and head[:4] == _JOURNAL_MAGIC and head[28:] == bytes(4):  # it begins nowhere: empty
            yield start + system.block_bytes, length - system.block_bytes
            yield from places[1:]


def _journal_inode(descriptor: int, system: Ext4) -> bytes:
    """Return inode 8 when the file system says that its journal is there; else nothing but zeros."""
    block = os.pread(descriptor, _SUPERBLOCK_BYTES, system.offset + _SUPERBLOCK_OFFSET)
    compatible, number = struct.unpack_from("<I", block, 0x5C)[0], struct.unpack_from("<I", block, 0xE0)[0]
    if not compatible & _HAS_JOURNAL or number != 8:
        return bytes(_INODE_BYTES)
    groups = system.offset + (system.first_block + 1) * system.block_bytes
    entry = os.pread(descriptor, system.descriptor_bytes, groups).ljust(64, b"\0")
    low, high = struct.unpack_from("<I", entry, 0x8)[0], struct.unpack_from("<I", entry, 0x28)[0]
    table = low | (high << 32 if system.descriptor_bytes >= 64 else 0)
    if not 0 < table < system.blocks:
        return bytes(_INODE_BYTES)
    at = system.offset + table * system.block_bytes + 7 * struct.unpack_from("<H", block, 0x58)[0]
    return os.pread(descriptor, _INODE_BYTES, at).ljust(_INODE_BYTES, b"\0")


def zero_free(disk: Path) -> int:
    """Overwrite with zeros what is free in every clean ext4 file system of a raw disk; return how many bytes were not.

    Deleted files leave their bytes behind; what the guest trims are only large stretches. The journal, which nobody
    will replay, holds what folders and links said before.
    """
    changed = 0
    for volume in find_volumes(disk):
        system = read_ext4(disk, volume.offset) if volume.content is Content.EXT4 else None
        if system is None or not system.is_clean:
            continue
        with disk.open("r+b", buffering=0) as file:
            for offset, length in (*free_runs(disk, system), *journal_runs(disk, system)):
                changed += _zero(file.fileno(), offset, offset + length)
    return changed


def _zero(descriptor: int, offset: int, end: int) -> int:
    changed = 0
    while offset < end:
        try:
            data = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return changed
        if data >= end:
            return changed
        piece = os.pread(descriptor, min(_PIECE_BYTES, end - data), data)
        if not piece:
            return changed
        if piece.count(0) != len(piece):
            os.pwrite(descriptor, bytes(len(piece)), data)
            changed += len(piece)
        offset = data + len(piece)
    return changed


def _partitions(descriptor: int, size: int) -> list[tuple[int, int, int]]:
    header = os.pread(descriptor, 92, _SECTOR)
    if len(header) < 92 or header[:8] != b"EFI PART":
        return []
    table, count, entry_bytes = struct.unpack_from("<QII", header, 72)
    if not 128 <= entry_bytes <= 4096 or table * _SECTOR >= size:
        return []
    found = []
    for number in range(min(count, _MAX_PARTITIONS)):
        entry = os.pread(descriptor, 48, table * _SECTOR + number * entry_bytes)
        if len(entry) < 48 or not any(entry[:16]):
            continue
        first, last = struct.unpack_from("<QQ", entry, 32)
        if 0 < first <= last < size // _SECTOR:
            found.append((number + 1, first * _SECTOR, (last - first + 1) * _SECTOR))
    return found


def _content(descriptor: int, offset: int) -> Content:
    start = os.pread(descriptor, 4096, offset)
    if start[0x438:0x43A] == _MAGIC.to_bytes(2, "little"):
        return Content.EXT4
    return Content.SWAP if start[4086:] == b"SWAPSPACE2" else Content.OTHER
