"""Who a machine is logged in as, and its end."""

import datetime as dt
import json
from dataclasses import dataclass

from vmkit.drivers.base import Driver
from vmkit.errors import ToolFailed
from vmkit.host.files import read_bounded, write_atomically
from vmkit.kiro.identity import WHOAMI_S, Identity
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.login import kiro, whoami
from vmkit.workflows.reach import reach

_MAX_BYTES = 4 << 10


@dataclass(frozen=True, kw_only=True)
class AuthStatus:
    """What `auth status` shows. `since` is ISO 8601 in UTC; None when the login was not made by vmkit."""

    machine: str
    identity: Identity | None
    since: str | None

    def to_json(self) -> dict[str, object]:
        """Return the JSON of the command-line contract."""
        known = self.identity.to_json() if self.identity else dict.fromkeys(_KEYS)
        return {"machine": self.machine, "logged_in": self.identity is not None, **known, "since": self.since}


_KEYS = ("account", "method", "start_url", "region")


def auth_status(machine: Machine, *, machines: MachineStore, driver: Driver) -> AuthStatus:
    """Ask the guest. Raises WrongState (it does not run), NotFound (no Kiro CLI), TransportFailed."""
    with reach(machine, machines=machines, driver=driver) as guest:
        identity = whoami(guest, machine)
    return AuthStatus(machine=machine.name, identity=identity, since=_since(machine) if identity else None)


def logout(machine: Machine, *, machines: MachineStore, driver: Driver) -> Identity | None:
    """Let Kiro log out and forget its token; return who was logged in.

    Raises ToolFailed when it says afterwards that it still is, WrongState, NotFound.
    """
    with reach(machine, machines=machines, driver=driver) as guest:
        before = whoami(guest, machine)
        said = guest.run(kiro("logout"), check=False, timeout_s=WHOAMI_S, max_bytes=64 << 10)
        if whoami(guest, machine) is not None:
            raise ToolFailed(f'"{machine.name}" is still logged in', detail=said.text)
    (machine.folder / "login.json").unlink(missing_ok=True)
    return before


def record_login(machine: Machine) -> None:
    """Remember when a login was made."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    write_atomically(machine.folder / "login.json", json.dumps({"since": now}).encode())


def _since(machine: Machine) -> str | None:
    try:
        return str(json.loads(read_bounded(machine.folder / "login.json", max_bytes=_MAX_BYTES))["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
