"""Render a machine of UTM's Apple backend, and compare the result with what was meant, before anything is written.

Virtualization.framework has no emulated network and forwards no ports: such a machine cannot be closed in.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from vmkit.bundle.apple_config import (
    AppleDrive,
    AppleNetwork,
    AppleNetworkMode,
    AppleSerial,
    AppleSerialMode,
    OperatingSystem,
    Pointer,
)
from vmkit.bundle.config import AppleConfig
from vmkit.bundle.filled import believe, fill, require_meant, require_names, unfit
from vmkit.bundle.layout import Rendered
from vmkit.bundle.mac_platform import (
    generic_identifier,
    hardware_model,
    machine_identifier,
    read_generic_identifier,
    read_hardware_model,
    read_machine_identifier,
)
from vmkit.bundle.template import Template
from vmkit.errors import UsageError

AUXILIARY_STORAGE = "AuxiliaryStorage"  # the names that UTM gives these files
EFI_VARIABLES = "efi_vars.fd"
ARCHES = ("x86_64", "aarch64")
BOOTS = ("macos", "uefi", "direct")


@dataclass(frozen=True, kw_only=True)
class AppleValues:
    """What a bundle is made of. File names are names in `Data/`; `boot` is macos, uefi or direct.

    `machine_identifier` is a Mac's for macos, else a generic one; `hardware_model` is a Mac's alone.
    """

    name: str
    uuid: str
    mac: str
    arch: str
    cpus: int
    memory_mib: int
    boot: str
    disk_identifier: str
    disk_name: str
    machine_identifier: bytes
    hardware_model: bytes | None = None
    seed_name: str | None = None
    kernel_arguments: str | None = None
    kernel_name: str | None = None
    initrd_name: str | None = None
    options: Mapping[str, str | int | bool] = field(default_factory=dict)

    @property
    def drives(self) -> tuple[AppleDrive, ...]:
        """The drives: the disk, and for Linux the seed."""
        seed = [_drive("seed", self.seed_name, read_only=True)] if self.seed_name else []
        return (_drive(self.disk_identifier, self.disk_name, read_only=False), *seed)

    @property
    def rosetta(self) -> bool:
        """Whether Rosetta is offered to a Linux guest, for programs built for Intel."""
        return self.options.get("rosetta") is True


def example_apple_values(template: Template, *, arch: str, boot: str) -> AppleValues:
    """Return made-up values with the template's defaults: what `template check` renders."""
    linux, direct = boot != "macos", boot == "direct"
    return AppleValues(
        name="example",
        uuid="6F9619FF-8B86-4D01-B42D-00CF4FC964FF",
        mac="52:54:00:12:34:56",
        arch=arch,
        cpus=template.cpus,
        memory_mib=template.memory_mib,
        boot=boot,
        disk_identifier="11111111-2222-3333-4444-555555555555",
        disk_name="11111111-2222-3333-4444-555555555555.img",
        machine_identifier=generic_identifier(bytes(range(16))) if linux else machine_identifier(0x1234567890ABCDEF),
        hardware_model=None if linux else hardware_model((15,)),
        seed_name="seed.iso" if linux else None,
        kernel_arguments="root=LABEL=root console=hvc0 quiet" if direct else None,
        kernel_name="vmlinuz" if direct else None,
        initrd_name="initrd.img" if direct else None,
        options={name: option.default for name, option in template.options.items()},
    )


def render_apple(template: Template, values: AppleValues) -> Rendered:
    """Render `template` with `values`, and make sure that the result says just that to UTM.

    Raises UsageError with the template's file and the reason, Refused for an identity that cannot be decoded.
    """
    _check_values(values)
    names = {
        "machine": values,
        "drives": values.drives,
        "hardware_model": _base64(values.hardware_model),
        "machine_identifier": _base64(values.machine_identifier),
        "auxiliary_storage": AUXILIARY_STORAGE,
        "efi_variables": EFI_VARIABLES,
    }
    content = fill(template, {**values.options, **names})
    config = believe(template, content)
    if not isinstance(config, AppleConfig):
        raise unfit(template, f"{template.config_file} is of UTM's QEMU backend")
    require_meant(template, _intended(config, values))
    return Rendered(config=config, content=content)


