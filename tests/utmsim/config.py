"""Read a `config.plist` the way UTM does: strictly, forgetting what it does not know (reference: sections 1.0 to 1.3).

A kind is a type, a set of allowed strings, a list of one kind, a tuple of alternatives, a table (a key ending in `?` may
be missing), or a function that returns what UTM makes of the value.
"""

import plistlib
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

NOT_VALID = "Cannot import this VM. Either the configuration is invalid, created in a newer version of UTM, or on a platform that is incompatible with this version of UTM."

_PC_TARGET = re.compile(r"q35|pc|isapc|microvm|none|x-remote|pc-(?:q35|i440fx)-(\d+)\.(\d+)(?:\.\d+)?")
_TARGET = re.compile(r"virt-(\d+)\.(\d+)|(?!q35$|pc$|pc-|isapc$|microvm$)[A-Za-z0-9][A-Za-z0-9_.+-]*")
_NEWEST_MACHINE = (10, 0)


class InvalidError(ValueError):
    """UTM cannot read this configuration. The reason is the simulator's; UTM shows none."""


def _uuid(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", value):
        raise InvalidError(f"{value!r} is no UUID")
    return str(uuid.UUID(value)).upper()


def _number(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise InvalidError(f"{value!r} is no integer")
    return value


def _choice(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ARCHITECTURES = _choice(
    "alpha arm aarch64 avr hppa i386 loongarch64 m68k microblaze microblazeel mips mipsel mips64 mips64el or1k ppc "
    "ppc64 riscv32 riscv64 rx s390x sh4 sh4eb sparc sparc64 tricore x86_64 xtensa xtensaeb"
)
_INFORMATION = {"Name": str, "UUID": _uuid, "IconCustom": bool, "Icon?": str, "Notes?": str}
_TERMINAL = {
    "Font": str,
    "FontSize": _number,
    "Theme?": _choice("Default"),
    "ForegroundColor?": str,
    "BackgroundColor?": str,
    "ResizeCommand?": str,
    "CursorBlink?": bool,
}
_FORWARD = {
    "Protocol": _choice("TCP UDP"),
    "HostPort": _number,
    "GuestPort": _number,
    "HostAddress?": str,
    "GuestAddress?": str,
}
_NETWORK = {
    "Mode": _choice("Emulated Shared Host Bridged"),
    "Hardware": str,
    "MacAddress": str,
    "IsolateFromHost": bool,
    "PortForward": [_FORWARD],
    "BridgeInterface?": str,
    "HostNetUuid?": _uuid,
    "VlanGuestAddress?": str,
    "VlanGuestAddressIPv6?": str,
    "VlanHostAddress?": str,
    "VlanHostAddressIPv6?": str,
    "VlanDhcpStartAddress?": str,
    "VlanDhcpEndAddress?": str,
    "VlanDhcpDomain?": str,
    "VlanDnsServerAddress?": str,
    "VlanDnsServerAddressIPv6?": str,
    "VlanDnsSearchDomain?": str,
}
_SERIAL = {
    "Mode": _choice("Terminal TcpClient TcpServer Ptty"),
    "Target": _choice("Auto Manual GDB Monitor"),
    "Terminal?": _TERMINAL,
    "Hardware?": str,
    "TcpHostAddress?": str,
    "TcpPort?": _number,
    "WaitForConnection?": bool,
    "RemoteConnectionAllowed?": bool,
}
_QEMU_DRIVE = {
    "Identifier": str,
    "ImageName?": str,
    "ImageType": _choice("None Disk CD BIOS LinuxKernel LinuxInitrd LinuxDTB"),
    "Interface": _choice("None IDE SCSI SD MTD Floppy PFlash VirtIO NVMe USB"),
    "InterfaceVersion?": _number,
    "ReadOnly?": bool,
}
_QEMU_DISPLAY = {
    "Hardware": str,
    "VgaRamMib?": _number,
    "DynamicResolution": bool,
    "UpscalingFilter": _choice("Linear Nearest"),
    "DownscalingFilter": _choice("Linear Nearest"),
    "NativeResolution": bool,
}
_QEMU = {
    "Information": _INFORMATION,
    "System": {
        "Architecture": _ARCHITECTURES,
        "Target": str,
        "CPU": str,
        "CPUFlagsAdd": [str],
        "CPUFlagsRemove": [str],
        "CPUCount": _number,
        "ForceMulticore": bool,
        "MemorySize": _number,
        "JITCacheSize": _number,
    },
    "QEMU": {
        **dict.fromkeys(
            _choice("DebugLog UEFIBoot RNGDevice BalloonDevice TPMDevice Hypervisor RTCLocalTime PS2Controller"), bool
        ),
        "AdditionalArguments": [str],
        "TSO?": bool,
        "MachinePropertyOverride?": str,
    },
    "Input": {"UsbBusSupport": _choice("Disabled 2.0 3.0"), "UsbSharing": bool, "MaximumUsbShare": _number},
    "Sharing": {
        "DirectoryShareMode": _choice("None WebDAV VirtFS"),
        "DirectoryShareReadOnly": bool,
        "ClipboardSharing": bool,
    },
    "Display": [_QEMU_DISPLAY],
    "Drive": [_QEMU_DRIVE],
    "Network": [_NETWORK],
    "Serial": [_SERIAL],
    "Sound": [{"Hardware": str}],
}
_APPLE = {
    "Information": _INFORMATION,
    "System": {
        "Architecture": str,
        "CPUCount": _number,
        "MemorySize": _number,
        "Boot": {
            "OperatingSystem": _choice("None Linux macOS"),
            "UEFIBoot?": bool,
            "LinuxKernelPath?": str,
            "LinuxInitialRamdiskPath?": str,
            "EfiVariableStoragePath?": str,
            "LinuxCommandLine?": str,
        },
        "MacPlatform?": {"HardwareModel": bytes, "MachineIdentifier": bytes, "AuxiliaryStoragePath?": str},
        "GenericPlatform?": {"machineIdentifier?": bytes},
    },
    "Virtualization": {
        "Audio": bool,
        "Balloon": bool,
        "Entropy": bool,
        "Keyboard": (bool, _choice("Disabled Generic Mac")),
        "Pointer": (bool, _choice("Disabled Mouse Trackpad")),
        "Rosetta?": bool,
        "ClipboardSharing?": bool,
    },
    "Display": [
        {"WidthPixels": _number, "HeightPixels": _number, "PixelsPerInch": _number, "DynamicResolution?": bool}
    ],
    "Drive": [{"Identifier": str, "ImageName?": str, "ReadOnly?": bool, "Nvme?": bool}],
    "Network": [{"Mode": _choice("Shared Bridged"), "MacAddress": str, "BridgeInterface?": str}],
    "Serial": [{"Mode": _choice("Terminal Ptty"), "Terminal?": _TERMINAL}],
}


def load(file: Path) -> dict[str, Any]:
    """Return what UTM has in its memory of a configuration. Raises InvalidError."""
    try:
        raw = plistlib.loads(file.read_bytes())
    except (
        OSError,
        plistlib.InvalidFileException,
        ExpatError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
    ) as error:
        raise InvalidError(str(error)) from error
    return decode(raw)


def decode(raw: Any) -> dict[str, Any]:
    """Return a configuration with nothing but the keys that UTM knows. Raises InvalidError."""
    if not isinstance(raw, dict) or raw.get("Backend") not in ("QEMU", "Apple"):
        raise InvalidError("no Backend that is known")
    if _number(raw.get("ConfigurationVersion", 0)) != 4:
        raise InvalidError("not version 4")
    schema = _QEMU if raw["Backend"] == "QEMU" else _APPLE
    config = _value(raw, schema, "config")
    if config["Information"]["IconCustom"] and "Icon" not in config["Information"]:
        raise InvalidError("a custom icon has no name")
    if raw["Backend"] == "QEMU":
        _check_target(config["System"])
    else:
        _settle_platform(config["System"])
    for drive in config["Drive"]:
        if "ImageName" in drive:
            drive["ImageName"] = Path(drive["ImageName"]).name
    return {"Backend": raw["Backend"], "ConfigurationVersion": 4, **config}


def _check_target(system: dict[str, Any]) -> None:
    pc = system["Architecture"] in ("x86_64", "i386")
    match = (_PC_TARGET if pc else _TARGET).fullmatch(system["Target"])
    if not match:
        raise InvalidError(f"{system['Target']} is no machine of {system['Architecture']}")
    if match[1] and not (2, 4) <= (int(match[1]), int(match[2])) <= _NEWEST_MACHINE:
        raise InvalidError(f"no machine {system['Target']}")
    if pc and system["CPU"] == "host":
        system["CPU"] = "default"


def _settle_platform(system: dict[str, Any]) -> None:
    kind = system["Boot"]["OperatingSystem"]
    if kind != "macOS":
        system.pop("MacPlatform", None)
    if kind == "Linux":
        system.setdefault("GenericPlatform", {}).setdefault("machineIdentifier", b"utmsim")
    else:
        system.pop("GenericPlatform", None)


def _value(value: Any, kind: Any, where: str) -> Any:  # noqa: C901  # one branch a kind
    if isinstance(kind, dict):
        return _table(value, kind, where)
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise InvalidError(f"{where} is no array")
        return [_value(item, kind[0], f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(kind, tuple):
        for one in kind[:-1]:
            if isinstance(value, one):
                return value
        return _value(value, kind[-1], where)
    if isinstance(kind, frozenset):
        if not isinstance(value, str) or value not in kind:
            raise InvalidError(f"{where} cannot be {value!r}")
        return value
    if isinstance(kind, type):
        if type(value) is not kind:
            raise InvalidError(f"{where} is no {kind.__name__}")
        return value
    read: Callable[[Any], Any] = kind
    return read(value)


def _table(value: Any, schema: dict[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidError(f"{where} is no dictionary")
    result = {}
    for name, kind in schema.items():
        key = name.removesuffix("?")
        if key in value:
            result[key] = _value(value[key], kind, f"{where}.{key}")
        elif key == name:
            raise InvalidError(f"{where}.{key} is missing")
    return result


def files(config: dict[str, Any]) -> set[str]:
    """Return the names in `Data/` that a configuration speaks of: a save deletes every other file there."""
    names = {drive.get("ImageName") for drive in config["Drive"]}
    if config["Information"]["IconCustom"]:
        names.add(config["Information"]["Icon"])
    if config["Backend"] == "QEMU":
        qemu = config["QEMU"]
        fixed = {"efi_vars.fd": qemu["UEFIBoot"], "tpmdata": qemu["TPMDevice"], "debug.log": qemu["DebugLog"]}
        names |= {name for name, wanted in fixed.items() if wanted}
    else:
        boot = config["System"]["Boot"]
        names |= {boot.get(f"{key}Path") for key in ("LinuxKernel", "LinuxInitialRamdisk", "EfiVariableStorage")}
        names |= {config["System"].get("MacPlatform", {}).get("AuxiliaryStoragePath"), "vmstate"}
    return {str(name).rsplit("/", 1)[-1] for name in names if name}
