"""Pause a machine: it keeps its memory and does nothing until it is started."""

from vmkit.drivers.base import Driver
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.keep import Keeper


def suspend(machine: Machine, *, machines: MachineStore, driver: Driver) -> None:
    """Pause a running machine. Raises WrongState when it does not run, Busy."""
    with machines.lock(machine.name, "suspend"):
        driver.suspend(machines.vm(machine))
        Keeper(machine, machines=machines).end()  # it would knock at a guest that does not hear, again and again
