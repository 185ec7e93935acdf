"""Decode `config.plist`: which backend, which version, then every key in UTM's order. The model's public names."""

from enum import StrEnum

from vmkit.bundle.apple_config import AppleConfig
from vmkit.bundle.decode import ConfigError, Node, mismatch, read_int, read_record, read_text
from vmkit.bundle.plist_values import Odd, Value
from vmkit.bundle.qemu_config import (
    CONFIGURATION_VERSION,
    Display,
    Drive,
    ImageType,
    Input,
    Interface,
    Network,
    NetworkMode,
    PortForward,
    Protocol,
    Qemu,
    QemuConfig,
    Scaler,
    Serial,
    SerialMode,
    SerialTarget,
    ShareMode,
    Sharing,
    Sound,
    System,
    UsbBus,
)
from vmkit.bundle.shared_config import Information, Terminal

__all__ = [
    "AppleConfig",
    "Backend",
    "ConfigError",
    "Display",
    "Drive",
    "ImageType",
    "Information",
    "Input",
    "Interface",
    "Network",
    "NetworkMode",
    "PortForward",
    "Protocol",
    "Qemu",
    "QemuConfig",
    "Scaler",
    "Serial",
    "SerialMode",
    "SerialTarget",
    "ShareMode",
    "Sharing",
    "Sound",
    "System",
    "Terminal",
    "UsbBus",
    "decode",
]

_HEAD = ("Backend", "ConfigurationVersion")


class Backend(StrEnum):
    """Who runs the machine."""

    QEMU = "QEMU"
    APPLE = "Apple"


def decode(plist: Value, *, ignored: list[str] | None = None) -> QemuConfig | AppleConfig:
    """Return the configuration in a property list. `ignored` receives the paths of the keys that UTM passes over.

    Raises ConfigError, with the key path and UTM's error, for the first thing that UTM would not load.
    """
    node = Node(plist, "", [] if ignored is None else ignored)
    if not isinstance(plist, dict):
        raise mismatch(node, "Dictionary<String, Any>")
    backend = _backend(node, plist)
    _check_version(node, plist)
    if backend is Backend.APPLE:
        return read_record(AppleConfig, node, known=_HEAD)
    return read_record(QemuConfig, node, known=_HEAD)


def _backend(node: Node, plist: dict[str, Value]) -> Backend:
    found = plist.get("Backend", Odd("null"))
    name = "Unknown" if found == Odd("null") else read_text(node.child("Backend", found), {})
    if name not in (*Backend.__members__.values(), "Unknown"):
        raise ConfigError("dataCorrupted: UTM knows no such backend", path="Backend")
    version = _version(node, plist)
    if name == "Unknown":
        raise ConfigError(f"legacy: no Backend key: UTM takes it for a file of UTM 3 or older (version {version})")
    return Backend(name)


def _version(node: Node, plist: dict[str, Value]) -> int:
    found = plist.get("ConfigurationVersion", Odd("null"))
    return 0 if found == Odd("null") else read_int(node.child("ConfigurationVersion", found), {})


def _check_version(node: Node, plist: dict[str, Value]) -> None:
    version = _version(node, plist)
    if version < CONFIGURATION_VERSION:
        raise ConfigError("UTMConfigurationError.versionTooLow: this configuration is too old and is not supported")
    if version > CONFIGURATION_VERSION:
        raise ConfigError("UTMConfigurationError.versionTooHigh: this configuration is of a newer version of UTM")
