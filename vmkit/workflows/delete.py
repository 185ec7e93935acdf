"""Delete a machine and everything vmkit made for it."""

import shutil

from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import NotFound, VmkitError, WrongState
from vmkit.host.report import Report
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore, read_journal
from vmkit.workflows.keep import Keeper
from vmkit.workflows.login_store import destroy, detach, detach_from_folder, has_login_disk, logged_in_since
from vmkit.workflows.status import DriverFor


def delete(
    name: str,
    *,
    machines: MachineStore,
    driver_for: DriverFor,
    report: Report,
    force: bool = False,
    forget_login: bool = False,
) -> None:
    """Delete the machine `name`. A running one is refused without `force`, unless its create never ended.

    Kiro's login stays, for the next machine of that name, unless it is to be forgotten. A machine whose record is
    broken is deleted with `force` only. Raises NotFound, WrongState, Busy.
    """
    with machines.lock(name, "delete"):
        try:
            machine = machines.open(name)
        except NotFound:
            raise
        except VmkitError:
            if not force:
                raise
            if not forget_login:
                detach_from_folder(name, paths=machines.paths)
            machines.remove(name)
            _forget(name, machines, forget=forget_login)
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
        Keeper(machine, machines=machines).end()
        if not forget_login:
            _keep_login(machine, machines=machines, driver=driver, report=report)
        driver.remove(vm)
        machines.remove(name)
        shutil.rmtree(vm.sockets, ignore_errors=True)
        _forget(name, machines, forget=forget_login)


def _keep_login(machine: Machine, *, machines: MachineStore, driver: Driver, report: Report) -> None:
    """Take the login out of the machine; say what becomes of one that vmkit made."""
    since = logged_in_since(machine, paths=machines.paths)
    if detach(machine, machines=machines, driver=driver):
        if since:
            report.note(
                f'its Kiro login stays for the next machine "{machine.name}"; vmkit auth logout {machine.name} ends it'
            )
        return
    if since and has_login_disk(machine):
        report.note(
            f'the Kiro login of "{machine.name}" goes with it: its disk is in UTM, and cannot be read from here'
        )


def _forget(name: str, machines: MachineStore, *, forget: bool) -> None:
    if forget:
        destroy(name, paths=machines.paths)
