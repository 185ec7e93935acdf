"""What UTM does with a machine, whoever asks: utmctl or a script. Each raises EventError."""

import shutil
from pathlib import Path

from tests.utmsim import qemu
from tests.utmsim.faults import EventError, Trouble
from tests.utmsim.place import Place
from tests.utmsim.registry import MUST_BE_STOPPED, NOT_AVAILABLE, NOT_RUNNING, NOT_SUPPORTED, Entry, Registry

_MACOS_LIMIT = 2


def status(entry: Entry, place: Place) -> str:
    return qemu.status(entry, place.sockets(entry.uuid))


def start(registry: Registry, entry: Entry, trouble: Trouble, *, disposable: bool, recovery: bool) -> None:
    """Start, or resume a paused machine."""
    place = registry.place
    now = status(entry, place)
    if now not in ("stopped", "paused"):
        raise EventError(NOT_AVAILABLE)
    if trouble.happens("start-ignored"):
        return
    if (entry.is_qemu and recovery) or (disposable and not entry.is_qemu):
        raise EventError(NOT_SUPPORTED)
    if now == "paused":
        if entry.is_qemu:
            qemu.monitor(place.sockets(entry.uuid), "cont")
        entry.status = "started"
    elif entry.is_qemu:
        qemu.start(entry, place.sockets(entry.uuid), disposable=disposable)
    else:
        _start_apple(registry, entry)


def _start_apple(registry: Registry, entry: Entry) -> None:
    """Check what Virtualization.framework checks, and say that it runs."""
    system = entry.config["System"]
    boot = system["Boot"]
    if system["Architecture"] != registry.place.architecture:
        raise EventError("This virtual machine cannot be run on this machine.")
    if boot["OperatingSystem"] == "macOS" and ("MacPlatform" not in system or system["Architecture"] != "aarch64"):
        raise EventError("This virtual machine cannot run on the current host machine.")
    needed = [drive.get("ImageName") for drive in entry.config["Drive"]]
    if "MacPlatform" in system:
        needed.append(system["MacPlatform"].get("AuxiliaryStoragePath", "AuxiliaryStorage"))
    elif boot.get("UEFIBoot"):
        needed.append(boot.get("EfiVariableStoragePath", "efi_vars.fd"))
    else:
        needed += [boot.get("LinuxKernelPath", "(no kernel)"), boot.get("LinuxInitialRamdiskPath")]
    for name in filter(None, needed):
        file = entry.data / Path(name).name
        if not file.exists():
            raise EventError(f"Cannot access resource: {file}")
        with file.open("rb") as opened:
            if opened.read(4) == b"QFI\xfb":
                raise EventError("Invalid virtual machine configuration. The storage device attachment is invalid.")
    running = [
        other
        for other in registry.entries
        if not other.is_qemu
        and other.config["System"]["Boot"]["OperatingSystem"] == "macOS"
        and other.status != "stopped"
    ]
    if boot["OperatingSystem"] == "macOS" and len(running) >= _MACOS_LIMIT:
        raise EventError("The maximum supported number of active virtual machines has been reached.")
    entry.status = "started"


def suspend(entry: Entry, place: Place, *, save: bool) -> None:
    if status(entry, place) != "started":
        raise EventError(NOT_RUNNING)
    if entry.is_qemu:
        if save and (reason := _cannot_save(entry)):
            raise EventError(reason)
        qemu.monitor(place.sockets(entry.uuid), "stop")
    entry.suspended, entry.status = save, "paused"


def _cannot_save(entry: Entry) -> str:
    if entry.disposable:
        return "Cannot save a disposable virtual machine."
    if any(drive["Interface"] == "NVMe" for drive in entry.config["Drive"]):
        return "Suspend state cannot be saved when an NVMe drive is attached."
    if any("-gl" in display["Hardware"] for display in entry.config["Display"]):
        return "Suspend state cannot be saved when GPU acceleration is enabled."
    return ""


def stop(entry: Entry, place: Place, way: str, trouble: Trouble) -> None:
    """Stop by `force`, `kill` or `request`; a request is only sent."""
    if way != "kill" and status(entry, place) != "started":
        raise EventError(NOT_RUNNING)
    if (fault := trouble.take("stop-ignored")) and (fault["value"] is None or way in fault["value"]):
        return
    if not entry.is_qemu:
        entry.status = "stopped"
    elif way == "request":
        qemu.monitor(place.sockets(entry.uuid), "system_powerdown")
    else:
        qemu.end(entry, place.sockets(entry.uuid), kill=way == "kill")


def delete(registry: Registry, entry: Entry) -> None:
    must_be_stopped(entry, registry.place)
    registry.delete(entry)


def must_be_stopped(entry: Entry, place: Place) -> None:
    if status(entry, place) != "stopped":
        raise EventError(MUST_BE_STOPPED)


def export(entry: Entry, place: Place, target: Path) -> None:
    must_be_stopped(entry, place)
    if target.is_dir():
        shutil.rmtree(target)
    shutil.copytree(entry.path, target, symlinks=True)


def addresses(entry: Entry, place: Place, trouble: Trouble) -> list[str]:
    if status(entry, place) != "started":
        raise EventError(NOT_RUNNING)
    if entry.is_qemu:
        need_agent(entry, trouble)
        return qemu.addresses(place.sockets(entry.uuid))
    if place.version < (5, 0, 3):
        raise EventError(NOT_SUPPORTED)
    fault = trouble.take("apple-address")
    return [str(fault["value"])] if fault else []


def need_agent(entry: Entry, trouble: Trouble) -> None:
    if not entry.is_qemu:
        raise EventError(NOT_SUPPORTED)
    if trouble.happens("no-agent"):
        raise EventError(qemu.NO_AGENT)
