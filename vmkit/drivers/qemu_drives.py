"""The drives of `config.plist` as QEMU arguments, as UTM writes them, with the format said instead of probed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vmkit.bundle.config import Drive, ImageType, Interface, QemuConfig
from vmkit.bundle.layout import Bundle
from vmkit.errors import Refused

QCOW2_MAGIC = b"QFI\xfb"

_LOADED = {
    ImageType.BIOS: "-bios",
    ImageType.KERNEL: "-kernel",
    ImageType.INITRD: "-initrd",
    ImageType.DEVICE_TREE: "-dtb",
}
_SERIAL_CHARS = 20  # what virtio-blk can hold


@dataclass
class _Buses:
    """What the drives before have taken."""

    boot: int = 0
    units: dict[Interface, int] = field(default_factory=dict)

    def take(self, interface: Interface) -> int:
        unit = self.units.get(interface, 0)
        self.units[interface] = unit + 1
        return unit

    def bootindex(self) -> str:
        self.boot += 1
        return f"bootindex={self.boot - 1}"


def drive_arguments(config: QemuConfig, *, data: Path, instead: Mapping[str, Path] | None = None) -> list[str]:
    """Return the arguments for every drive, in order: the order is the boot order.

    `instead`: files to use in place of the bundle's, by the drive's identifier.
    Raises Refused for an interface that is not for drives of this machine, or an identifier that is no word.
    """
    # On a PC the code that loads -kernel is an option ROM, and takes boot index 0 (hw/i386/x86.c).
    loads_kernel = any(drive.image_type is ImageType.KERNEL and not drive.is_medium for drive in config.drive)
    buses = _Buses(boot=int(loads_kernel and config.system.architecture in ("x86_64", "i386")))
    bundle = Bundle(data.parent)
    arguments: list[str] = []
    for drive in config.drive:
        file = bundle.file(drive.file_name) if drive.file_name is not None else None
        file = (instead or {}).get(drive.identifier, file)
        if drive.is_medium:
            arguments += _medium(config, drive, file, buses)
        elif drive.image_type in _LOADED and file is not None:
            arguments += [_LOADED[drive.image_type], _absolute(file)]
    return arguments


def has_own_boot_code(config: QemuConfig) -> bool:
    """Tell whether a drive brings what boots, so that UEFI is left out, as UTM does."""
    return any(
        drive.interface is Interface.PFLASH
        if drive.is_medium
        else drive.image_type in (ImageType.BIOS, ImageType.KERNEL)
        for drive in config.drive
    )


def escaped(path: Path) -> str:
    """Return a path as the value of a QEMU option: absolute, its commas doubled. Raises Refused."""
    return _absolute(path).replace(",", ",,")


def _absolute(path: Path) -> str:
    text = str(path.absolute())
    if not all(character.isprintable() or character.isspace() for character in text) or "\n" in text:
        raise Refused(f'the path "{text[:80]!r}" cannot be given to QEMU')
    return text


def _medium(config: QemuConfig, drive: Drive, file: Path | None, buses: _Buses) -> list[str]:
    identifier = f"drive{drive.identifier}"
    if not drive.identifier.replace("-", "a").replace("_", "a").isalnum() or not identifier.isascii():
        raise Refused(f'Drive.Identifier "{drive.identifier[:60]}" holds more than letters, digits, - and _')
    cd = drive.image_type is ImageType.CD and drive.interface is not Interface.FLOPPY
    device = _device(config, drive, identifier, cd, buses)
    attached = {Interface.SD: "sd", Interface.MTD: "mtd", Interface.PFLASH: "pflash", Interface.FLOPPY: "floppy"}
    backend = "none" if device else attached.get(drive.interface, "none")
    read_only = drive.read_only or cd
    # fmt: off
    options = [
        f"if={backend}", f"media={'cdrom' if cd else 'disk'}", f"id={identifier}",
        *_file(file, read_only=read_only, cd=cd),
        *(["readonly=on"] if read_only else ["discard=unmap", "detect-zeroes=unmap"]),
    ]
    # fmt: on
    return [*device, "-drive", ",".join(options)]


def _file(file: Path | None, *, read_only: bool, cd: bool) -> list[str]:
    """Name the backing file, and its format: what the host made, not what a guest may have written into a raw disk."""
    if file is None:  # a removable drive, whose file only UTM knows
        return [] if cd else ["file.filename=/dev/null", "format=raw"]
    locking = ["file.locking=off"] if read_only else []
    return [f"file.filename={escaped(file)}", f"format={_format(file)}", *locking]


def _format(file: Path) -> str:
    """Return the format by the name that vmkit and UTM give: `.qcow2` is qcow2; else it is raw, whatever it holds."""
    if file.suffix == ".qcow2":
        return "qcow2"
    return "raw"


def _device(config: QemuConfig, drive: Drive, identifier: str, cd: bool, buses: _Buses) -> list[str]:  # noqa: FBT001  # private
    system = config.system
    interface = drive.interface
    if interface is Interface.VIRTIO:
        model = {"s390x": "virtio-blk-ccw", "m68k": "virtio-blk-device"}.get(system.architecture, "virtio-blk-pci")
        serial = drive.identifier.replace("-", "")[:_SERIAL_CHARS]
        return ["-device", f"{model},drive={identifier},serial={serial},{buses.bootindex()}"]
    if interface is Interface.NVME:
        return ["-device", f"nvme,drive={identifier},serial={drive.identifier},{buses.bootindex()}"]
    if interface is Interface.USB:
        removable = "true" if cd or drive.image_name is None else "false"
        bus = ",bus=usb-bus.0" if system.target.startswith("virt") else ""
        return ["-device", f"usb-storage,drive={identifier},removable={removable},{buses.bootindex()}{bus}"]
    if interface is Interface.IDE:
        unit = buses.take(interface)
        # A PC's chipset has one unit for each bus; so had every machine before version 1 of the interface.
        single = system.architecture in ("x86_64", "i386") or drive.interface_version < 1
        bus = f"bus=ide.{unit}" if single else f"bus=ide.{unit // 2},unit={unit % 2}"
        return ["-device", f"{'ide-cd' if cd else 'ide-hd'},{bus},drive={identifier},{buses.bootindex()}"]
    if interface is Interface.SCSI:
        unit = buses.take(interface)
        controller = ["-device", "lsi53c895a,id=scsi0"] if unit == 0 else []
        model = "scsi-cd" if cd else "scsi-hd"
        target = f"bus=scsi0.0,channel=0,scsi-id={unit}"
        return [*controller, "-device", f"{model},{target},drive={identifier},{buses.bootindex()}"]
    return []
