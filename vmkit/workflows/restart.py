"""Stop a machine and start it again."""

from vmkit.drivers.base import Driver, MachineState
from vmkit.host.report import Report, Silent
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.start import READY_S, check_listeners, start
from vmkit.workflows.stop import stop


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
