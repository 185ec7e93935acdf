"""Delete a machine and everything vmkit made for it."""

import shutil

from vmkit.drivers.base import MachineState
from vmkit.errors import NotFound, VmkitError, WrongState
from vmkit.host.report import Report
from vmkit.machines.store import MachineStore, read_journal
from vmkit.workflows.status import DriverFor


def delete(name: str, *, machines: MachineStore, driver_for: DriverFor, report: Report, force: bool = False) -> None:
    """Delete the machine `name`. A running one is refused without `force`, unless its create never ended.

    A machine whose record is broken is deleted with `force` only. Raises NotFound, WrongState, Busy.
    """
    with machines.lock(name, "delete"):
        try:
            machine = machines.open(name)
        except NotFound:
            raise
        except VmkitError:
            if not force:
                raise
            machines.remove(name)
            return
        driver = driver_for(machine.driver)
        vm = machines.vm(machine)
        if driver.state(vm) not in (MachineState.STOPPED, MachineState.BROKEN):
            unfinished = read_journal(machine)
            if not force and not (unfinished and unfinished.operation == "create"):
                raise WrongState(
                    f'machine "{name}" is running', hint=f"vmkit stop {name}, or vmkit delete --force {name}"
                )
            with report.phase("stop", f"stopping {name}"):
                driver.stop(vm, timeout_s=0, force=True)
        driver.remove(vm)
        machines.remove(name)
        shutil.rmtree(vm.sockets, ignore_errors=True)
