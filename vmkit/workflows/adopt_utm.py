"""Find a machine that UTM holds, by its name or UUID. It stays where it is: only its configuration is read."""

from pathlib import Path

from vmkit.bundle.apple_config import OperatingSystem
from vmkit.bundle.config import AppleConfig, NetworkMode, QemuConfig
from vmkit.bundle.layout import Bundle
from vmkit.drivers.applescript import AppleScript, Entry
from vmkit.drivers.choice import checked_driver_name
from vmkit.drivers.events import patiently
from vmkit.drivers.utm_bundle import DOCUMENTS, find_bundle
from vmkit.errors import HostLacks, NotFound, Refused, UsageError
from vmkit.host.process import Runner
from vmkit.host.text import printable
from vmkit.workflows.adopt_files import look_at_disk
from vmkit.workflows.adopt_plan import Held

SSH_PORT = 22


def find_held(what: str, *, runner: Runner, home: Path) -> Held:
    """Return the machine of UTM's with the name or UUID `what`. UTM's storage is in the user's `home`.

    Raises HostLacks (no UTM, no permission), NotFound, UsageError (two of that name), Refused.
    """
    checked_driver_name("utm")
    scripts = AppleScript(runner=runner)
    entry = _choose(what, patiently(scripts.listing, what="UTM did not answer"))
    path = find_bundle(entry.uuid, home / DOCUMENTS)
    if path is None:
        raise HostLacks(
            f'UTM has "{printable(entry.name, max_chars=60)}", and vmkit cannot read its bundle',
            detail=str(home / DOCUMENTS),
            hint="System Settings → Privacy & Security → Full Disk Access: allow this terminal",
        )
    return held_machine(path)


def held_machine(path: Path) -> Held:
    """Return what the bundle of a machine in UTM's storage says. Raises Refused, NotFound."""
    bundle = Bundle(path)
    config = bundle.read_any()
    is_mac = isinstance(config, AppleConfig) and config.system.boot.operating_system is OperatingSystem.MACOS
    if isinstance(config, QemuConfig):
        _require_forward(config)
    return Held(
        uuid=config.information.uuid,
        name=config.information.name,
        backend="qemu" if isinstance(config, QemuConfig) else "apple",
        system="macos" if is_mac else "linux",
        arch=config.system.architecture,
        cpus=config.system.cpu_count,
        memory_mib=config.system.memory_mib,
        disk_bytes=_disk_bytes(bundle, config),
        config=config,
    )


def _choose(what: str, entries: list[Entry]) -> Entry:
    found = [entry for entry in entries if entry.uuid == what.upper()] or [
        entry for entry in entries if entry.name == what
    ]
    if not found:
        names = ", ".join(sorted(printable(entry.name, max_chars=40) for entry in entries)[:8])
        raise NotFound(
            f'UTM has no machine "{printable(what, max_chars=60)}"',
            detail=f"it has: {names}" if names else "it shows none: is its window open?",
            hint="a name or UUID of UTM's, or the path of a folder (with a slash in it)",
        )
    if len(found) > 1:
        raise UsageError(
            f'UTM has {len(found)} machines "{printable(what, max_chars=60)}"',
            detail="\n".join(entry.uuid for entry in found),
            hint="name one by its UUID",
        )
    return found[0]


def _require_forward(config: QemuConfig) -> None:
    """Raise Refused unless a port of this computer leads to the guest's sshd: UTM's other networks are not asked."""
    for network in config.network:
        if network.mode is NetworkMode.EMULATED and any(
            forward.guest_port == SSH_PORT for forward in network.port_forward
        ):
            return
    raise Refused(
        f'"{printable(config.information.name, max_chars=60)}" forwards no port to its sshd',
        hint="in UTM: Network → Emulated VLAN → Port Forward → TCP, host 127.0.0.1, a free port, guest port 22",
    )


def _disk_bytes(bundle: Bundle, config: QemuConfig | AppleConfig) -> int:
    """Return the size of the first disk, 0 when it cannot be told: nothing is copied, and nothing depends on it."""
    for drive in config.drive:
        if drive.image_name and not drive.read_only:
            try:
                return look_at_disk(bundle.file(drive.image_name))[1]
            except (OSError, Refused):
                return 0
    return 0
