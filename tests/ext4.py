"""File systems in a file, without root and without mounting: made from a folder, changed by debugfs."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from vmkit.host.process import Runner

_SECTOR = 512


def require_programs(*names: str) -> None:
    """Skip the test when the computer lacks one of them."""
    for name in names:
        if not Runner().find(name):
            pytest.skip(f"{name} is not installed")


def make_ext4(image: Path, files: dict[str, bytes], *, size: int = 32 << 20, deleted: tuple[str, ...] = ()) -> Path:
    """Make an ext4 file system with `files`, of which `deleted` are then removed: their bytes stay."""
    require_programs("mkfs.ext4", "debugfs")
    tree = image.with_suffix(".tree")
    tree.mkdir()
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with image.open("wb") as file:
        file.truncate(size)
    _run("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "1", "-d", str(tree), str(image))
    for name in deleted:
        _run("debugfs", "-w", "-R", f"rm /{name}", str(image))
    shutil.rmtree(tree)
    return image


def make_gpt(disk: Path, partitions: list[bytes], *, start: int = 1 << 20) -> list[int]:
    """Write partitions, each a whole number of MiB, behind a partition table; return their offsets."""
    offsets = []
    entries = b""
    with disk.open("wb") as file:
        for content in partitions:
            assert len(content) % (1 << 20) == 0
            file.seek(start)
            file.write(content)
            offsets.append(start)
            entries += (
                b"L" * 32 + struct.pack("<QQ", start // _SECTOR, (start + len(content)) // _SECTOR - 1) + bytes(80)
            )
            start += len(content)
        file.truncate(start + (1 << 20))
        header = bytearray(92)
        header[:8] = b"EFI PART"
        struct.pack_into("<QII", header, 72, 2, 128, 128)
        file.seek(_SECTOR)
        file.write(header)
        file.seek(2 * _SECTOR)
        file.write(entries)
    return offsets


def _run(*argv: str) -> None:
    program = Runner().find(argv[0])
    subprocess.run([str(program), *argv[1:]], check=True, capture_output=True, timeout=60)
