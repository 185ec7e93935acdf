"""Read a `.utm` bundle that UTM or a user made: what of it a machine of vmkit's can be, and what it cannot."""

from pathlib import Path

from vmkit.bundle.apple_config import AppleConfig, AppleNetworkMode, OperatingSystem
from vmkit.bundle.check import judge
from vmkit.bundle.config import Drive, ImageType, Interface, QemuConfig, decode
from vmkit.bundle.foreign_machine import (
    ForeignDisk,
    ForeignMachine,
    LookAtDisk,
    read_file,
    refuse,
    require_command_line,
    require_cpus,
    require_file,
    require_folder,
    require_hardware_model,
    require_mac,
    require_machine_identifier,
    require_memory,
)
from vmkit.bundle.layout import CONFIG_NAME, DATA_NAME, Bundle
from vmkit.bundle.plist import parse_plist
from vmkit.bundle.plist_values import MAX_BYTES
from vmkit.errors import Refused
from vmkit.host.text import printable

EFI_VARIABLES = "efi_vars.fd"  # UTM's fixed name with the QEMU backend
ARCHES = ("x86_64", "aarch64")
TARGETS = {"x86_64": ("q35", "pc"), "aarch64": ("virt",)}

_INTERFACES = (Interface.VIRTIO, Interface.IDE, Interface.NVME, Interface.SCSI)
_SUSPENDED = "vmstate"
_MAX_DISKS = 8


def read_utm_machine(path: Path, *, look: LookAtDisk) -> ForeignMachine:
    """Return the machine in a bundle. Raises Refused for what UTM would not load, or we could not run."""
    content = read_file(path / CONFIG_NAME, of=path, max_bytes=MAX_BYTES)
    verdict = judge(content)
    if not verdict.loads:
        problem = verdict.problems[0]
        raise refuse(
            path, f"UTM would not load it: {problem.problem} {problem.path}".rstrip(), hint="vmkit bundle check"
        )
    require_folder(path / DATA_NAME, of=path)
    if (path / DATA_NAME / _SUSPENDED).exists():
        raise refuse(path, "it is suspended", hint="start it in UTM and shut it down")
    config = decode(parse_plist(content))
    if isinstance(config, QemuConfig):
        return _Qemu(path, config, look).machine()
    return _Apple(path, config, look).machine()


class _Files:
    """Find a bundle's files by the names that its configuration gives them."""

    def __init__(self, path: Path, look: LookAtDisk) -> None:
        self.path, self._look = path, look

    def file(self, name: str | None, what: str) -> Path:
        if name is None:
            raise refuse(self.path, f"it names no {what}")
        try:
            found = Bundle(self.path).file(name)
        except Refused as error:
            raise refuse(self.path, error.message) from error
        return require_file(found, of=self.path)

    def disk(self, name: str | None, *, interface: str = "VirtIO") -> ForeignDisk:
        found = self.file(name, "file for its disk")
        disk_format, size = self._look(found)
        return ForeignDisk(path=found, format=disk_format, virtual_bytes=size, interface=interface)

    def require_disks(self, disks: list[ForeignDisk]) -> tuple[ForeignDisk, ...]:
        if not disks:
            raise refuse(self.path, "it has no disk")
        if len(disks) > _MAX_DISKS or len({disk.path for disk in disks}) != len(disks):
            raise refuse(self.path, f"it has more than {_MAX_DISKS} disks, or one of them twice")
        return tuple(disks)


