"""Start a machine and wait until its guest can be used."""

from collections.abc import Callable
from pathlib import Path

from vmkit.bundle.layout import Bundle
from vmkit.bundle.listeners import open_listeners
from vmkit.drivers.base import Driver, MachineState, NoAddressYet, PortTaken, Vm
from vmkit.errors import NotFound, Refused, ToolFailed, VmkitError, WrongState
from vmkit.guest.keys import load_keys
from vmkit.guest.ready import wait_until_ready
from vmkit.guest.ssh import SshGuest
from vmkit.host.files import tail
from vmkit.host.ports import choose_port
from vmkit.host.report import Report
from vmkit.host.text import printable_lines
from vmkit.host.wait import Deadline, until
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.closed_network import close_guest, closed_note
from vmkit.workflows.keep import Keeper
from vmkit.workflows.login_disk import unlock_or_say
from vmkit.workflows.login_store import attach
from vmkit.workflows.reach import reach_later
from vmkit.workflows.ready_state import keep_ready, refresh

READY_S = 600.0
_PORT_TRIES = 5


def start(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    report: Report,
    timeout_s: float = READY_S,
    disposable: bool = False,
    recovery: bool = False,
    exposed: bool = False,
    wait: bool = True,
) -> None:
    """Start a stopped machine, or let a paused one go on; with `wait`, return when its guest is ready.

    Raises WrongState (it runs), ToolFailed (it died, with the console's last lines), TimedOut, Busy, Refused (`boot`).
    """
    with machines.lock(machine.name, "start"):
        deadline = Deadline(timeout_s)
        resumed = boot(
            machine,
            machines=machines,
            driver=driver,
            report=report,
            disposable=disposable,
            recovery=recovery,
            exposed=exposed,
        )
        if wait:

            def ready(*, announced: bool) -> SshGuest:
                return await_guest(
                    machine,
                    machines=machines,
                    driver=driver,
                    report=report,
                    timeout_s=deadline.left_s,
                    announced=announced,
                )

            guest = ready(announced=resumed)
            if not resumed and driver.can_keep_ready(machines.vm(machine)):
                keep_ready(guest, machine, machines=machines, driver=driver, report=report)
                guest = ready(announced=True)
            with guest:
                if resumed:
                    refresh(guest)
                unlock_or_say(guest, machine, machines=machines, report=report)
        elif machine.egress == "strict":
            reach_later(machine, machines=machines, driver=driver)


def boot(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    report: Report,
    disposable: bool = False,
    recovery: bool = False,
    exposed: bool = False,
) -> bool:
    """Start the process of a machine whose lock is held, choosing another port when its own is taken.

    Return whether it goes on from its ready state.
    Raises Refused when its bundle lets other computers connect to it, unless `exposed`: then it is said.
    """
    vm = machines.vm(machine)
    state = driver.state(vm)
    if state not in (MachineState.STOPPED, MachineState.BROKEN, MachineState.PAUSED):
        raise WrongState(f'machine "{machine.name}" is running', hint=f"vmkit shell {machine.name}")
    if state is not MachineState.PAUSED:
        check_listeners(vm, driver=driver, report=report, exposed=exposed)
        attach(machine, paths=machines.paths)  # what an interrupted create or delete left outside
    if machine.egress == "open":
        report.note(f'the network of "{machine.name}" is open: its guest reaches what this computer reaches')
    with report.phase("start", f"starting {machine.name}"):
        for attempt in range(_PORT_TRIES):
            try:
                return driver.start(vm, disposable=disposable, recovery=recovery)
            except PortTaken:
                if attempt == _PORT_TRIES - 1:
                    raise
                driver.move_port(vm, choose_port())
    raise AssertionError  # the last try returned or raised


def check_listeners(vm: Vm, *, driver: Driver, report: Report, exposed: bool) -> None:
    """Refuse a machine whose bundle lets other computers connect to it, unless `exposed`: then say so."""
    try:
        found = open_listeners(Bundle(driver.find_bundle(vm) or vm.bundle).read_any())
    except NotFound:  # a broken machine: the driver says so
        return
    if found and not exposed:
        raise Refused(
            f'the bundle of machine "{vm.name}" lets other computers connect to it',
            detail="\n".join(found),
            hint=f"write 127.0.0.1 there, or vmkit start --exposed {vm.name}",
        )
    for line in found:
        report.note(f"other computers can connect: {line}")


def await_guest(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    report: Report,
    timeout_s: float,
    announced: bool = False,
) -> SshGuest:
    """Wait until SSH authenticates, this boot's seed is applied and a closed guest knows its way out; return it.

    `announced`: the guest has said before that it is ready, and will not say so again.
    Raises ToolFailed as soon as the machine's process died, TimedOut; both with the console's last lines.
    """
    deadline = Deadline(timeout_s)
    notes: list[str] = []
    said = _announced_by(machine, machines=machines, driver=driver) if not announced else None
    guest = _await_ssh(
        machine, machines=machines, driver=driver, report=report, deadline=deadline, notes=notes, announced=said
    )
    if machine.egress != "strict" or closed_note() in notes:
        return guest
    try:
        changed = close_guest(guest, machine, report)
    except BaseException:
        guest.close()
        raise
    if not changed:
        return guest
    guest.close()
    Keeper(machine, machines=machines).renew()  # that connection has the environment of before
    return _await_ssh(
        machine, machines=machines, driver=driver, report=report, deadline=deadline, notes=notes, announced=said
    )


def _await_ssh(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    report: Report,
    deadline: Deadline,
    notes: list[str],
    announced: Callable[[], bool] | None,
) -> SshGuest:
    vm = machines.vm(machine)
    console = driver.console_log(vm)
    keys = load_keys(machine.keys)

    def died() -> str | None:
        try:
            if driver.state(vm) != MachineState.STOPPED:
                return None
        except VmkitError:  # a hypervisor that does not answer has not said that the machine died
            return None
        words = printable_lines(tail(machine.folder / "qemu.log", max_bytes=4096), max_lines=4)
        return "\n".join([*words, *_console_lines(console)]) or "it wrote nothing to its console"

    keeper = Keeper(machine, machines=machines)
    keeper.ensure()  # it starts while the guest boots
    with report.phase("boot", f"waiting for {machine.name} to boot"), driver.recording(vm):
        try:
            address = until(
                lambda _left_s: driver.address(vm),
                deadline=deadline,
                what=f'"{machine.name}" got no address',
                retry_on=(NoAddressYet,),
                every_s=0.5,
            )
            return wait_until_ready(
                address,
                user=machine.user,
                key=keys.user_key,
                host_key=keys.host_public,
                instance_id=machine.instance_id if machine.seeded else None,
                deadline=deadline,
                alive=died,
                console_ready=announced,
                dial=keeper.dial,
                on_notes=notes.extend,
            )
        except ToolFailed as error:
            error.hint = error.hint or f"vmkit logs {machine.name}"
            raise


def _announced_by(machine: Machine, *, machines: MachineStore, driver: Driver) -> Callable[[], bool] | None:
    """Return a question: has the guest said on its console that it is ready? None for one that says nothing."""
    console, marker = driver.console_log(machines.vm(machine)), f"vmkit: ready {machine.instance_id}".encode()
    return (lambda: marker in tail(console)) if machine.seeded else None


def _console_lines(console: Path) -> list[str]:
    return printable_lines(tail(console), max_lines=12)
