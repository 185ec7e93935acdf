"""What a machine is and does, in one value that both the text and the JSON are rendered from."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from vmkit.drivers.base import Driver, MachineState, NoAddressYet
from vmkit.errors import VmkitError
from vmkit.host.sizes import gib
from vmkit.machines.model import Machine
from vmkit.machines.store import BrokenMachine, MachineStore, read_journal

DriverFor = Callable[[str], Driver]

_AT_WORK = {"create": MachineState.CREATING, "start": MachineState.STARTING, "stop": MachineState.STOPPING}


@dataclass(frozen=True, kw_only=True)
class Status:
    """One machine, now. `note` is the evidence when something is wrong; `facts` is what the driver adds in `info`."""

    name: str
    state: MachineState
    machine: Machine | None
    address: tuple[str, int] | None = None
    note: str | None = None
    facts: dict[str, str] | None = None
    keeper: bool | None = None  # whether it lives; None for a machine that does not run

    def to_json(self) -> dict[str, object]:
        """Return MACHINE of the command-line contract."""
        machine = self.machine
        shown: dict[str, object] = {
            "name": self.name,
            "uuid": machine.uuid if machine else None,
            "driver": machine.driver if machine else None,
            "state": str(self.state),
            "template": machine.template if machine else None,
            "image": machine.image if machine else None,
            "arch": machine.arch if machine else None,
            "cpus": machine.cpus if machine else None,
            "memory_mib": machine.memory_mib if machine else None,
            "disk_gib": gib(machine.disk_bytes) if machine else None,
            "address": {"host": self.address[0], "port": self.address[1]} if self.address else None,
            "egress": machine.egress if machine else None,
            "keeper": None if self.keeper is None else "up" if self.keeper else "gone",
            "created": machine.created if machine else None,
            "bundle": str(machine.bundle) if machine else None,
        }
        return shown | ({"note": self.note} if self.note else {}) | ({"driver_facts": self.facts} if self.facts else {})


def status(machine: Machine, *, machines: MachineStore, driver: Driver, in_full: bool = False) -> Status:
    """Ask one machine. Never raises for what is wrong with the machine: that is `broken`, with a note."""
    vm = machines.vm(machine)
    try:
        state = driver.state(vm)
        alive = state not in (MachineState.STOPPED, MachineState.BROKEN)
        at_work = _AT_WORK.get(machines.changing(machine.name) or "")
        unfinished = read_journal(machine)
        note = f"{unfinished.operation} interrupted ({unfinished.phase})" if unfinished and not at_work else None
        if at_work:
            state = at_work
        elif unfinished and unfinished.operation == "create" and not alive:
            state = MachineState.CREATING
        keeper = machines.is_kept(machine.name) if alive and not at_work else None
        if keeper is False and machine.egress == "strict" and state == MachineState.RUNNING:
            note = note or "its keeper is gone, and with it its way out; the next command brings it back"
        where = None
        with contextlib.suppress(NoAddressYet):  # it is booting
            where = driver.address(vm) if alive else None
        return Status(
            name=machine.name,
            state=state,
            machine=machine,
            address=(where.host, where.port) if where else None,
            note=note,
            facts=driver.facts(vm) if in_full and alive else None,
            keeper=keeper,
        )
    except VmkitError as error:
        return Status(name=machine.name, state=MachineState.BROKEN, machine=machine, note=error.message)


def status_of_all(*, machines: MachineStore, driver_for: DriverFor) -> list[Status]:
    """Ask every machine, by name. A broken one is in the list and harms no other."""
    found = []
    for machine in machines.all():
        if isinstance(machine, BrokenMachine):
            found.append(Status(name=machine.name, state=MachineState.BROKEN, machine=None, note=machine.reason))
            continue
        try:
            driver = driver_for(machine.driver)
        except VmkitError as error:
            found.append(Status(name=machine.name, state=MachineState.BROKEN, machine=machine, note=error.message))
            continue
        found.append(status(machine, machines=machines, driver=driver))
    return found
