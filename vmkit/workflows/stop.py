"""Stop a machine: ask its guest, then force."""

from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import WrongState
from vmkit.host.report import Report
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore

STOP_S = 60.0


def stop(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    report: Report,
    timeout_s: float = STOP_S,
    force: bool = False,
) -> bool:
    """Stop a running machine; force at the deadline, or at once. Return whether force was used.

    Raises WrongState when it does not run, Busy.
    """
    with machines.lock(machine.name, "stop"):
        return stop_locked(machine, machines=machines, driver=driver, report=report, timeout_s=timeout_s, force=force)


def stop_locked(
    machine: Machine, *, machines: MachineStore, driver: Driver, report: Report, timeout_s: float, force: bool
) -> bool:
    """Stop a machine whose lock is held."""
    vm = machines.vm(machine)
    if driver.state(vm) == MachineState.STOPPED:
        raise WrongState(f'machine "{machine.name}" is not running', hint=f"vmkit start {machine.name}")
    with report.phase("stop", f"stopping {machine.name}"):
        forced = driver.stop(vm, timeout_s=timeout_s, force=force)
    if forced and not force:
        report.note(f'"{machine.name}" did not shut down within {timeout_s:g} s and was forced')
    return forced
