"""Machines of other programs, made by hand after their documented formats, small enough to be read in a test."""

import base64
import hashlib
import json
import os
import plistlib
import struct
from pathlib import Path
from typing import Any

from vmkit.testing.bundle import idle_config

HARDWARE_MODEL = plistlib.dumps(
    {"DataRepresentationVersion": 1, "PlatformVersion": 2, "MinimumSupportedOS": [13, 0, 0]},
    fmt=plistlib.FMT_BINARY,
)
MACHINE_IDENTIFIER = plistlib.dumps({"ECID": 0x1F71FB04CB08}, fmt=plistlib.FMT_BINARY)
DISK_BYTES = 1 << 20


def raw_disk(path: Path, *, size: int = DISK_BYTES, content: bytes = b"a guest's data") -> Path:
    with path.open("wb") as file:
        file.write(content)
        file.truncate(size)
    return path


def qcow2_disk(path: Path, *, backing: bytes = b"", size: int = DISK_BYTES) -> Path:
    """Write an empty qcow2 of version 3, with the name of a backing file in its header when `backing` is given."""
    values = (b"QFI\xfb", 3, 0x200 if backing else 0, len(backing), 16, size, 0, 1, 0x30000, 0x10000, 1, 0, 0)
    header = struct.pack(">4sIQIIQIIQQIIQ", *values) + struct.pack(">QQQII", 0, 0, 0, 4, 104)
    content = bytearray(0x40000)
    content[: len(header)] = header
    content[0x200 : 0x200 + len(backing)] = backing
    content[0x10000:0x10008] = struct.pack(">Q", 0x20000)  # the refcount table: one block, and in it the four clusters
    content[0x20000:0x20008] = struct.pack(">4H", 1, 1, 1, 1)
    path.write_bytes(content)
    return path


def asif_disk(path: Path, *, size: int = DISK_BYTES) -> Path:
    path.write_bytes(struct.pack(">4s44xQ12xH", b"shdw", size // 512, 512).ljust(4096, b"\0"))
    return path


def utm_config(**changes: Any) -> dict[str, Any]:
    """Return the `config.plist` of a Debian that somebody installed by hand in UTM."""
    config = idle_config("My Debian", port=2222)
    config["System"] |= {"Target": "q35", "MemorySize": 2048, "CPUCount": 2}
    config["QEMU"] |= {"UEFIBoot": True}
    config["Drive"] = [
        {"Identifier": "disk0", "ImageName": "disk.qcow2", "ImageType": "Disk", "Interface": "VirtIO"},
        {"Identifier": "cd0", "ImageType": "CD", "Interface": "USB", "ReadOnly": True},
    ]
    config["Network"][0] |= {"Mode": "Shared", "PortForward": []}
    config["Sound"] = [{"Hardware": "intel-hda"}]
    return config | changes


def utm_bundle(folder: Path, *, name: str = "My Debian", config: dict[str, Any] | None = None) -> Path:
    """Write a bundle of UTM's QEMU backend: a qcow2 disk, UEFI variables, what UTM leaves beside them."""
    bundle = folder / f"{name}.utm"
    (bundle / "Data").mkdir(parents=True)
    (bundle / "config.plist").write_bytes(plistlib.dumps(config or utm_config()))
    (bundle / "screenshot.png").write_bytes(b"\x89PNG")
    qcow2_disk(bundle / "Data" / "disk.qcow2")
    qcow2_disk(bundle / "Data" / "efi_vars.fd", size=540672)
    return bundle


def apple_bundle(folder: Path, *, sample: Path, name: str = "My Mac") -> Path:
    """Write a bundle of UTM's Apple backend around a `config.plist`."""
    bundle = folder / f"{name}.utm"
    (bundle / "Data").mkdir(parents=True)
    (bundle / "config.plist").write_bytes(sample.read_bytes())
    raw_disk(bundle / "Data" / "disk.img")
    for file in ("AuxiliaryStorage", "efi_vars.fd"):
        (bundle / "Data" / file).write_bytes(b"firmware")
    return bundle


def tart_config(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "os": "darwin",
        "arch": "arm64",
        "ecid": base64.b64encode(MACHINE_IDENTIFIER).decode(),
        "hardwareModel": base64.b64encode(HARDWARE_MODEL).decode(),
        "cpuCount": 4,
        "cpuCountMin": 4,
        "memorySize": 4 << 30,
        "memorySizeMin": 4 << 30,
        "macAddress": "7e:3:a4:5:b6:7",
        "display": {"width": 1024, "height": 768},
        "diskFormat": "raw",
    } | changes


def lume_config(**changes: Any) -> dict[str, Any]:
    return {
        "os": "macOS",
        "cpuCount": 4,
        "memorySize": 8 << 30,
        "diskSize": DISK_BYTES,
        "macAddress": "7e:03:a4:05:b6:08",
        "display": "1024x768",
        "hardwareModel": base64.b64encode(HARDWARE_MODEL).decode(),
        "machineIdentifier": base64.b64encode(MACHINE_IDENTIFIER).decode(),
        "networkMode": "nat",
    } | changes


def json_machine(folder: Path, config: dict[str, Any], *, name: str = "sonoma") -> Path:
    """Write a machine's folder as tart and lume lay it out."""
    machine = folder / name
    machine.mkdir(parents=True)
    (machine / "config.json").write_text(json.dumps(config, indent=2))
    raw_disk(machine / "disk.img")
    (machine / "nvram.bin").write_bytes(b"nvram")
    return machine


def digest(folder: Path) -> str:
    """Return a digest of every name, kind, mode, time and byte under `folder`: what must not change."""
    seen = hashlib.sha256()
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        seen.update(f"{path} {status.st_mode} {status.st_mtime_ns} {status.st_size}\0".encode())
        if path.is_symlink():
            seen.update(os.fsencode(os.readlink(path)))
        elif path.is_file():
            seen.update(path.read_bytes())
    return seen.hexdigest()
