"""Render a machine of UTM's QEMU backend, and compare the result with what was meant, before anything is written.

Only the comparison makes sure that a name, a path or a template says one thing to us and the same to UTM.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmkit.bundle.config import (
    Drive,
    ImageType,
    Interface,
    Network,
    NetworkMode,
    PortForward,
    Protocol,
    QemuConfig,
    SerialMode,
    SerialTarget,
    ShareMode,
)
from vmkit.bundle.filled import believe, fill, require_meant, require_names, unfit
from vmkit.bundle.layout import LOGIN_DRIVE, LOGIN_NAME, Rendered
from vmkit.bundle.template import Template
from vmkit.errors import UsageError

__all__ = ["BundleValues", "Rendered", "example_values", "render"]

TARGETS: Mapping[str, str] = {"x86_64": "q35", "aarch64": "virt"}
SSH_PORT = 22


@dataclass(frozen=True, kw_only=True)
class BundleValues:
    """What a bundle is made of. File names are names in `Data/`; `boot` is direct, uefi or bios."""

    name: str
    uuid: str
    mac: str
    arch: str
    cpus: int
    memory_mib: int
    boot: str
    disk_identifier: str
    disk_name: str
    seed_name: str
    host_port: int
    isolated: bool
    hypervisor: bool
    kernel_arguments: str | None = None
    kernel_name: str | None = None
    initrd_name: str | None = None
    login_name: str | None = None  # the disk on which Kiro's login lies, if the machine has one
    options: Mapping[str, str | int | bool] = field(default_factory=dict)

    @property
    def drives(self) -> tuple[Drive, ...]:
        """The drives, in boot order: the disk, the seed, the login's, and for a direct boot kernel and initrd."""
        found = [
            make_drive(self.disk_identifier, self.disk_name, ImageType.DISK, Interface.VIRTIO),
            make_drive("seed", self.seed_name, ImageType.CD, Interface.VIRTIO),
        ]
        if self.login_name:
            found.append(make_drive(LOGIN_DRIVE, self.login_name, ImageType.DISK, Interface.VIRTIO))
        if self.boot == "direct" and self.kernel_name:
            found.append(make_drive("kernel", self.kernel_name, ImageType.KERNEL, Interface.NONE))
            if self.initrd_name:
                found.append(make_drive("initrd", self.initrd_name, ImageType.INITRD, Interface.NONE))
        return tuple(found)

    @property
    def network(self) -> Network:
        """The one network card: emulated, and reachable from this computer's loopback only."""
        forward = PortForward(
            protocol=Protocol.TCP, host_address="127.0.0.1", host_port=self.host_port, guest_port=SSH_PORT
        )
        return Network(
            mode=NetworkMode.EMULATED,
            hardware="virtio-net-pci",
            mac_address=self.mac,
            isolate_from_host=self.isolated,
            port_forward=(forward,),
        )

    @property
    def arguments(self) -> list[str]:
        """What QEMU is told of the kernel's command line."""
        return ["-append", self.kernel_arguments] if self.boot == "direct" and self.kernel_arguments else []


def example_values(template: Template, *, arch: str, boot: str) -> BundleValues:
    """Return made-up values with the template's defaults: what `template check` renders."""
    direct = boot == "direct"
    return BundleValues(
        name="example",
        uuid="6F9619FF-8B86-4D01-B42D-00CF4FC964FF",
        mac="52:54:00:12:34:56",
        arch=arch,
        cpus=template.cpus,
        memory_mib=template.memory_mib,
        boot=boot,
        kernel_arguments="root=LABEL=root console=ttyS0 quiet" if direct else None,
        disk_identifier="11111111-2222-3333-4444-555555555555",
        disk_name="11111111-2222-3333-4444-555555555555.qcow2",
        kernel_name="vmlinuz" if direct else None,
        initrd_name="initrd.img" if direct else None,
        seed_name="seed.iso",
        login_name=LOGIN_NAME if "kiro-cli" in template.recipes else None,
        host_port=2222,
        isolated=False,
        hypervisor=True,
        options={name: option.default for name, option in template.options.items()},
    )


def render(template: Template, values: BundleValues) -> Rendered:
    """Render `template` with `values`, and make sure that the result says just that to UTM.

    Raises UsageError with the template's file and the reason.
    """
    _check_values(values)
    names = {"machine": values, "target": TARGETS[values.arch], "drives": values.drives}
    content = fill(template, {**values.options, **names})
    config = believe(template, content)
    if not isinstance(config, QemuConfig):
        raise unfit(template, f"{template.config_file} is of UTM's Apple backend")
    require_meant(template, _intended(config, values))
    return Rendered(config=config, content=content)


def _intended(config: QemuConfig, values: BundleValues) -> list[tuple[str, object, object]]:
    """Pair what was meant with what was rendered. What is not here is the template's to choose."""
    serial = config.serial[0] if config.serial else None
    arguments = config.qemu.extra_arguments
    at = arguments.index("-append") if "-append" in arguments else len(arguments)
    return [
        ("Information.Name", values.name, config.information.name),
        ("Information.UUID", values.uuid, config.information.uuid),
        ("System.Architecture", values.arch, config.system.architecture),
        ("System.Target", TARGETS[values.arch], config.system.target),
        ("System.CPUCount", values.cpus, config.system.cpu_count),
        ("System.MemorySize", values.memory_mib, config.system.memory_mib),
        ("QEMU.UEFIBoot", values.boot == "uefi", config.qemu.uefi_boot),
        ("QEMU.Hypervisor", values.hypervisor, config.qemu.hypervisor),
        ("QEMU.AdditionalArguments", values.arguments, arguments[at : at + 2]),
        ("Drive", values.drives, config.drive),
        ("Network", (values.network,), config.network),
        ("Sharing.DirectoryShareMode", ShareMode.NONE, config.sharing.directory_share_mode),
        ("Sharing.ClipboardSharing", False, config.sharing.clipboard_sharing),
        ("Input.UsbSharing", False, config.input.usb_sharing),
        ("Sound", (), config.sound),
        ("Serial", (SerialMode.PTTY, SerialTarget.AUTO), (serial.mode, serial.target) if serial else None),
    ]


def _check_values(values: BundleValues) -> None:
    if values.arch not in TARGETS:
        raise UsageError(f'no bundle can be made for "{values.arch}"', hint=f"one of: {', '.join(TARGETS)}")
    if values.boot not in ("direct", "uefi", "bios"):
        raise UsageError(f'"{values.boot}" is no way to boot')
    names = (values.disk_name, values.seed_name, values.login_name, values.kernel_name, values.initrd_name)
    require_names((*names, values.disk_identifier))


def make_drive(identifier: str, name: str, image_type: ImageType, interface: Interface) -> Drive:
    """Return a drive of ours: what is not a disk is read-only."""
    return Drive(
        identifier=identifier,
        image_name=name,
        image_type=image_type,
        interface=interface,
        interface_version=1,
        read_only=image_type is not ImageType.DISK,
    )
