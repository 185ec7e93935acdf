"""Make a bundle of our own for a machine that another program made: none of its configuration is taken over as text.

Only checked values and the bytes of its disks get into it; UTM's keys are written from the typed model, and what is
written is judged as UTM would before it counts.
"""

import plistlib
import uuid
from dataclasses import dataclass
from pathlib import Path

from vmkit.bundle.apple_config import (
    AppleBoot,
    AppleConfig,
    AppleDisplay,
    AppleDrive,
    AppleNetwork,
    AppleNetworkMode,
    AppleSerial,
    AppleSerialMode,
    AppleSystem,
    GenericPlatform,
    Keyboard,
    MacPlatform,
    OperatingSystem,
    Pointer,
    Virtualization,
)
from vmkit.bundle.arguments import quote_argument
from vmkit.bundle.check import judge
from vmkit.bundle.config import (
    ImageType,
    Information,
    Input,
    Interface,
    Network,
    NetworkMode,
    PortForward,
    Protocol,
    Qemu,
    QemuConfig,
    Serial,
    SerialMode,
    SerialTarget,
    ShareMode,
    Sharing,
    System,
    UsbBus,
)
from vmkit.bundle.foreign_machine import ForeignMachine
from vmkit.bundle.foreign_utm import EFI_VARIABLES
from vmkit.bundle.render import make_drive
from vmkit.errors import Refused

AUXILIARY_STORAGE = "AuxiliaryStorage"
KERNEL, INITRD = "vmlinuz", "initrd.img"
SSH_PORT = 22

_MAC_DISPLAY = AppleDisplay(width=1920, height=1200, pixels_per_inch=80)  # UTM's own choice for a new Mac


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A file of the foreign machine and its name in our bundle's `Data/`; `format` is what it becomes there."""

    source: Path
    name: str
    source_format: str
    format: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Adopted:
    """The configuration of our bundle, the bytes that say it, and the files that it names."""

    config: QemuConfig | AppleConfig
    content: bytes
    copies: tuple[Copy, ...]


def render_adopted(machine: ForeignMachine, *, name: str, identity: str, cpus: int, host_port: int) -> Adopted:
    """Return the bundle of `machine` under our name and UUID. `cpus` stands for its "as many as there are"."""
    disks = [(disk, str(uuid.uuid4()).upper()) for disk in machine.disks]
    suffix = "qcow2" if machine.backend == "qemu" else "img"
    copies = [
        Copy(
            source=disk.path,
            name=f"{identifier}.{suffix}",
            source_format=disk.format,
            format="qcow2" if machine.backend == "qemu" else disk.format,
        )
        for disk, identifier in disks
    ]
    if machine.firmware:
        made = "qcow2" if machine.backend == "qemu" else "raw"
        copies.append(Copy(source=machine.firmware, name=_firmware_name(machine), source_format="", format=made))
    for source, loaded in ((machine.kernel, KERNEL), (machine.initrd, INITRD)):
        if source:
            copies.append(Copy(source=source, name=loaded, source_format="raw", format="raw"))
    information = Information(
        name=name, uuid=identity, icon_custom=False, icon="mac" if machine.system == "macos" else "linux"
    )
    identifiers = [identifier for _, identifier in disks]
    cpus = machine.cpus or cpus
    config: QemuConfig | AppleConfig
    if machine.backend == "qemu":
        config = _qemu(machine, information, identifiers, cpus=cpus, host_port=host_port)
    else:
        config = _apple(machine, information, identifiers, cpus=cpus)
    content = plistlib.dumps(config.to_plist(), fmt=plistlib.FMT_XML)
    verdict = judge(content)
    if not verdict.loads or verdict.ignored_keys or verdict.changed:
        problem = verdict.problems[0].problem if verdict.problems else "UTM would change it"
        raise Refused(f'no bundle can be made of "{machine.path.name}"', detail=problem)
    return Adopted(config=config, content=content, copies=tuple(copies))


def _firmware_name(machine: ForeignMachine) -> str:
    return AUXILIARY_STORAGE if machine.system == "macos" else EFI_VARIABLES


