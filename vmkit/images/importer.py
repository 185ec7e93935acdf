"""Bring in a disk file that somebody else made: qcow2 or raw, looked at before any program opens it."""

from pathlib import Path

from vmkit.errors import NotFound, Refused, UsageError
from vmkit.host.computer import machine_arch
from vmkit.host.files import own_directory, staging
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.text import printable
from vmkit.images.disk import flatten, read_info, require_sound
from vmkit.images.layout import MAX_VIRTUAL_BYTES, Boot, Image, ImageMeta, now, parse_reference
from vmkit.images.qcow2 import read_header, sniff_format
from vmkit.images.store import ImageStore


def import_image(
    file: Path,
    reference: str,
    *,
    store: ImageStore,
    runner: Runner,
    report: Report,
    boot: str = Boot.UEFI,
    arch: str | None = None,
    user: str = "agent",
    release: str | None = None,
) -> Image:
    """Store a disk file as an image that boots by its own firmware. `user` is whom its cloud-init or vmkit makes.

    `release` says what the file is, when it is known.
    Raises NotFound, UsageError, Refused for a file that is not what vmkit takes, HostLacks when there is no space.
    """
    name = parse_reference(reference)
    if not file.exists():
        raise NotFound(f'there is no file "{printable(str(file))}"')
    if boot not in (Boot.UEFI, Boot.BIOS):
        raise UsageError(f'an imported disk cannot boot by "{printable(boot)}"', hint="use uefi or bios")
    disk_format = sniff_format(file)
    virtual_bytes = read_header(file).virtual_bytes if disk_format == "qcow2" else _raw_size(file)
    seen = read_info(file, source_format=disk_format, runner=runner)
    if (seen.format, seen.virtual_bytes) != (disk_format, virtual_bytes):
        raise Refused(f'qemu-img and vmkit do not read "{file.name}" alike', detail=f"{seen}, {virtual_bytes}")
    if disk_format == "qcow2":
        require_sound(file, runner=runner)
    meta = ImageMeta(
        arch=arch or machine_arch(),
        boot=Boot(boot),
        user=user,
        created=now(),
        release=release or f"imported from {_plain(file.name)}",
    )
    own_directory(store.root)
    with staging(store.root / "staging") as stage:
        raw = stage / "disk.raw"
        flatten(file, source_format=disk_format, target=raw, runner=runner, report=report, max_bytes=MAX_VIRTUAL_BYTES)
        return store.add(name, disk=raw, meta=meta, report=report)


def _raw_size(file: Path) -> int:
    size = file.stat().st_size
    if size == 0 or size % 512 or size > MAX_VIRTUAL_BYTES:
        raise Refused(f'"{file.name}" cannot be a raw disk', detail=f"{size} bytes: not a whole number of sectors")
    return size


def _plain(name: str) -> str:
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in name)[:100]