class _Qemu:
    def __init__(self, path: Path, config: QemuConfig, look: LookAtDisk) -> None:
        self.path, self.config, self.files = path, config, _Files(path, look)
        self.dropped: list[str] = []

    def machine(self) -> ForeignMachine:
        config, path = self.config, self.path
        self._require_possible()
        loaded = {drive.image_type: drive for drive in config.drive if not drive.is_medium and drive.image_name}
        disks = self.files.require_disks([self._disk(drive) for drive in config.drive if self._is_disk(drive)])
        direct = ImageType.KERNEL in loaded
        boot = "direct" if direct else "uefi" if config.qemu.uefi_boot else "bios"
        arguments = self._arguments(direct=direct)
        variables = path / DATA_NAME / EFI_VARIABLES
        keeps_variables = boot == "uefi" and (variables.exists() or variables.is_symlink())
        self._note_the_rest()
        return ForeignMachine(
            kind="utm",
            path=path,
            name=config.information.name,
            uuid=config.information.uuid,
            backend="qemu",
            system="linux",
            arch=config.system.architecture,
            cpus=require_cpus(config.system.cpu_count, of=path),
            memory_mib=require_memory(config.system.memory_mib, of=path),
            mac=require_mac(config.network[0].mac_address if config.network else None, of=path),
            disks=disks,
            boot=boot,
            firmware=self.files.disk(EFI_VARIABLES).path if keeps_variables else None,
            kernel=self.files.file(loaded[ImageType.KERNEL].image_name, "kernel") if direct else None,
            initrd=self.files.file(loaded[ImageType.INITRD].image_name, "initrd")
            if direct and ImageType.INITRD in loaded
            else None,
            command_line=arguments,
            dropped=tuple(self.dropped),
        )

    def _require_possible(self) -> None:
        """Refuse what vmkit does not know how to run; nobody would thank us for a machine that does not boot."""
        config, path = self.config, self.path
        system = config.system
        if system.architecture not in ARCHES:
            raise refuse(
                path, f"its architecture is {printable(system.architecture)}", hint=f"one of: {', '.join(ARCHES)}"
            )
        if not system.target.startswith(TARGETS[system.architecture]):
            raise refuse(
                path, f"its board is {printable(system.target)}", hint=f"one of: {TARGETS[system.architecture]}"
            )
        if (config.information.icon or "").startswith("windows"):
            raise refuse(path, "it is a Windows machine: vmkit needs a guest with sshd and sh")
        if config.qemu.tpm_device:
            raise refuse(path, "it has a TPM, and with it secure boot", hint="switch the TPM off in UTM's settings")
        for drive in config.drive:
            if drive.image_type in (ImageType.BIOS, ImageType.DEVICE_TREE) and drive.image_name:
                raise refuse(path, f"it brings a {drive.image_type} of its own")
            if self._is_disk(drive) and drive.interface not in _INTERFACES:
                raise refuse(path, f"a disk is attached by {drive.interface}", hint=f"one of: {', '.join(_INTERFACES)}")

    @staticmethod
    def _is_disk(drive: Drive) -> bool:
        return drive.image_type is ImageType.DISK and drive.image_name is not None

    def _disk(self, drive: Drive) -> ForeignDisk:
        found = self.files.disk(drive.image_name, interface=drive.interface)
        if found.format not in ("qcow2", "raw"):
            raise refuse(self.path, f"its disk is {found.format}, which QEMU does not read")
        return found

    def _arguments(self, *, direct: bool) -> str | None:
        """Return the kernel's command line. Other arguments of QEMU's could open any file of this computer."""
        arguments = self.config.qemu.extra_arguments
        if not arguments:
            return None
        if not direct or len(arguments) != 2 or arguments[0] != "-append":
            raise refuse(
                self.path, f"it has arguments for QEMU: {printable(' '.join(arguments), max_chars=120)}",
                hint="remove them in UTM's settings: vmkit writes its own",
            )  # fmt: skip
        return require_command_line(arguments[1], of=self.path)

    def _note_the_rest(self) -> None:
        config = self.config
        removable = sum(drive.is_medium and not self._is_disk(drive) for drive in config.drive)
        for count, what in (
            (removable, "CD and removable drives"),
            (len(config.display), "displays: it runs headless"),
            (len(config.sound), "sound cards"),
            (len(config.network) - 1, "further network cards"),
            (config.network[0].mode != "Emulated" if config.network else 0, "its network: it gets an emulated one"),
        ):
            if count > 0:
                self.dropped.append(what)


class _Apple:
    def __init__(self, path: Path, config: AppleConfig, look: LookAtDisk) -> None:
        self.path, self.config, self.files = path, config, _Files(path, look)

    def machine(self) -> ForeignMachine:
        config, path = self.config, self.path
        boot, platform = config.system.boot, config.system.mac_platform
        is_mac = boot.operating_system is OperatingSystem.MACOS
        if config.system.architecture not in ARCHES or (is_mac and config.system.architecture != "aarch64"):
            raise refuse(path, f"its architecture is {printable(config.system.architecture, max_chars=40)}")
        if boot.operating_system is OperatingSystem.NONE or (is_mac and platform is None):
            raise refuse(path, "it names no operating system that it could boot")
        disks = self.files.require_disks(
            [self._disk(drive.image_name) for drive in config.drive if drive.image_name and not drive.read_only]
        )
        uefi = not is_mac and boot.uefi_boot and boot.efi_variables is not None
        direct = not is_mac and not uefi
        firmware = (platform.auxiliary_storage or "AuxiliaryStorage") if platform and is_mac else boot.efi_variables
        return ForeignMachine(
            kind="utm",
            path=path,
            name=config.information.name,
            uuid=config.information.uuid,
            backend="apple",
            system="macos" if is_mac else "linux",
            arch=config.system.architecture,
            cpus=require_cpus(config.system.cpu_count, of=path),
            memory_mib=require_memory(config.system.memory_mib, of=path),
            mac=require_mac(config.network[0].mac_address if config.network else None, of=path),
            disks=disks,
            boot="mac" if is_mac else "uefi" if uefi else "direct",
            firmware=None if direct else self.files.file(firmware, "firmware"),
            kernel=self.files.file(boot.linux_kernel, "kernel") if direct else None,
            initrd=self.files.file(boot.linux_initrd, "initrd") if direct and boot.linux_initrd else None,
            command_line=require_command_line(boot.linux_command_line or "", of=path) if direct else None,
            hardware_model=require_hardware_model(platform.hardware_model, of=path) if is_mac and platform else None,
            machine_identifier=require_machine_identifier(platform.machine_identifier, of=path)
            if is_mac and platform
            else None,
            dropped=self._dropped(),
        )

    def _disk(self, name: str) -> ForeignDisk:
        found = self.files.disk(name)
        if found.format == "qcow2":
            raise refuse(self.path, "its disk is qcow2, which Apple's framework does not read")
        return found

    def _dropped(self) -> tuple[str, ...]:
        config = self.config
        bridged = bool(config.network) and config.network[0].mode is not AppleNetworkMode.SHARED
        shares = bool(config.shared_directories)
        media = any(drive.read_only or not drive.image_name for drive in config.drive)
        found = {
            "its bridged network: it gets UTM's shared one": bridged,
            "further network cards": len(config.network) > 1,
            "shared folders": shares,
            "CD and removable drives": media,
        }
        return tuple(what for what, is_there in found.items() if is_there)
