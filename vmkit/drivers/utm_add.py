"""Bring a machine into UTM, and change there what we have to change: the two things that only scripts can do."""

from pathlib import Path
from typing import Any

from vmkit.drivers.applescript import AppleScript
from vmkit.drivers.base import Vm
from vmkit.drivers.events import patiently
from vmkit.drivers.utm_bundle import DOCUMENTS, differences, drop_files, has_files, listed, needs_a_save
from vmkit.drivers.utmctl import Utmctl
from vmkit.drivers.vocabulary import read_vocabulary
from vmkit.errors import HostLacks, ToolFailed, VmkitError, WrongState
from vmkit.host.process import Runner

SSH_PORT = 22


def add_machine(vm: Vm, *, runner: Runner, utmctl: Utmctl, app: Path, home: Path) -> None:
    """Import the machine unless UTM has it, and give up our copy's disks when UTM has what was rendered.

    Raises ToolFailed, with the differences, after what was imported has been removed; HostLacks (an old UTM).
    """
    scripts = AppleScript(runner=runner)
    known = any(row.uuid == vm.uuid for row in patiently(utmctl.machines, what="UTM did not answer"))
    if known and not has_files(vm):
        return
    if not known:
        _import(vm, scripts=scripts, utmctl=utmctl, app=app)
    try:
        _verify(vm, scripts=scripts, documents=home / DOCUMENTS)
    except BaseException:
        if not known:  # else it may have run since an earlier attempt broke off, and its disks are the newer ones
            _undo(vm.uuid, utmctl=utmctl)
        raise
    drop_files(vm)


def _verify(vm: Vm, *, scripts: AppleScript, documents: Path) -> None:
    found = patiently(lambda: differences(vm, scripts=scripts, documents=documents), what="UTM did not answer")
    if found:
        raise ToolFailed(
            f'UTM has something else for machine "{vm.name}" than was rendered',
            detail=listed(found),
            hint="vmkit doctor says whether this UTM is known to work",
        )
    if needs_a_save(vm):
        patiently(lambda: scripts.update_configuration(vm.uuid, {}), what="UTM did not save the machine")


def forward_in_utm(vm: Vm, port: int, *, runner: Runner) -> None:
    """Let UTM forward `port` to the guest's sshd, with every other element kept. Raises WrongState, ToolFailed."""
    scripts = AppleScript(runner=runner)
    networks = patiently(lambda: scripts.configuration(vm.uuid), what="UTM did not answer").get("networkInterfaces")
    if not isinstance(networks, list) or not any(_forwards(network) for network in networks):
        raise WrongState(f'UTM forwards no port to the sshd of machine "{vm.name}"')
    for network in networks:
        for forward in _forwards(network):
            forward["hostPort"] = port
    changes = {"networkInterfaces": networks}
    patiently(lambda: scripts.update_configuration(vm.uuid, changes), what="UTM did not move the port")
    now = patiently(lambda: scripts.configuration(vm.uuid), what="UTM did not answer").get("networkInterfaces")
    ports = [forward.get("hostPort") for network in now or [] for forward in _forwards(network)]
    if set(ports) != {port}:
        raise ToolFailed(f'UTM did not move the port of machine "{vm.name}"', hint="change it in UTM, then start again")


def _import(vm: Vm, *, scripts: AppleScript, utmctl: Utmctl, app: Path) -> None:
    if not has_files(vm):
        raise WrongState(
            f'UTM does not have machine "{vm.name}", nor are its disks here',
            hint=f"if it was deleted in UTM, vmkit delete {vm.name} forgets it here too",
        )
    if not read_vocabulary(app).imports:
        raise HostLacks("this UTM cannot import machines by script", hint="update UTM, to 5.0.3 or newer")

    def attempt() -> str:
        if any(row.uuid == vm.uuid for row in utmctl.machines()):  # an attempt that broke off was heard
            return vm.uuid
        return scripts.import_bundle(vm.bundle.absolute())

    given = patiently(attempt, what=f'UTM did not import machine "{vm.name}"')
    if given != vm.uuid:
        _undo(given, utmctl=utmctl)
        raise ToolFailed(
            f'UTM gave machine "{vm.name}" another UUID: it has one with this UUID that it does not show',
            detail=f"wanted {vm.uuid}, got {given}",
            hint="quit UTM, open it, and try again",
        )


def _undo(uuid: str, *, utmctl: Utmctl) -> None:
    """Delete what was imported; when UTM does not, the error under way is still the one to tell."""
    try:
        patiently(lambda: utmctl.delete(uuid), what="UTM did not delete it")
    except VmkitError:
        return


def _forwards(network: Any) -> list[dict[str, Any]]:
    found = network.get("portForwards") if isinstance(network, dict) else None
    forwards = found if isinstance(found, list) else []
    return [forward for forward in forwards if isinstance(forward, dict) and forward.get("guestPort") == SSH_PORT]
