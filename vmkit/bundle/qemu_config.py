"""UTM's `config.plist` for its QEMU backend, version 4: every key, with UTM's rules for each (utm 5.0.3)."""

# ruff: noqa: RUF009  # key() returns a dataclasses.field

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vmkit.bundle.arguments import split_arguments
from vmkit.bundle.decode import (
    ConfigError,
    Node,
    Values,
    array,
    choice,
    invalid_value,
    key,
    read_bool,
    read_int,
    read_record,
    read_text,
    read_uuid,
    record,
    to_value,
)
from vmkit.bundle.qemu_targets import CPUS, TARGETS
from vmkit.bundle.shared_config import Information, Terminal, last_component

CONFIGURATION_VERSION = 4


class UsbBus(StrEnum):
    """Input.UsbBusSupport."""

    DISABLED = "Disabled"
    USB_2 = "2.0"
    USB_3 = "3.0"


class ShareMode(StrEnum):
    """Sharing.DirectoryShareMode."""

    NONE = "None"
    WEBDAV = "WebDAV"
    VIRTFS = "VirtFS"


class Scaler(StrEnum):
    """How a display is scaled."""

    LINEAR = "Linear"
    NEAREST = "Nearest"


class ImageType(StrEnum):
    """What a drive's file is."""

    NONE = "None"
    DISK = "Disk"
    CD = "CD"
    BIOS = "BIOS"
    KERNEL = "LinuxKernel"
    INITRD = "LinuxInitrd"
    DEVICE_TREE = "LinuxDTB"


class Interface(StrEnum):
    """How a drive is attached."""

    NONE = "None"
    IDE = "IDE"
    SCSI = "SCSI"
    SD = "SD"
    MTD = "MTD"
    FLOPPY = "Floppy"
    PFLASH = "PFlash"
    VIRTIO = "VirtIO"
    NVME = "NVMe"
    USB = "USB"


class NetworkMode(StrEnum):
    """What a network card is connected to."""

    EMULATED = "Emulated"
    SHARED = "Shared"
    HOST = "Host"
    BRIDGED = "Bridged"


class Protocol(StrEnum):
    """What a forwarded port speaks."""

    TCP = "TCP"
    UDP = "UDP"


class SerialMode(StrEnum):
    """Where a serial port ends on the host."""

    TERMINAL = "Terminal"
    TCP_CLIENT = "TcpClient"
    TCP_SERVER = "TcpServer"
    PTTY = "Ptty"


class SerialTarget(StrEnum):
    """What a serial port is connected to in the machine."""

    AUTO = "Auto"
    MANUAL = "Manual"
    GDB = "GDB"
    MONITOR = "Monitor"


def _architecture(node: Node, values: Values) -> str:
    name = read_text(node, values)
    if name not in TARGETS:
        raise invalid_value(node)
    return name


def _target(node: Node, values: Values) -> str:
    name = read_text(node, values)
    if name not in TARGETS[values["architecture"]]:
        raise invalid_value(node)
    return name


def _cpu(node: Node, values: Values) -> str:
    """Read a CPU; the one name that UTM forgives: it warns and takes its default."""
    name = read_text(node, values)
    known = CPUS.get(values["architecture"])
    return name if known is None or name in known else "default"


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """The board. Sizes are MiB; 0 CPUs and a JIT cache of 0 leave the choice to UTM."""

    architecture: str = key("Architecture", _architecture)
    target: str = key("Target", _target)
    cpu: str = key("CPU", _cpu)
    cpu_flags_add: tuple[str, ...] = key("CPUFlagsAdd", array(read_text))
    cpu_flags_remove: tuple[str, ...] = key("CPUFlagsRemove", array(read_text))
    cpu_count: int = key("CPUCount", read_int)
    force_multicore: bool = key("ForceMulticore", read_bool)
    memory_mib: int = key("MemorySize", read_int)
    jit_cache_mib: int = key("JITCacheSize", read_int)


