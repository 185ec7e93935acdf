"""UTM's `config.plist` for its Apple backend, version 4: written and judged by us, run by UTM alone (utm 5.0.3)."""

# ruff: noqa: RUF009  # key() returns a dataclasses.field

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vmkit.bundle.decode import (
    Node,
    Values,
    array,
    choice,
    key,
    read_bool,
    read_data,
    read_int,
    read_text,
    record,
    to_value,
)
from vmkit.bundle.shared_config import Information, Terminal, last_component


class OperatingSystem(StrEnum):
    """System.Boot.OperatingSystem."""

    NONE = "None"
    LINUX = "Linux"
    MACOS = "macOS"


class Keyboard(StrEnum):
    """Virtualization.Keyboard."""

    DISABLED = "Disabled"
    GENERIC = "Generic"
    MAC = "Mac"


class Pointer(StrEnum):
    """Virtualization.Pointer."""

    DISABLED = "Disabled"
    MOUSE = "Mouse"
    TRACKPAD = "Trackpad"


class AppleNetworkMode(StrEnum):
    """Network[].Mode: the Apple backend has no emulated and no host-only network."""

    SHARED = "Shared"
    BRIDGED = "Bridged"


class AppleSerialMode(StrEnum):
    """Serial[].Mode."""

    TERMINAL = "Terminal"
    PTTY = "Ptty"


def _keyboard(node: Node, values: Values) -> StrEnum:
    if isinstance(node.value, bool):  # as UTM wrote it before the Mac keyboard existed
        return Keyboard.GENERIC if node.value else Keyboard.DISABLED
    found: StrEnum = choice(Keyboard)(node, values)
    return found


def _pointer(node: Node, values: Values) -> "StrEnum | bool":
    found: StrEnum | bool = node.value if isinstance(node.value, bool) else choice(Pointer)(node, values)
    return found


