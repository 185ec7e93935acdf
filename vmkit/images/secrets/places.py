"""Say what lies where something was found: a file's name, free space, swap, the journal."""

import re
from collections.abc import Iterable
from pathlib import Path

from vmkit.errors import VmkitError
from vmkit.host.process import SLOW_S, Runner
from vmkit.host.text import printable
from vmkit.images.disk import limited
from vmkit.images.secrets.scan import Finding
from vmkit.images.volumes import Content, Ext4, Volume, find_volumes, free_runs, read_ext4

_JOURNAL = 8  # its inode
_PAIR = re.compile(r"(\d+)\t(.+)")


def locate(findings: Iterable[Finding], disk: Path, *, runner: Runner) -> dict[int, str]:
    """Return for each finding's offset where in the guest that is, printable; as much as can be told.

    debugfs reads what the guest wrote: only here, after something was found, and bounded where `prlimit` is.
    """
    offsets = sorted({finding.offset for finding in findings})
    told: dict[int, str] = {}
    for volume in find_volumes(disk):
        inside = [offset for offset in offsets if volume.offset <= offset < volume.offset + volume.length]
        if volume.content is Content.SWAP:
            told |= dict.fromkeys(inside, "swap")
        elif volume.content is Content.EXT4 and inside:
            told |= _in_ext4(inside, disk, volume, runner)
        elif volume.number:
            told |= dict.fromkeys(inside, f"partition {volume.number}")
    return {offset: told.get(offset, "outside any file system") for offset in offsets}


def _in_ext4(offsets: list[int], disk: Path, volume: Volume, runner: Runner) -> dict[int, str]:
    system = read_ext4(disk, volume.offset)
    if system is None:
        return dict.fromkeys(offsets, "a file system that cannot be read")
    told = dict.fromkeys(_free(offsets, disk, system), "free space")
    used = {offset: (offset - volume.offset) // system.block_bytes for offset in offsets if offset not in told}
    if not used:
        return told
    target = f"{disk.absolute()}?offset={volume.offset}" if volume.offset else str(disk.absolute())
    try:
        inodes = _ask(target, "icheck", used.values(), runner)
        wanted = {int(inode) for inode in inodes.values() if inode.isdecimal()}
        paths = _ask(target, "ncheck", wanted - {_JOURNAL}, runner)
    except VmkitError:  # there is no debugfs, or it fails on what the guest wrote
        return told | dict.fromkeys(used, "a file whose name cannot be told")
    for offset, block in used.items():
        inode = inodes.get(block, "")
        if inode == str(_JOURNAL):
            told[offset] = "the file system's journal"
        elif not inode.isdecimal():
            told[offset] = "the file system's own blocks"
        else:
            told[offset] = _shown(paths.get(int(inode)), inode)
    return told


def _shown(path: str | None, inode: str) -> str:
    if path is None:
        return f"a file without a name (inode {inode})"
    return printable("/" + path.lstrip("/"), max_chars=300)  # debugfs begins some with two


def _free(offsets: list[int], disk: Path, system: Ext4) -> list[int]:
    runs = [(start, start + length) for start, length in free_runs(disk, system)]
    return [offset for offset in offsets if any(start <= offset < end for start, end in runs)]


def _ask(target: str, verb: str, numbers: Iterable[int], runner: Runner) -> dict[int, str]:
    """Return what debugfs answers: lines of a number, a tab and an inode or a path."""
    words = " ".join(str(number) for number in sorted(set(numbers)))
    if not words:
        return {}
    argv = limited(["debugfs", "-R", f"{verb} {words}", target], runner)
    lines = runner.run(argv, timeout_s=SLOW_S).stdout.decode("utf-8", "surrogateescape").split("\n")
    return {int(match[1]): match[2] for match in map(_PAIR.fullmatch, lines) if match}
