"""Free blocks are told from used ones as e2fsprogs tell them, and nothing a guest wrote leads astray."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.ext4 import make_ext4, make_gpt, require_programs
from vmkit.host.process import Runner
from vmkit.images.volumes import Content, find_volumes, free_runs, journal_runs, read_ext4, zero_free


def test_free_blocks_are_those_that_dumpe2fs_lists(tmp_path):
    require_programs("dumpe2fs")
    files = {f"f{i}": os.urandom(3000 * i) for i in range(40)}
    disk = make_ext4(tmp_path / "disk", files, deleted=("f7", "f20", "f39"))
    system = read_ext4(disk, 0)
    listed = subprocess.run([str(Runner().find("dumpe2fs")), disk], capture_output=True, check=True, text=True).stdout

    free = {block for start, length in free_runs(disk, system) for block in range(start >> 12, (start + length) >> 12)}

    groups = [line.split(":")[1] for line in listed.splitlines() if line.strip().startswith("Free blocks:")][1:]
    spans = [span.strip().split("-") for group in groups for span in group.split(",") if span.strip()]
    expected = {block for span in spans for block in range(int(span[0]), int(span[-1]) + 1)}
    assert free
    assert free <= expected
    if "BLOCK_UNINIT" not in listed:
        assert free == expected


def test_a_file_system_stays_whole_when_its_free_blocks_are_emptied(tmp_path):
    require_programs("e2fsck")
    disk = make_ext4(tmp_path / "disk", {"a": os.urandom(200_000), "b": os.urandom(300_000)}, deleted=("a",))

    assert zero_free(disk) >= 200_000
    assert zero_free(disk) == 0

    checked = subprocess.run([str(Runner().find("e2fsck")), "-fn", disk], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_a_file_system_that_was_not_put_away_is_left_alone(tmp_path):
    disk = make_ext4(tmp_path / "disk", {"a": os.urandom(200_000)}, deleted=("a",))
    with disk.open("r+b") as file:
        file.seek(1024 + 0x3A)
        file.write(b"\0\0")

    assert not read_ext4(disk, 0).is_clean
    assert zero_free(disk) == 0


def test_a_disk_without_partitions_is_one_volume(tmp_path):
    disk = make_ext4(tmp_path / "disk", {})

    [volume] = find_volumes(disk)

    assert (volume.number, volume.offset, volume.content) == (0, 0, Content.EXT4)


def test_partitions_are_found_in_order(tmp_path):
    disk = tmp_path / "disk"
    offsets = make_gpt(disk, [bytes(1 << 20), bytes(4086) + b"SWAPSPACE2" + bytes((1 << 20) - 4096)])

    found = find_volumes(disk)

    assert [(one.number, one.offset, one.content) for one in found] == [
        (1, offsets[0], Content.OTHER),
        (2, offsets[1], Content.SWAP),
    ]


@pytest.mark.parametrize("where", range(0, 1024, 16))
def test_a_superblock_of_nonsense_is_survived(tmp_path, where):
    disk = make_ext4(tmp_path / "disk", {"a": b"x" * 10_000}, size=8 << 20)
    with disk.open("r+b") as file:
        file.seek(1024 + where)
        file.write(b"\xff" * 16)

    system = read_ext4(disk, 0)
    if system:
        for offset, length in (*free_runs(disk, system), *journal_runs(disk, system)):
            assert 0 <= offset <= offset + length <= disk.stat().st_size


def journal_head(disk: Path) -> int:
    """Return where the journal's own superblock is: the block before what may be emptied."""
    system = read_ext4(disk, 0)
    return next(journal_runs(disk, system))[0] - system.block_bytes


def test_an_empty_journal_is_found_but_for_its_head(tmp_path):
    disk = make_ext4(tmp_path / "disk", {"a": b"x"})

    runs = list(journal_runs(disk, read_ext4(disk, 0)))

    content = disk.read_bytes()
    assert content[journal_head(disk) :][:4] == b"\xc0\x3b\x39\x98"
    assert sum(length for _, length in runs) == 1023 * 4096  # mke2fs gives so small a disk 1024 blocks
    assert all(content[start : start + length].count(0) == length for start, length in runs)


def test_a_journal_that_has_something_to_replay_is_left_alone(tmp_path):
    disk = make_ext4(tmp_path / "disk", {"a": b"x"})
    with disk.open("r+b") as file:
        file.seek(journal_head(disk) + 28)
        file.write(b"\0\0\0\1")

    assert list(journal_runs(disk, read_ext4(disk, 0))) == []


@pytest.mark.parametrize("tool", [["tune2fs", "-O", "^has_journal"], ["debugfs", "-w", "-R", "ssv journal_inum 9"]])
def test_what_was_a_journal_is_left_alone(tmp_path, tool):
    require_programs(tool[0])
    disk = make_ext4(tmp_path / "disk", {"a": b"x"})
    subprocess.run([str(Runner().find(tool[0])), *tool[1:], disk], check=True, capture_output=True)

    assert list(journal_runs(disk, read_ext4(disk, 0))) == []


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes(512) + b"EFI PART" + b"\xff" * 2000])
def test_what_is_no_disk_is_one_volume(tmp_path, content):
    disk = tmp_path / "disk"
    disk.write_bytes(content)

    assert len(find_volumes(disk)) == 1