def _intended(config: AppleConfig, values: AppleValues) -> list[tuple[str, object, object]]:
    """Pair what was meant with what was rendered. What is not here is the template's to choose."""
    system, boot, devices = config.system, config.system.boot, config.virtualization
    mac, generic = system.mac_platform, system.generic_platform
    macos, direct = values.boot == "macos", values.boot == "direct"
    network = AppleNetwork(mode=AppleNetworkMode.SHARED, mac_address=values.mac)
    identity = (mac.hardware_model, mac.machine_identifier, mac.auxiliary_storage) if mac else None
    return [
        ("Information.Name", values.name, config.information.name),
        ("Information.UUID", values.uuid, config.information.uuid),
        ("System.Architecture", values.arch, system.architecture),
        ("System.CPUCount", values.cpus, system.cpu_count),
        ("System.MemorySize", values.memory_mib, system.memory_mib),
        ("Boot.OperatingSystem", OperatingSystem.MACOS if macos else OperatingSystem.LINUX, boot.operating_system),
        ("Boot.UEFIBoot", values.boot == "uefi", boot.uefi_boot),
        ("Boot.EfiVariableStoragePath", EFI_VARIABLES if values.boot == "uefi" else None, boot.efi_variables),
        ("Boot.LinuxKernelPath", values.kernel_name if direct else None, boot.linux_kernel),
        ("Boot.LinuxInitialRamdiskPath", values.initrd_name if direct else None, boot.linux_initrd),
        ("Boot.LinuxCommandLine", values.kernel_arguments if direct else None, boot.linux_command_line),
        (
            "System.MacPlatform",
            (values.hardware_model, values.machine_identifier, AUXILIARY_STORAGE) if macos else None,
            identity,
        ),
        (
            "System.GenericPlatform",
            None if macos else values.machine_identifier,
            generic.machine_identifier if generic else None,
        ),
        ("Drive", values.drives, config.drive),
        ("Network", (network,), config.network),
        ("Serial", (AppleSerial(mode=AppleSerialMode.PTTY),), config.serial),
        ("SharedDirectory", None, config.shared_directories),
        ("Virtualization.Audio", False, devices.audio),
        ("Virtualization.ClipboardSharing", False, devices.clipboard_sharing),
        ("Virtualization.Rosetta", values.rosetta, devices.rosetta),
        ("Virtualization.Pointer is a word", True, isinstance(devices.pointer, Pointer)),
        ("a display, for the Setup Assistant", True, bool(config.display) or not macos),
    ]


def _check_values(values: AppleValues) -> None:
    if values.arch not in ARCHES:
        raise UsageError(f'no bundle can be made for "{values.arch}"', hint=f"one of: {', '.join(ARCHES)}")
    if values.boot not in BOOTS:
        raise UsageError(f'"{values.boot}" is no way to boot')
    if values.boot == "macos":
        if values.arch != "aarch64" or values.hardware_model is None or values.rosetta:
            raise UsageError("a macOS guest is of aarch64, has a hardware model, and no Rosetta for Linux")
        read_hardware_model(values.hardware_model)
        read_machine_identifier(values.machine_identifier)
    else:
        read_generic_identifier(values.machine_identifier)
        if values.rosetta and values.arch != "aarch64":
            raise UsageError("Rosetta runs Intel's programs on Apple silicon; an Intel Mac needs none")
    if values.boot == "direct" and not values.kernel_name:
        raise UsageError("a direct boot needs a kernel")
    require_names((values.disk_name, values.seed_name, values.kernel_name, values.initrd_name, values.disk_identifier))


def _drive(identifier: str, name: str, *, read_only: bool) -> AppleDrive:
    return AppleDrive(identifier=identifier, image_name=name, read_only=read_only, nvme=False)


def _base64(content: bytes | None) -> str:
    return base64.b64encode(content or b"").decode()
