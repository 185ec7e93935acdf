"""What qemu-img does for us. Formats are always said, never guessed: a guest could write a header into a raw disk."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import Refused, UsageError
from vmkit.host.files import require_space
from vmkit.host.process import QUICK_S, SLOW_S, Runner
from vmkit.host.report import Report
from vmkit.host.sizes import show_size
from vmkit.host.text import printable_lines
from vmkit.images.layout import MAX_VIRTUAL_BYTES
from vmkit.images.qcow2 import read_header

_FORMATS = ("raw", "qcow2")
_LEAKED = 3  # exit code of qemu-img check
_SMALL_BYTES, _MAX_RATIO = 64 << 20, 200  # a system compresses to a third; pages of one letter to a thousandth
_MEMORY_BYTES = 2 << 30  # qemu-img needs a few hundred MiB; a hostile image should get no more than this


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskInfo:
    """What qemu-img says of a disk."""

    format: str
    virtual_bytes: int


def create_overlay(base: Path, *, base_format: str, target: Path, size_bytes: int, runner: Runner) -> None:
    """Make `target` a qcow2 child of `base`, which it finds by a relative path, so that both may move together.

    Raises UsageError when `size_bytes` is less than the base has.
    """
    base_bytes = read_header(base).virtual_bytes if _known(base_format) == "qcow2" else base.stat().st_size
    _require_fits(size_bytes, base_bytes)
    backing = os.path.relpath(base, target.parent)
    if "/" not in backing:
        backing = f"./{backing}"  # lest a colon in the name be taken for a protocol
    # fmt: off
    runner.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", base_format, "-b", backing,
                str(target.absolute()), str(size_bytes)], timeout_s=QUICK_S)
    # fmt: on


def create_child(disk: Path, *, target: Path, runner: Runner) -> None:
    """Make `target` a qcow2 child of `disk`, one of our own stopped machines' qcow2 disks, which is not written to."""
    backing = str(disk.absolute())
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing, str(target.absolute())]
    runner.run(argv, timeout_s=QUICK_S)


def create_blank(target: Path, *, size_bytes: int, runner: Runner) -> None:
    """Make `target` an empty qcow2 disk."""
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", str(target.absolute()), str(size_bytes)]
    runner.run(argv, timeout_s=QUICK_S)


def create_standalone(base: Path, *, target: Path, size_bytes: int, runner: Runner) -> None:
    """Make `target` a qcow2 copy of the raw disk `base` that needs no other file.

    Raises UsageError when `size_bytes` is less than the base has, HostLacks when its data has no room.
    """
    _require_fits(size_bytes, base.stat().st_size)
    needed = measure(base, source_format="raw", runner=runner)
    require_space(target.parent, needed_bytes=needed, what="a copy of the image")
    source, copy = str(base.absolute()), str(target.absolute())
    runner.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", source, copy], timeout_s=SLOW_S)
    runner.run(["qemu-img", "resize", "-q", "-f", "qcow2", copy, str(size_bytes)], timeout_s=QUICK_S)


def read_info(source: Path, *, source_format: str, runner: Runner) -> DiskInfo:
    """Return what qemu-img sees. Raises Refused when that is another file too."""
    argv = ["qemu-img", "info", "--output=json", "-f", _known(source_format), str(source.absolute())]
    said = json.loads(runner.run(limited(argv, runner), timeout_s=QUICK_S).stdout)
    data = said.get("format-specific", {}).get("data", {})
    if "backing-filename" in said or "data-file" in data or said.get("encrypted"):
        raise Refused(f'"{source.name}" refers to other files or is encrypted')
    return DiskInfo(format=said["format"], virtual_bytes=int(said["virtual-size"]))


def require_sound(source: Path, *, runner: Runner) -> None:
    """Raise Refused for a foreign qcow2 file whose tables lead out of it, or which would unpack to far more than it is.

    Its header has been checked. Clusters that nothing refers to do no harm.
    """
    argv = ["qemu-img", "check", "-f", "qcow2", str(source.absolute())]
    done = runner.run(limited(argv, runner), timeout_s=SLOW_S, ok_codes=None)
    if done.code not in (0, _LEAKED):
        said = printable_lines(done.stderr or done.stdout, max_lines=4)
        hint = "qemu-img check -r all repairs some, on your own side"
        raise Refused(f'"{source.name}" is damaged', detail="\n".join(said), hint=hint)
    needed, size = measure(source, source_format="qcow2", runner=runner), source.stat().st_size
    if needed > max(_SMALL_BYTES, _MAX_RATIO * size):
        raise Refused(f'"{source.name}" would unpack from {show_size(size)} to {show_size(needed)}')


def measure(source: Path, *, source_format: str, runner: Runner) -> int:
    """Return the bytes that the disk's data would take as a new qcow2 file."""
    argv = ["qemu-img", "measure", "--output=json", "-f", _known(source_format), "-O", "qcow2", str(source.absolute())]
    return int(json.loads(runner.run(limited(argv, runner), timeout_s=SLOW_S).stdout)["required"])


def flatten(
    source: Path,
    *,
    source_format: str,
    target: Path,
    runner: Runner,
    report: Report,
    max_bytes: int = MAX_VIRTUAL_BYTES,
) -> int:
    """Copy any disk to a raw file with holes and return its size. The caller has checked a foreign disk's header.

    Raises Refused when it is larger than `max_bytes`, HostLacks when its data has no room, TimedOut, ToolFailed.
    """
    size = read_info_with_backing(source, source_format=source_format, runner=runner)
    if size > max_bytes:
        raise Refused(f"the disk has {show_size(size)}, more than the {show_size(max_bytes)} allowed")
    needed = min(size, measure(source, source_format=source_format, runner=runner))
    require_space(target.parent, needed_bytes=needed, what="a copy of the disk")
    # fmt: off
    argv = ["qemu-img", "convert", "-f", source_format, "-O", "raw", "-S", "64k", "-t", "writeback",
            str(source.absolute()), str(target.absolute())]
    # fmt: on
    try:
        with report.phase("flatten", "Copying the disk"):
            runner.run(limited(argv, runner, file_bytes=size), timeout_s=SLOW_S)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return size


def read_info_with_backing(source: Path, *, source_format: str, runner: Runner) -> int:
    """Return the virtual size of one of our own disks, which may be a child."""
    argv = ["qemu-img", "info", "--output=json", "-f", _known(source_format), str(source.absolute())]
    return int(json.loads(runner.run(limited(argv, runner), timeout_s=QUICK_S).stdout)["virtual-size"])


def _require_fits(size_bytes: int, base_bytes: int) -> None:
    if size_bytes < base_bytes:
        raise UsageError(
            f"a disk of {show_size(size_bytes)} is smaller than its image of {show_size(base_bytes)}",
            hint=f"ask for at least {-(-base_bytes // 2**30)} GiB",
        )


def _known(disk_format: str) -> str:
    if disk_format not in _FORMATS:
        raise UsageError(f'"{disk_format}" is not a disk format vmkit uses', hint="qcow2 or raw")
    return disk_format


def limited(argv: list[str], runner: Runner, *, file_bytes: int = 0) -> list[str]:
    """Bound what a program that reads a guest's disk may take, where `prlimit` is (Linux)."""
    prlimit = runner.find("prlimit")
    if not prlimit:
        return argv
    return [str(prlimit), f"--as={_MEMORY_BYTES}", f"--fsize={file_bytes}", "--core=0", "--", *argv]
