"""Who a machine is logged in as, and its end."""

import contextlib
from dataclasses import dataclass

from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import NotFound, ToolFailed
from vmkit.guest.ssh import SshGuest
from vmkit.host.process import Runner
from vmkit.kiro.identity import WHOAMI_S, Identity
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows import login_store
from vmkit.workflows.login import kiro, whoami
from vmkit.workflows.login_disk import DiskState, disk_state, wipe
from vmkit.workflows.reach import reach


@dataclass(frozen=True, kw_only=True)
class AuthStatus:
    """What `auth status` shows. `since` is ISO 8601 in UTC; None when the login was not made by vmkit."""

    machine: str
    identity: Identity | None
    since: str | None
    disk: DiskState

    def to_json(self) -> dict[str, object]:
        """Return the JSON of the command-line contract."""
        known = self.identity.to_json() if self.identity else dict.fromkeys(_KEYS)
        shown = {"machine": self.machine, "logged_in": self.identity is not None, **known}
        return {**shown, "since": self.since, "disk": str(self.disk)}


_KEYS = ("account", "method", "start_url", "region")


@dataclass(frozen=True, kw_only=True)
class LoggedOut:
    """Who was logged in, None when nobody or nobody knows. `revoked`: Kiro itself was asked to log out."""

    was: Identity | None
    revoked: bool


def auth_status(machine: Machine, *, machines: MachineStore, driver: Driver) -> AuthStatus:
    """Ask the guest. Raises WrongState (it does not run), NotFound (no Kiro CLI), TransportFailed."""
    with reach(machine, machines=machines, driver=driver) as guest:
        identity = whoami(guest, machine)
        disk = disk_state(guest, machine)
    since = login_store.logged_in_since(machine, paths=machines.paths) if identity else None
    return AuthStatus(machine=machine.name, identity=identity, since=since, disk=disk)


def logout(machine: Machine, *, machines: MachineStore, driver: Driver, runner: Runner) -> LoggedOut:
    """Let Kiro log out, then destroy the key of the login's disk and empty it; a stopped machine only has the latter.

    Raises ToolFailed when Kiro says afterwards that it still is logged in, NotFound, WrongState (a stopped machine
    without such a disk, or a program still uses it).
    """
    paths = machines.paths
    has_disk = login_store.has_login_disk(machine)
    with machines.lock(machine.name, "logout"):
        if has_disk and driver.state(machines.vm(machine)) in (MachineState.STOPPED, MachineState.BROKEN):
            login_store.destroy(machine.name, paths=paths)
            login_store.blank(machine, paths=paths, runner=runner)
            return LoggedOut(was=None, revoked=False)
        with reach(machine, machines=machines, driver=driver) as guest:
            before, said = _log_out(guest, machine, needed=not has_disk)
            if has_disk:
                login_store.destroy(machine.name, paths=paths)  # first: it ends the login whatever the guest does
                wipe(guest, machine)
            with contextlib.suppress(NotFound):
                if whoami(guest, machine) is not None:
                    raise ToolFailed(f'"{machine.name}" is still logged in', detail=said)
        login_store.forget_record(machine, paths=paths)
    return LoggedOut(was=before, revoked=before is not None)


def forget_kept(name: str, *, machines: MachineStore) -> None:
    """Destroy the login that a deleted machine has left for the next one of its name. Raises NotFound, Busy."""
    with machines.lock(name, "logout"):
        if machines.exists(name) or not login_store.is_kept(name, paths=machines.paths):
            raise NotFound(f'there is neither a machine "{name}" nor a login that one has left', hint="vmkit list")
        login_store.destroy(name, paths=machines.paths)


def _log_out(guest: SshGuest, machine: Machine, *, needed: bool) -> tuple[Identity | None, str]:
    """Return who was logged in, and what Kiro said. Without Kiro CLI only a login on a disk of its own can be ended."""
    try:
        before = whoami(guest, machine)
    except NotFound:
        if needed:
            raise
        return None, ""
    said = guest.run(kiro("logout"), check=False, timeout_s=WHOAMI_S, max_bytes=64 << 10)
    return before, said.text
