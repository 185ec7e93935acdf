"""Stop a machine and start it again."""

import contextlib
from collections.abc import Iterator

from vmkit.drivers.base import Driver, MachineState
from vmkit.host.report import Report, Silent
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.reach import reach_later
from vmkit.workflows.start import READY_S, boot, check_listeners, start
from vmkit.workflows.stop import STOP_S, stop, stop_locked


def restart(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    report: Report,
    timeout_s: float = READY_S,
    force: bool = False,
    exposed: bool = False,
) -> None:
    """Stop a machine that runs, and start it; one that `start` would refuse is not stopped. Raises as both do."""
    vm = machines.vm(machine)
    if driver.state(vm) != MachineState.STOPPED:
        check_listeners(vm, driver=driver, report=Silent(), exposed=exposed)
        stop(machine, machines=machines, driver=driver, report=report, force=force)
    start(machine, machines=machines, driver=driver, report=report, timeout_s=timeout_s, exposed=exposed)


@contextlib.contextmanager
def stopped(machine: Machine, *, machines: MachineStore, driver: Driver, report: Report) -> Iterator[None]:
    """Have a machine whose lock is held stopped meanwhile; one that ran is started again, and not waited for.

    Raises as `stop` and `boot` do.
    """
    vm = machines.vm(machine)
    if driver.state(vm) in (MachineState.STOPPED, MachineState.BROKEN):
        yield
        return
    check_listeners(vm, driver=driver, report=Silent(), exposed=False)
    report.note(f'"{machine.name}" is stopped for this, and started again afterwards')
    stop_locked(machine, machines=machines, driver=driver, report=report, timeout_s=STOP_S, force=False)
    try:
        yield
    finally:
        boot(machine, machines=machines, driver=driver, report=report)
        if machine.egress == "strict":
            reach_later(machine, machines=machines, driver=driver)