@dataclass(frozen=True, kw_only=True, slots=True)
class Qemu:
    """What QEMU is told beside the devices."""

    debug_log: bool = key("DebugLog", read_bool)
    uefi_boot: bool = key("UEFIBoot", read_bool)
    rng_device: bool = key("RNGDevice", read_bool)
    balloon_device: bool = key("BalloonDevice", read_bool)
    tpm_device: bool = key("TPMDevice", read_bool)
    hypervisor: bool = key("Hypervisor", read_bool)
    tso: bool = key("TSO", read_bool, optional=True, default=False)
    rtc_local_time: bool = key("RTCLocalTime", read_bool)
    ps2_controller: bool = key("PS2Controller", read_bool)
    machine_property_override: str | None = key("MachinePropertyOverride", read_text, optional=True)
    additional_arguments: tuple[str, ...] = key("AdditionalArguments", array(read_text))

    @property
    def extra_arguments(self) -> list[str]:
        """The additional arguments, split by UTM's rule."""
        return split_arguments(self.additional_arguments)


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """The USB bus."""

    usb_bus_support: UsbBus = key("UsbBusSupport", choice(UsbBus))
    usb_sharing: bool = key("UsbSharing", read_bool)
    maximum_usb_share: int = key("MaximumUsbShare", read_int)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """What the guest shares with the host. The shared folder itself is never in the file."""

    directory_share_mode: ShareMode = key("DirectoryShareMode", choice(ShareMode))
    directory_share_read_only: bool = key("DirectoryShareReadOnly", read_bool)
    clipboard_sharing: bool = key("ClipboardSharing", read_bool)


@dataclass(frozen=True, kw_only=True, slots=True)
class Display:
    """A graphics card. UTM takes any hardware name."""

    hardware: str = key("Hardware", read_text)
    vga_ram_mib: int | None = key("VgaRamMib", read_int, optional=True)
    dynamic_resolution: bool = key("DynamicResolution", read_bool)
    upscaling_filter: Scaler = key("UpscalingFilter", choice(Scaler))
    downscaling_filter: Scaler = key("DownscalingFilter", choice(Scaler))
    native_resolution: bool = key("NativeResolution", read_bool)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drive:
    """A drive, or a file for the boot loader. Without an image it is removable, and its file is known to UTM only."""

    image_name: str | None = key(
        "ImageName",
        read_text,
        optional=True,
        saved=lambda self: None if self.image_name is None else last_component(self.image_name),
    )
    read_only: bool = key("ReadOnly", read_bool, optional=True, default=lambda values: values["image_name"] is None)
    image_type: ImageType = key("ImageType", choice(ImageType))
    interface: Interface = key(
        "Interface", choice(Interface), saved=lambda self: self.interface if self.is_medium else Interface.NONE
    )
    interface_version: int = key("InterfaceVersion", read_int, optional=True, default=0)
    identifier: str = key("Identifier", read_text)

    @property
    def is_medium(self) -> bool:
        """Whether the guest sees it as a drive, rather than QEMU as something to boot."""
        return self.image_type in (ImageType.DISK, ImageType.CD)

    @property
    def file_name(self) -> str | None:
        """The name of its file in `Data/`: the last path component only, whatever the file says."""
        return None if self.image_name is None else last_component(self.image_name)


@dataclass(frozen=True, kw_only=True, slots=True)
class PortForward:
    """A port of the host that leads to a port of the guest. Without a host address it binds all of them."""

    protocol: Protocol = key("Protocol", choice(Protocol))
    host_address: str | None = key("HostAddress", read_text, optional=True)
    host_port: int = key("HostPort", read_int)
    guest_address: str | None = key("GuestAddress", read_text, optional=True)
    guest_port: int = key("GuestPort", read_int)