def _saved_file(name: str | None) -> str | None:
    return None if name is None else last_component(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppleBoot:
    """What the machine boots."""

    operating_system: OperatingSystem = key("OperatingSystem", choice(OperatingSystem))
    uefi_boot: bool = key("UEFIBoot", read_bool, optional=True, default=False)
    linux_kernel: str | None = key(
        "LinuxKernelPath", read_text, optional=True, saved=lambda self: self.linux_only(_saved_file(self.linux_kernel))
    )
    linux_command_line: str | None = key(
        "LinuxCommandLine", read_text, optional=True, saved=lambda self: self.linux_only(self.linux_command_line)
    )
    linux_initrd: str | None = key(
        "LinuxInitialRamdiskPath",
        read_text,
        optional=True,
        saved=lambda self: self.linux_only(_saved_file(self.linux_initrd)),
    )
    efi_variables: str | None = key(
        "EfiVariableStoragePath",
        read_text,
        optional=True,
        saved=lambda self: self.linux_only(_saved_file(self.efi_variables)),
    )

    def linux_only(self, value: str | None) -> str | None:
        """Return what is saved of a key that only Linux guests have."""
        return value if self.operating_system is OperatingSystem.LINUX else None


@dataclass(frozen=True, kw_only=True, slots=True)
class MacPlatform:
    """What makes a Mac of a machine."""

    hardware_model: bytes = key("HardwareModel", read_data)
    machine_identifier: bytes = key("MachineIdentifier", read_data)
    auxiliary_storage: str | None = key(
        "AuxiliaryStoragePath", read_text, optional=True, saved=lambda self: _saved_file(self.auxiliary_storage)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class GenericPlatform:
    """What identifies a machine that is no Mac."""

    machine_identifier: bytes | None = key("machineIdentifier", read_data, optional=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppleSystem:
    """The board. UTM takes any architecture, and then refuses to start a foreign one."""

    architecture: str = key("Architecture", read_text)
    cpu_count: int = key("CPUCount", read_int)
    memory_mib: int = key("MemorySize", read_int)
    boot: AppleBoot = key("Boot", record(AppleBoot))
    mac_platform: MacPlatform | None = key(
        "MacPlatform",
        record(MacPlatform),
        optional=True,
        saved=lambda self: self.mac_platform if self.boot.operating_system is OperatingSystem.MACOS else None,
    )
    generic_platform: GenericPlatform | None = key(
        "GenericPlatform",
        record(GenericPlatform),
        optional=True,
        saved=lambda self: self.generic_platform if self.boot.operating_system is OperatingSystem.LINUX else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Virtualization:
    """The devices that are on or off."""

    audio: bool = key("Audio", read_bool)
    balloon: bool = key("Balloon", read_bool)
    entropy: bool = key("Entropy", read_bool)
    keyboard: Keyboard = key("Keyboard", _keyboard)
    pointer: Pointer | bool = key("Pointer", _pointer, saved=lambda self: self.saved_pointer)
    trackpad: bool | None = key(
        "Trackpad",
        read_bool,
        optional=True,
        asked=lambda values: isinstance(values["pointer"], bool),
        saved=lambda _: None,
    )
    rosetta: bool | None = key("Rosetta", read_bool, optional=True)
    clipboard_sharing: bool = key("ClipboardSharing", read_bool, optional=True, default=False)

    @property
    def saved_pointer(self) -> Pointer:
        """The pointer as UTM saves it: it once was two booleans."""
        if isinstance(self.pointer, Pointer):
            return self.pointer
        if self.trackpad:
            return Pointer.TRACKPAD
        return Pointer.MOUSE if self.pointer else Pointer.DISABLED


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedDirectory:
    """A shared folder, as UTM once kept it here."""

    read_only: bool = key("ReadOnly", read_bool)
    bookmark: bytes = key("Bookmark", read_data)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppleDisplay:
    """A display, in pixels."""

    width: int = key("WidthPixels", read_int)
    height: int = key("HeightPixels", read_int)
    pixels_per_inch: int = key("PixelsPerInch", read_int)
    dynamic_resolution: bool = key("DynamicResolution", read_bool, optional=True, default=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppleDrive:
    """A drive. Without an image it is removable."""

    image_name: str | None = key("ImageName", read_text, optional=True, saved=lambda self: _saved_file(self.image_name))
    bookmark: bytes | None = key(
        "Bookmark",
        read_data,
        optional=True,
        asked=lambda values: values["image_name"] is None,
        saved=lambda _: None,
    )
    read_only: bool = key("ReadOnly", read_bool, optional=True, default=lambda values: values["image_name"] is None)
    nvme: bool = key("Nvme", read_bool, optional=True, default=False)
    identifier: str = key("Identifier", read_text)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppleNetwork:
    """A network card."""

    mode: AppleNetworkMode = key("Mode", choice(AppleNetworkMode))
    mac_address: str = key("MacAddress", read_text)
    bridge_interface: str | None = key(
        "BridgeInterface",
        read_text,
        optional=True,
        saved=lambda self: self.bridge_interface if self.mode is AppleNetworkMode.BRIDGED else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class AppleSerial:
    """A serial port."""

    mode: AppleSerialMode = key("Mode", choice(AppleSerialMode))
    terminal: Terminal | None = key(
        "Terminal",
        record(Terminal),
        optional=True,
        saved=lambda self: self.terminal if self.mode is AppleSerialMode.TERMINAL else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class AppleConfig:
    """A whole `config.plist` of the Apple backend."""

    information: Information = key("Information", record(Information))
    system: AppleSystem = key("System", record(AppleSystem))
    virtualization: Virtualization = key("Virtualization", record(Virtualization))
    shared_directories: tuple[SharedDirectory, ...] | None = key(
        "SharedDirectory", array(record(SharedDirectory)), optional=True, saved=lambda _: None
    )
    display: tuple[AppleDisplay, ...] = key("Display", array(record(AppleDisplay)))
    drive: tuple[AppleDrive, ...] = key("Drive", array(record(AppleDrive)))
    network: tuple[AppleNetwork, ...] = key("Network", array(record(AppleNetwork)))
    serial: tuple[AppleSerial, ...] = key("Serial", array(record(AppleSerial)))

    def to_plist(self) -> dict[str, Any]:
        """Return what UTM would save."""
        return {**to_value(self), "Backend": "Apple", "ConfigurationVersion": 4}
