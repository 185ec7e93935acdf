"""Run machines with UTM on a Mac, through its command-line tool and its scripting dictionary.

A machine is known by its UUID. UTM has its own copy of the bundle; ours keeps what was rendered. What UTM does in
trouble, and what is done about it: docs/reference/utm-driver.md. Never run on a Mac (unverified).
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vmkit.drivers.base import Address, MachineState, NoAddressYet, Vm
from vmkit.drivers.events import PATIENCE_S, UtmAbsent, UtmRefused, UtmUnknown, patiently
from vmkit.drivers.utmctl import AGENT_S, QUICK_S, START_S, STOP_S, Utmctl
from vmkit.errors import HostLacks, TimedOut, ToolFailed, TransportFailed, UsageError, VmkitError, WrongState
from vmkit.host.files import Lock
from vmkit.host.process import Runner
from vmkit.host.programs import utm_runs, utmctl_of
from vmkit.host.wait import Deadline, until

T = TypeVar("T")

STATE_S = 2.0
SICK_S = 5.0  # for so long the machines of one `list` do not ask again a UTM that did not answer
EMPTY_S = 3.0  # UTM shows no machine before its window has appeared
STOP_LOOK_S = 10.0  # before stopping: UTM runs already
END_S = 10.0  # for each of `force` and `kill`, when the guest had its time

_ASK_AGAIN_S = 5.0
_GOING = (MachineState.RUNNING, MachineState.STARTING, MachineState.PAUSED, MachineState.STOPPING)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long UTM is given: to come up, to start a machine, and to show a change in its status."""

    patience_s: float = PATIENCE_S
    start_s: float = START_S
    confirm_s: float = 15.0


