"""Say what adopting a machine would make of it, before anything is written."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vmkit.bundle.config import AppleConfig, QemuConfig
from vmkit.bundle.foreign import ForeignMachine, read_foreign
from vmkit.drivers.choice import checked_driver_name, default_driver_name
from vmkit.errors import Refused, UsageError
from vmkit.host.sizes import gib
from vmkit.machines.model import checked_name
from vmkit.machines.store import MachineStore
from vmkit.workflows.adopt_files import look_at_disk
from vmkit.workflows.plan import refuse_existing

_USERS = {"tart": "admin", "lume": "lume"}  # whom the images of tart and lume come with
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, kw_only=True)
class Held:
    """A machine that UTM has in its own storage."""

    uuid: str
    name: str
    backend: str
    system: str
    arch: str
    cpus: int
    memory_mib: int
    disk_bytes: int
    config: QemuConfig | AppleConfig


@dataclass(frozen=True, kw_only=True)
class AdoptPlan:
    """A machine that could be adopted. Either `foreign` is copied, or `held` stays where it is."""

    name: str
    driver: str
    user: str
    foreign: ForeignMachine | None = None
    held: Held | None = None

    @property
    def source(self) -> ForeignMachine | Held:
        """The machine as it is now."""
        found = self.foreign or self.held
        if found is None:
            raise ValueError(self.name)
        return found

    def to_json(self) -> dict[str, object]:
        """Return what `--dry-run --json` prints."""
        source = self.source
        return {
            "name": self.name,
            "from": self.foreign.kind if self.foreign else "utm",
            "path": str(self.foreign.path) if self.foreign else None,
            "copied": self.foreign is not None,
            "driver": self.driver,
            "backend": source.backend,
            "system": source.system,
            "arch": source.arch,
            "cpus": source.cpus,
            "memory_mib": source.memory_mib,
            "disk_gib": gib(source.disk_bytes),
            "user": self.user,
            "left_out": list(self.foreign.dropped) if self.foreign else [],
        }


def is_path(what: str) -> bool:
    """Tell whether WHAT names a folder rather than a machine: it has a slash, ends in `.utm`, or is there."""
    return "/" in what or what.endswith(".utm") or Path(what).is_dir()


def plan_adoption(
    what: str,
    *,
    as_name: str | None,
    user: str | None,
    driver: str | None,
    machines: MachineStore,
    find_held: Callable[[str], Held],
    login_name: str,
) -> AdoptPlan:
    """Look at a folder, or ask UTM (`find_held`) for a machine; write nothing. `login_name` is whose command it is.

    Raises NotFound, Refused, UsageError, HostLacks (a name, and no UTM), WrongState when the new name is taken.
    """
    if driver is not None and driver not in ("utm", "qemu"):
        checked_driver_name(driver)
    foreign = held = None
    if is_path(what):
        foreign = read_foreign(Path(what).expanduser(), look=look_at_disk)
        chosen = _driver_for(foreign, driver)
    else:
        if driver == "qemu":
            raise UsageError(f'"{what[:60]}" names a machine of UTM\'s, which the qemu driver does not have')
        held = find_held(what)
        chosen = "utm"
    found = foreign or held
    name = checked_name(as_name) if as_name else _name_for(found.name if found else what)
    if machines.exists(name):
        refuse_existing(name, machines)
    kind = foreign.kind if foreign else "utm"
    return AdoptPlan(
        name=name, driver=chosen, user=checked_user(user or _USERS.get(kind) or login_name), foreign=foreign, held=held
    )


def _driver_for(foreign: ForeignMachine, asked: str | None) -> str:
    if foreign.backend == "apple":
        if asked == "qemu":
            raise Refused(
                f'"{foreign.path.name}" is a machine of Apple\'s Virtualization framework, which QEMU does not run',
                hint="--driver utm, on a Mac",
            )
        return "utm"
    return asked or default_driver_name()


def _name_for(found: str) -> str:
    """Make a machine's name of what its maker called it: `My Debian` becomes `my-debian`."""
    name = _NOT_IN_NAMES.sub("-", found.removesuffix(".utm").lower()).strip("-")[:41].rstrip("-")
    if not name or not name[0].isalpha():
        raise UsageError("its name cannot name a machine of vmkit's", hint="choose one: --as NAME")
    return name


def checked_user(name: str) -> str:
    """Return `name` when it may be a user of a guest. Raises UsageError."""
    if not _USER.fullmatch(name):
        raise UsageError(f'"{name[:40]}" cannot be a user of the guest', hint="--user NAME")
    return name
