"""Hand a bundle to UTM, and make sure that UTM has what was rendered.

UTM copies the bundle and from then on holds the configuration in memory: neither copy is ever edited by us.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmkit.bundle.config import AppleConfig, ConfigError, QemuConfig
from vmkit.bundle.layout import Bundle
from vmkit.drivers.applescript import AppleScript
from vmkit.drivers.base import Vm
from vmkit.errors import NotFound, Refused
from vmkit.host.computer import machine_arch
from vmkit.host.text import printable

DOCUMENTS = Path("Library/Containers/com.utmapp.UTM/Data/Documents")  # in the user's home; UTM is sandboxed

_MAX_BUNDLES = 10_000
_SHOWN = 12
# What UTM makes for itself at a save, and so may have where the render has nothing.
_MADE_BY_UTM = {
    "System.Boot.EfiVariableStoragePath",
    "System.GenericPlatform",
    "System.GenericPlatform.machineIdentifier",
    "System.MacPlatform.AuxiliaryStoragePath",
}
_MODES = {"emulated": "EmUd", "shared": "ShRd", "host": "HoSt", "bridged": "BrGd"}


def find_bundle(uuid: str, documents: Path) -> Path | None:
    """Return the bundle of a machine in UTM's storage; None when it is not there or macOS does not let us look."""
    for path in _bundles(documents):
        try:
            if Bundle(path).read_any().information.uuid == uuid:
                return path
        except (OSError, Refused, NotFound):
            continue
    return None


def differences(vm: Vm, *, scripts: AppleScript, documents: Path) -> list[str]:
    """Compare what UTM has with what was rendered, key by key: what UTM's memory shows, and its file if readable."""
    wanted = Bundle(vm.bundle).read_any()
    found = unlike(record(wanted), _record_of_utm(scripts.configuration(vm.uuid)))
    path = find_bundle(vm.uuid, documents)
    if path is None:
        return found + _unreadable(vm, documents)
    return found + unlike(wanted.to_plist(), Bundle(path).read_any().to_plist())


def unlike(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Name the keys in which two values differ. Keys that UTM adds for itself are no difference."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = [*wanted, *(key for key in found if key not in wanted)]
        return [
            line
            for key in keys
            if not (key not in wanted and f"{path}{key}" in _MADE_BY_UTM)
            for line in unlike(wanted.get(key), found.get(key), f"{path}{key}.")
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [
            line
            for i, pair in enumerate(zip(wanted, found, strict=True))
            for line in unlike(*pair, f"{path.removesuffix('.')}[{i}].")
        ]
    if wanted == found and type(wanted) is type(found):
        return []
    return [f"{path.removesuffix('.')}: {_shown(wanted)} was rendered, {_shown(found)} is in UTM"]


def record(config: QemuConfig | AppleConfig) -> dict[str, Any]:
    """Return what of a configuration UTM shows to scripts, in its words."""
    shown: dict[str, Any] = {
        "name": config.information.name,
        "memory": config.system.memory_mib,
        "cpuCores": config.system.cpu_count,
        "drives": [drive.identifier for drive in config.drive],
        "networkInterfaces": [_network(network) for network in config.network],
    }
    if isinstance(config, QemuConfig):
        shown |= {
            "architecture": config.system.architecture,
            "machine": config.system.target,
            "hypervisor": config.qemu.hypervisor,
            "uefi": config.qemu.uefi_boot,
        }
    return shown


def needs_a_save(vm: Vm) -> bool:
    """Tell whether UTM makes a file of the machine (`efi_vars.fd`, `AuxiliaryStorage`) only when it saves."""
    config = Bundle(vm.bundle).read_any()
    return isinstance(config, AppleConfig) and (config.system.boot.uefi_boot or config.system.mac_platform is not None)


def accelerator(vm: Vm) -> str:
    """Return what UTM runs the machine with, and why, by UTM's own rule."""
    config = Bundle(vm.bundle).read_any()
    if not isinstance(config, QemuConfig):
        return "virtualization: UTM's Apple backend"
    if config.qemu.hypervisor and config.system.architecture == machine_arch():
        return "hvf: the machine asks for it and is of this computer's architecture"
    return "tcg: the machine is of another architecture, or does not ask for the hypervisor"


def has_files(vm: Vm) -> bool:
    """Tell whether our copy still has its disks: UTM has not, or not for certain, taken the machine over."""
    data = Bundle(vm.bundle).data
    return data.is_dir() and any(data.iterdir())


def drop_files(vm: Vm) -> None:
    """Delete the disks of our copy, which UTM has now; config.plist stays, as the record of what was rendered."""
    for path in Bundle(vm.bundle).data.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _network(network: Any) -> dict[str, Any]:
    shown = {"mode": str(network.mode).lower(), "address": network.mac_address.upper()}
    forwards = getattr(network, "port_forward", None)
    if forwards is None:
        return shown
    ports = [[forward.host_address or "", forward.host_port, forward.guest_port] for forward in forwards]
    return {**shown, "portForwards": ports}


def _record_of_utm(found: dict[str, Any]) -> dict[str, Any]:
    """Reduce UTM's record to the keys and the form of `record`; values of other types stay as they are."""
    names = ("name", "memory", "cpuCores", "architecture", "machine", "hypervisor", "uefi")
    shown = {name: found[name] for name in names if name in found}
    shown["drives"] = [_value(drive, "id") for drive in _list(found, "drives")]
    shown["networkInterfaces"] = [_network_of_utm(network) for network in _list(found, "networkInterfaces")]
    return shown


def _network_of_utm(network: Any) -> dict[str, Any]:
    mode, address = _value(network, "mode"), _value(network, "address")
    words = {code: word for word, code in _MODES.items()}  # an enumerator may come as its code
    shown = {"mode": words.get(str(mode), mode), "address": address.upper() if isinstance(address, str) else address}
    if "portForwards" not in (network if isinstance(network, dict) else {}):
        return shown
    ports = [
        [_value(forward, "hostAddress") or "", _value(forward, "hostPort"), _value(forward, "guestPort")]
        for forward in _list(network, "portForwards")
    ]
    return {**shown, "portForwards": ports}


def _list(found: dict[str, Any], name: str) -> list[Any]:
    value = found.get(name)
    return value if isinstance(value, list) else []


def _value(element: Any, name: str) -> Any:
    return element.get(name) if isinstance(element, dict) else None


def _bundles(documents: Path) -> Iterator[Path]:
    try:
        yield from sorted(documents.glob("*.utm"))[:_MAX_BUNDLES]
    except OSError:  # macOS asks before it lets a terminal into another app's container
        return


def _unreadable(vm: Vm, documents: Path) -> list[str]:
    """Say of a bundle that bears the machine's name and cannot be read as a configuration what is wrong with it."""
    for path in _bundles(documents):
        if path.name.startswith(vm.name):
            try:
                Bundle(path).read_any()
            except ConfigError as error:
                return [f"{error.path or 'config.plist'}: {error.problem}"]
            except (OSError, Refused, NotFound):
                continue
    return []


def _shown(value: Any) -> str:
    return printable("nothing" if value is None else repr(value), max_chars=80)


def listed(found: list[str]) -> str:
    """Return differences as lines to show."""
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return "\n".join([*found[:_SHOWN], *more])