def _qemu(
    machine: ForeignMachine, information: Information, identifiers: list[str], *, cpus: int, host_port: int
) -> QemuConfig:
    append = ["-append", quote_argument(machine.command_line)] if machine.command_line else []
    forward = PortForward(protocol=Protocol.TCP, host_address="127.0.0.1", host_port=host_port, guest_port=SSH_PORT)
    return QemuConfig(
        information=information,
        system=System(
            architecture=machine.arch,
            target="virt" if machine.arch == "aarch64" else "q35",
            cpu="default",
            cpu_flags_add=(),
            cpu_flags_remove=(),
            cpu_count=cpus,
            force_multicore=False,
            memory_mib=machine.memory_mib,
            jit_cache_mib=0,
        ),
        qemu=Qemu(
            debug_log=False,
            uefi_boot=machine.boot == "uefi",
            rng_device=True,
            balloon_device=False,
            tpm_device=False,
            hypervisor=True,
            rtc_local_time=False,
            ps2_controller=False,
            additional_arguments=tuple(append),
        ),
        input=Input(usb_bus_support=UsbBus.DISABLED, usb_sharing=False, maximum_usb_share=3),
        sharing=Sharing(directory_share_mode=ShareMode.NONE, directory_share_read_only=False, clipboard_sharing=False),
        display=(),
        drive=(
            *(
                make_drive(identifier, f"{identifier}.qcow2", ImageType.DISK, Interface(disk.interface))
                for disk, identifier in zip(machine.disks, identifiers, strict=True)
            ),
            *([make_drive("kernel", KERNEL, ImageType.KERNEL, Interface.NONE)] if machine.kernel else []),
            *([make_drive("initrd", INITRD, ImageType.INITRD, Interface.NONE)] if machine.initrd else []),
        ),
        network=(
            Network(
                mode=NetworkMode.EMULATED,
                hardware="virtio-net-pci",
                mac_address=machine.mac,
                isolate_from_host=False,
                port_forward=(forward,),
            ),
        ),
        serial=(Serial(mode=SerialMode.PTTY, target=SerialTarget.AUTO),),
        sound=(),
    )


def _apple(machine: ForeignMachine, information: Information, identifiers: list[str], *, cpus: int) -> AppleConfig:
    is_mac = machine.system == "macos"
    platform = None
    if machine.hardware_model and machine.machine_identifier:
        platform = MacPlatform(
            hardware_model=machine.hardware_model,
            machine_identifier=machine.machine_identifier,
            auxiliary_storage=AUXILIARY_STORAGE,
        )
    boot = AppleBoot(
        operating_system=OperatingSystem.MACOS if is_mac else OperatingSystem.LINUX,
        uefi_boot=machine.boot == "uefi",
        linux_kernel=KERNEL if machine.kernel else None,
        linux_initrd=INITRD if machine.initrd else None,
        linux_command_line=machine.command_line or None,
        efi_variables=EFI_VARIABLES if machine.boot == "uefi" else None,
    )
    return AppleConfig(
        information=information,
        system=AppleSystem(
            architecture=machine.arch,
            cpu_count=cpus,
            memory_mib=machine.memory_mib,
            boot=boot,
            mac_platform=platform,
            generic_platform=None if is_mac else GenericPlatform(machine_identifier=None),
        ),
        virtualization=Virtualization(
            audio=False,
            balloon=not is_mac,
            entropy=True,
            keyboard=Keyboard.GENERIC if is_mac else Keyboard.DISABLED,
            pointer=Pointer.MOUSE if is_mac else Pointer.DISABLED,
            trackpad=None,
            rosetta=False,
            clipboard_sharing=False,
        ),
        shared_directories=None,
        display=(_MAC_DISPLAY,) if is_mac else (),
        drive=tuple(
            AppleDrive(
                identifier=identifier, image_name=f"{identifier}.img", bookmark=None, read_only=False, nvme=False
            )
            for identifier in identifiers
        ),
        network=(AppleNetwork(mode=AppleNetworkMode.SHARED, mac_address=machine.mac),),
        serial=() if is_mac else (AppleSerial(mode=AppleSerialMode.PTTY),),
    )