def _port_forward(node: Node, _: Values) -> PortForward:
    """Read a forward; after an error of Codable's own, as UTM before 4.4 wrote it: with a small first letter."""
    try:
        return read_record(PortForward, node)
    except ConfigError as error:
        if error.problem.startswith("UTM"):
            raise
        return read_record(PortForward, node, spelling=lambda name: name[0].lower() + name[1:])


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A network card."""

    mode: NetworkMode = key("Mode", choice(NetworkMode))
    hardware: str = key("Hardware", read_text)
    mac_address: str = key("MacAddress", read_text)
    isolate_from_host: bool = key("IsolateFromHost", read_bool)
    port_forward: tuple[PortForward, ...] = key("PortForward", array(_port_forward))
    bridge_interface: str | None = key(
        "BridgeInterface",
        read_text,
        optional=True,
        saved=lambda self: self.bridge_interface if self.mode is NetworkMode.BRIDGED else None,
    )
    vlan_guest_address: str | None = key("VlanGuestAddress", read_text, optional=True)
    vlan_guest_address_ipv6: str | None = key("VlanGuestAddressIPv6", read_text, optional=True)
    vlan_host_address: str | None = key("VlanHostAddress", read_text, optional=True)
    vlan_host_address_ipv6: str | None = key("VlanHostAddressIPv6", read_text, optional=True)
    vlan_dhcp_start_address: str | None = key("VlanDhcpStartAddress", read_text, optional=True)
    vlan_dhcp_end_address: str | None = key("VlanDhcpEndAddress", read_text, optional=True)
    vlan_dhcp_domain: str | None = key("VlanDhcpDomain", read_text, optional=True)
    vlan_dns_server_address: str | None = key("VlanDnsServerAddress", read_text, optional=True)
    vlan_dns_server_address_ipv6: str | None = key("VlanDnsServerAddressIPv6", read_text, optional=True)
    vlan_dns_search_domain: str | None = key("VlanDnsSearchDomain", read_text, optional=True)
    host_net_uuid: str | None = key(
        "HostNetUuid",
        read_uuid,
        optional=True,
        saved=lambda self: self.host_net_uuid if self.mode is NetworkMode.HOST else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Serial:
    """A serial port."""

    mode: SerialMode = key("Mode", choice(SerialMode))
    target: SerialTarget = key("Target", choice(SerialTarget))
    terminal: Terminal | None = key(
        "Terminal",
        record(Terminal),
        optional=True,
        saved=lambda self: self.terminal if self.mode is SerialMode.TERMINAL else None,
    )
    hardware: str | None = key("Hardware", read_text, optional=True)
    tcp_host_address: str | None = key("TcpHostAddress", read_text, optional=True)
    tcp_port: int | None = key("TcpPort", read_int, optional=True)
    wait_for_connection: bool | None = key("WaitForConnection", read_bool, optional=True)
    remote_connection_allowed: bool | None = key("RemoteConnectionAllowed", read_bool, optional=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """A sound card."""

    hardware: str = key("Hardware", read_text)


@dataclass(frozen=True, kw_only=True, slots=True)
class QemuConfig:
    """A whole `config.plist` of the QEMU backend."""

    information: Information = key("Information", record(Information))
    system: System = key("System", record(System))
    qemu: Qemu = key("QEMU", record(Qemu))
    input: Input = key("Input", record(Input))
    sharing: Sharing = key("Sharing", record(Sharing))
    display: tuple[Display, ...] = key("Display", array(record(Display)))
    drive: tuple[Drive, ...] = key("Drive", array(record(Drive)))
    network: tuple[Network, ...] = key("Network", array(record(Network)))
    serial: tuple[Serial, ...] = key("Serial", array(record(Serial)))
    sound: tuple[Sound, ...] = key("Sound", array(record(Sound)))

    def to_plist(self) -> dict[str, Any]:
        """Return what UTM would save: every required key, and the optional ones that mean something."""
        return {**to_value(self), "Backend": "QEMU", "ConfigurationVersion": CONFIGURATION_VERSION}
