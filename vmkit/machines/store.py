"""The machines on this computer: one folder each, published by one rename, locked while something changes them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmkit.drivers.base import Vm
from vmkit.errors import NotFound, VmkitError
from vmkit.host.files import Lock, is_locked, own_directory, publish, read_bounded, staging, write_atomically
from vmkit.host.paths import Paths
from vmkit.host.text import printable
from vmkit.machines.model import Machine, checked_name

_MAX_RECORD = 64 << 10


@dataclass(frozen=True, kw_only=True)
class BrokenMachine:
    """A machine's folder whose record cannot be read; the others are not affected."""

    name: str
    folder: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """What a machine's journal says: the operation that has not ended, and how far it got."""

    operation: str
    phase: str


class MachineStore:
    """Open, list, add and remove machines."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def open(self, name: str) -> Machine:
        """Return the machine `name`. Raises NotFound with the nearest names, VmkitError when its record is broken."""
        folder = self.paths.machines / checked_name(name)
        try:
            return Machine.from_json(read_bounded(folder / "machine.json", max_bytes=_MAX_RECORD), folder=folder)
        except FileNotFoundError:
            if folder.is_dir():
                raise self._broken(name, "machine.json is missing") from None
            raise self._missing(name) from None
        except (ValueError, VmkitError) as error:
            raise self._broken(name, printable(str(error))) from error

    def exists(self, name: str) -> bool:
        """Tell whether there is a folder for `name`."""
        return (self.paths.machines / name).is_dir()

    def all(self) -> Iterator[Machine | BrokenMachine]:
        """Yield every machine by name. One that cannot be read is yielded as broken."""
        if not self.paths.machines.is_dir():
            return
        for folder in sorted(self.paths.machines.iterdir()):
            if not folder.is_dir():
                continue
            try:
                yield self.open(folder.name)
            except NotFound:  # deleted since it was listed
                continue
            except VmkitError as error:
                reason = error.detail or error.message
                yield BrokenMachine(name=printable(folder.name, max_chars=60), folder=folder, reason=reason)

    def only(self) -> str | None:
        """Return the name of the one machine there is, or None."""
        names = [machine.name for machine in self.all()]
        return names[0] if len(names) == 1 else None

    def vm(self, machine: Machine) -> Vm:
        """Return what a driver needs to know of the machine."""
        return machine.vm(self.paths.sockets(machine.uuid))

    def lock(self, name: str, purpose: str) -> Lock:
        """Take the machine's lock for a change. Raises Busy, naming the holder."""
        return Lock(self._lock_path(name)).acquire(purpose)

    def policy_lock(self, name: str) -> Lock:
        """Wait for the lock of the machine's policy file, which is held for moments only: not while a machine boots."""
        return Lock(self.paths.locks / f"{name}.policy.lock").acquire("net", wait=True)

    def changing(self, name: str) -> str | None:
        """Return what a living vmkit is doing to the machine ("create", "start", …), or None."""
        path = self._lock_path(name)
        if not is_locked(path):
            return None
        try:
            return str(json.loads(read_bounded(path, max_bytes=500))["purpose"])
        except (ValueError, KeyError, TypeError):
            return "change"

    def keeper_lock(self, name: str) -> Path:
        """Return what a machine's keeper holds while it lives."""
        return self.paths.locks / f"{name}.keeper.lock"

    def is_kept(self, name: str) -> bool:
        """Tell whether the machine's keeper lives."""
        return is_locked(self.keeper_lock(name))

    def publish(self, staged: Path, name: str) -> None:
        """Make a staged folder the machine `name`. Raises FileExistsError."""
        own_directory(self.paths.machines)
        publish(staged, self.paths.machines / name)

    def save(self, machine: Machine) -> None:
        """Write the machine's record."""
        write_atomically(machine.folder / "machine.json", machine.to_json().encode())

    def remove(self, name: str) -> None:
        """Remove a machine's folder: out of sight by one rename, then deleted."""
        with staging(self.paths.staging) as doomed:
            (self.paths.machines / name).rename(doomed / name)

    def _lock_path(self, name: str) -> Path:
        return self.paths.locks / f"{name}.lock"

    def _missing(self, name: str) -> NotFound:
        import difflib  # noqa: PLC0415  # for an error only

        names = [machine.name for machine in self.all()]
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "vmkit list"
        return NotFound(f'there is no machine "{name}"', hint=hint if names else f"vmkit create {name}")

    def _broken(self, name: str, reason: str) -> VmkitError:
        return VmkitError(f'machine "{name}" is broken', detail=reason, hint=f"vmkit delete --force {name}")


def write_journal(folder: Path, unfinished: Unfinished) -> None:
    """Record in the machine's folder what is being done to it."""
    content = json.dumps({"operation": unfinished.operation, "phase": unfinished.phase})
    write_atomically(folder / "journal.json", content.encode())


def read_journal(machine: Machine) -> Unfinished | None:
    """Return the operation on this machine that has not ended, or None."""
    try:
        data = json.loads(read_bounded(machine.journal, max_bytes=4096))
        return Unfinished(operation=printable(str(data["operation"])), phase=printable(str(data["phase"])))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return Unfinished(operation="an operation", phase="unknown")


def close_journal(machine: Machine) -> None:
    """Forget the journal: the operation has ended."""
    machine.journal.unlink(missing_ok=True)