class UtmDriver:
    """Start and stop machines in this user's UTM. `home` is the folder in which UTM's container is."""

    name = "utm"
    bundle_only = True

    def __init__(self, *, runner: Runner, app: Path, home: Path | None = None, limits: Limits | None = None) -> None:
        self._runner, self._app, self._home = runner, app, home or Path.home()
        self._limits = limits or Limits()
        self._utmctl = Utmctl(utmctl_of(app), runner=runner)
        self._sick: tuple[VmkitError, Deadline] | None = None

    def add(self, vm: Vm) -> None:
        """Import the bundle, compare what UTM made of it with what was rendered, and give our copy's disks up."""
        from vmkit.drivers.utm_add import add_machine  # noqa: PLC0415  # reads bundles: 70 ms

        with self._changing(vm, "add"):
            add_machine(vm, runner=self._runner, utmctl=self._utmctl, app=self._app, home=self._home)

    def remove(self, vm: Vm) -> None:
        """Delete the machine in UTM, with its files, and make sure that it is gone."""
        with self._changing(vm, "remove"), contextlib.suppress(UtmUnknown):
            self._status(vm)
            what = f'UTM did not delete machine "{vm.name}"'
            self._patiently(lambda: self._heard(vm, lambda: self._utmctl.delete(vm.uuid)), what=what)
            until(
                lambda _left_s: all(row.uuid != vm.uuid for row in self._utmctl.machines()),
                deadline=Deadline(self._limits.confirm_s),
                what=what,
                retry_on=(UtmAbsent,),
            )

    def state(self, vm: Vm) -> MachineState:
        """Ask UTM, if it runs: for two seconds at most, and not again for a while when it did not answer."""
        if not (vm.bundle / "config.plist").is_file():
            return MachineState.BROKEN
        if self._sick and not self._sick[1].passed:
            raise self._sick[0]
        if not utm_runs(runner=self._runner):
            return MachineState.STOPPED
        deadline = Deadline(STATE_S)
        try:
            try:
                state = self._look(vm, STATE_S)
            except UtmAbsent:  # a hiccup; a second one is not
                state = self._look(vm, max(0.2, deadline.left_s))
        except UtmUnknown:
            state = MachineState.BROKEN
        except (TimedOut, UtmAbsent, HostLacks) as error:
            self._sick = error, Deadline(SICK_S)
            raise
        self._sick = None
        return state

    def start(self, vm: Vm, *, disposable: bool = False, recovery: bool = False) -> bool:
        """Start or resume the machine; return when UTM says that it runs."""
        if disposable and vm.backend != "qemu":
            raise UsageError(
                "only machines of UTM's QEMU backend have disposable starts", hint=f"vmkit start {vm.name}"
            )
        if recovery:
            self._require_recovery(vm)
        with self._changing(vm, "start"):
            state = self._status(vm)
            if state not in (MachineState.STOPPED, MachineState.PAUSED):
                raise _is_running(vm)
            if state == MachineState.STOPPED:
                self.console_log(vm).write_bytes(b"")  # an earlier boot's words must not be taken for this one's
            self._change(
                vm,
                MachineState.RUNNING,
                lambda: self._utmctl.start(
                    vm.uuid, disposable=disposable, recovery=recovery, limit_s=self._limits.start_s
                ),
            )
        return False

    def can_keep_ready(self, vm: Vm) -> bool:  # noqa: ARG002  # the protocol's
        """Tell that it cannot: UTM keeps one state of a machine, and only of one that is not started for once."""
        return False

    keep_ready = can_keep_ready  # which is to do nothing

    def suspend(self, vm: Vm) -> None:
        """Pause the machine in UTM; its memory stays with UTM."""
        with self._changing(vm, "suspend"):
            if self._status(vm) != MachineState.RUNNING:
                raise _is_not_running(vm)
            self._change(vm, MachineState.PAUSED, lambda: self._utmctl.suspend(vm.uuid))

    def stop(self, vm: Vm, *, timeout_s: float, force: bool = False, ask: Callable[[], None] | None = None) -> bool:
        """Ask by `ask`, the agent and the power button; at the deadline pull the plug, else kill the process."""
        deadline = Deadline(0 if force else timeout_s)
        state = MachineState.STOPPED
        with contextlib.suppress(UtmUnknown):
            state = self._status(vm, within_s=STOP_LOOK_S) if utm_runs(runner=self._runner) else state
        if state == MachineState.STOPPED:
            raise _is_not_running(vm)
        if state == MachineState.PAUSED and not deadline.passed:
            with contextlib.suppress(VmkitError):  # a paused guest hears nothing
                self._utmctl.start(vm.uuid, limit_s=min(STOP_S, deadline.left_s))
        if ask and not deadline.passed:
            ask()
        while not deadline.passed:
            self._ask_to_stop(vm, deadline)
            if self._becomes(vm, MachineState.STOPPED, within_s=min(_ASK_AGAIN_S, deadline.left_s)):
                return False
        self._end(vm)
        return True

    def address(self, vm: Vm) -> Address:
        """Return the forwarded port, or for the Apple backend what this computer's network knows of the guest."""
        if self.state(vm) not in _GOING:
            raise _is_not_running(vm)
        from vmkit.drivers import qemu_launch, utm_apple  # noqa: PLC0415  # they read bundles

        if vm.backend == "qemu":
            return qemu_launch.ssh_address(vm)
        found = utm_apple.guest_address(vm, utmctl=self._utmctl, runner=self._runner)
        if found is None:
            raise NoAddressYet(
                f'nothing knows the address of machine "{vm.name}" yet',
                detail="asked: UTM, the ARP table, the DHCP leases",
                hint="it may still be booting",
            )
        return Address(host=found, port=qemu_launch.SSH_PORT)

    def move_port(self, vm: Vm, port: int) -> None:
        """Let UTM forward another port; note it in our record when UTM has."""
        from vmkit.drivers.qemu_launch import forward_port  # noqa: PLC0415  # as in add
        from vmkit.drivers.utm_add import forward_in_utm  # noqa: PLC0415

        with self._changing(vm, "move a port"):
            self._status(vm)
            forward_in_utm(vm, port, runner=self._runner)
            forward_port(vm, port)

    def find_bundle(self, vm: Vm) -> Path | None:
        """Return UTM's copy when macOS lets us read it; ours while it has disks, before UTM took the machine over."""
        from vmkit.drivers import utm_bundle  # noqa: PLC0415  # as in add

        kept = utm_bundle.find_bundle(vm.uuid, self._home / utm_bundle.DOCUMENTS)
        return kept or (vm.bundle if utm_bundle.has_files(vm) else None)

    def facts(self, vm: Vm) -> dict[str, str]:
        """Return UTM's version, its name for the machine, where it keeps it, and what runs it."""
        from vmkit.drivers import utm_bundle  # noqa: PLC0415  # as in add

        facts = {"backend": vm.backend, "accelerator": utm_bundle.accelerator(vm)}
        with contextlib.suppress(VmkitError):
            facts["utm"] = self._utmctl.version()
        with contextlib.suppress(VmkitError):
            names = [row.name for row in self._utmctl.machines() if row.uuid == vm.uuid]
            facts |= {"name in UTM": names[0]} if names else {}
        kept = utm_bundle.find_bundle(vm.uuid, self._home / utm_bundle.DOCUMENTS)
        return facts | ({"bundle in UTM": str(kept)} if kept else {})

    def console_log(self, vm: Vm) -> Path:
        """Return the file to which `recording` copies the serial port; UTM itself keeps nothing."""
        return vm.home / "console.log"

    def recording(self, vm: Vm) -> contextlib.AbstractContextManager[None]:
        """Copy the serial port to `console_log`, for as long as the context lasts."""
        from vmkit.drivers.utm_console import recording  # noqa: PLC0415  # threads and terminals

        return recording(lambda: self._utmctl.attach(vm.uuid), self.console_log(vm))

    def open_console(self, vm: Vm) -> int:
        """Open the pseudo terminal behind the first serial port."""
        from vmkit.drivers.utm_console import open_serial  # noqa: PLC0415  # as above

        try:
            place = self._utmctl.attach(vm.uuid)
        except VmkitError as error:
            raise TransportFailed("the console could not be reached", detail=error.message, hint=error.hint) from error
        return open_serial(place)

    def _changing(self, vm: Vm, purpose: str) -> Lock:
        """Hold off other threads and processes: UTM itself would do two things to a machine at once."""
        return Lock(vm.home / "utm.lock").acquire(purpose, wait=True)

    def _require_recovery(self, vm: Vm) -> None:
        from vmkit.drivers.utm_apple import is_macos_guest  # noqa: PLC0415  # reads bundles

        if vm.backend != "apple" or not is_macos_guest(vm):
            raise UsageError("only macOS guests have a recovery system", hint=f"vmkit start {vm.name}")

    def _look(self, vm: Vm, limit_s: float) -> MachineState:
        """Ask once. utmctl hides why it does not find a machine, so then the list is asked for the reason.

        Raises UtmUnknown, HostLacks, TimedOut, UtmAbsent.
        """
        deadline = Deadline(limit_s)
        try:
            return self._utmctl.status(vm.uuid, limit_s=limit_s)
        except UtmUnknown:
            listed = self._utmctl.machines(limit_s=max(0.2, deadline.left_s))
            for row in listed:
                if row.uuid == vm.uuid:
                    return row.state
            raise

    def _patiently(self, call: Callable[[], T], *, what: str) -> T:
        return patiently(call, what=what, within_s=self._limits.patience_s)

    def _status(self, vm: Vm, *, within_s: float | None = None) -> MachineState:
        """Ask until UTM answers: it may have to be launched first, and shows no machines before its window appears."""
        within_s = self._limits.patience_s if within_s is None else within_s
        window = Deadline(min(EMPTY_S, within_s))

        def ask() -> MachineState:
            try:
                return self._look(vm, min(QUICK_S, within_s))
            except UtmUnknown as error:
                if window.passed or self._utmctl.machines(limit_s=min(QUICK_S, within_s)):
                    raise
                raise UtmAbsent("UTM shows no machine yet", detail=error.detail) from error

        try:
            return patiently(ask, what="UTM did not answer", within_s=within_s)
        except UtmUnknown as error:
            raise UtmUnknown(
                f'UTM does not have machine "{vm.name}"',
                detail=error.detail,
                hint=f"if it was deleted in UTM, vmkit delete {vm.name} forgets it here too",
            ) from error

    def _change(self, vm: Vm, wanted: MachineState, verb: Callable[[], None]) -> None:
        """Let UTM bring a machine into the state `wanted`, and believe only its status.

        When UTM broke off, the verb is tried again unless the status shows that it had been heard.
        """
        tried = False

        def attempt() -> None:
            nonlocal tried
            if tried and self._look(vm, QUICK_S) in (wanted, MachineState.STARTING):
                return
            tried = True
            self._heard(vm, verb)

        what = f'UTM did not make machine "{vm.name}" {wanted}'
        try:
            self._patiently(attempt, what=what)
        except TimedOut:
            if not self._becomes(vm, wanted, within_s=self._limits.confirm_s):
                raise
        except UtmRefused as error:
            if wanted == MachineState.RUNNING and self._becomes(vm, wanted, within_s=0):
                raise _is_running(vm) from error  # UTM's own window was faster
            raise
        else:
            if not self._becomes(vm, wanted, within_s=self._limits.confirm_s):
                raise ToolFailed(
                    what,
                    detail="it reported no error, and its status did not change",
                    hint="look at UTM: does a dialog wait?",
                )

    def _heard(self, vm: Vm, verb: Callable[[], None]) -> None:
        """Say a verb; that UTM has no such machine is believed only when its list says so too. Raises UtmAbsent."""
        try:
            verb()
        except UtmUnknown as error:
            self._look(vm, QUICK_S)
            raise UtmAbsent(f'UTM did not find machine "{vm.name}", which it has', detail=error.detail) from error

    def _becomes(self, vm: Vm, wanted: MachineState, *, within_s: float) -> bool:
        """Tell whether the status is the one wanted within the time; what goes wrong meanwhile is no answer."""
        try:
            return until(
                lambda left_s: self._look(vm, max(STATE_S, min(QUICK_S, left_s))) == wanted,
                deadline=Deadline(within_s),
                what=wanted,
                retry_on=(VmkitError,),
            )
        except TimedOut:
            return False

    def _ask_to_stop(self, vm: Vm, deadline: Deadline) -> None:
        """Ask once, by the agent and by the power button; what fails is asked again by the caller."""
        if vm.backend == "qemu":
            with contextlib.suppress(VmkitError):
                self._utmctl.execute(vm.uuid, ["poweroff"], limit_s=max(0.2, min(AGENT_S, deadline.left_s / 2)))
        with contextlib.suppress(VmkitError):
            self._utmctl.stop(vm.uuid, how="request", limit_s=max(0.2, min(STOP_S, deadline.left_s)))

    def _end(self, vm: Vm) -> None:
        """Pull the plug, and kill the process when UTM does not, or cannot: a paused machine has no plug."""
        for how in ("force", "kill"):
            deadline = Deadline(END_S)
            try:
                self._utmctl.stop(vm.uuid, how=how, limit_s=END_S)
            except UtmRefused:
                deadline = Deadline(0)
            except (ToolFailed, TimedOut, UtmUnknown):
                pass
            if self._becomes(vm, MachineState.STOPPED, within_s=deadline.left_s):
                return
        raise ToolFailed(f'UTM does not stop machine "{vm.name}"', hint="stop it in UTM, or quit UTM")


def _is_running(vm: Vm) -> WrongState:
    return WrongState(f'machine "{vm.name}" is running', hint=f"vmkit shell {vm.name}")


def _is_not_running(vm: Vm) -> WrongState:
    return WrongState(f'machine "{vm.name}" is not running', hint=f"vmkit start {vm.name}")
