"""Stop a machine: ask its guest, then force."""

import contextlib
from functools import partial

from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import VmkitError, WrongState
from vmkit.host.report import Report
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.keep import Keeper

STOP_S = 60.0

_ASK_S = 10.0


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
        ask = None
        if machine.backend == "apple":  # has no agent, and macOS guests answer the power button with a question
            ask = partial(_shut_down, machine, machines=machines, driver=driver)
        forced = driver.stop(vm, timeout_s=timeout_s, force=force, ask=ask)
    Keeper(machine, machines=machines).end()
    if forced and not force:
        report.note(f'"{machine.name}" did not shut down within {timeout_s:g} s and was forced')
    return forced


def _shut_down(machine: Machine, *, machines: MachineStore, driver: Driver) -> None:
    """Ask the guest over SSH, if it can be reached."""
    from vmkit.guest.base import Command  # noqa: PLC0415  # paramiko, for machines of the Apple backend only
    from vmkit.workflows.reach import reach  # noqa: PLC0415

    with contextlib.suppress(VmkitError), reach(machine, machines=machines, driver=driver, timeout_s=_ASK_S) as guest:
        guest.run(Command("sudo", "-n", "shutdown", "-h", "now"), check=False, timeout_s=_ASK_S)
