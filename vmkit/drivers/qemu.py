"""Run machines with plain QEMU.

A machine runs for as long as its QEMU holds `qemu.lock`, a lock that the process inherits and the kernel releases: no
pid file can lie about it, and a vmkit killed at any moment leaves either no QEMU or one that everybody sees.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from vmkit.drivers.agent import ask_to_shut_down
from vmkit.drivers.base import Address, MachineState, PortTaken, Vm
from vmkit.drivers.lines import JsonLines, Silent
from vmkit.drivers.qmp import Qmp
from vmkit.errors import Busy, HostLacks, TimedOut, ToolFailed, TransportFailed, UsageError, WrongState
from vmkit.host.files import Lock, is_locked, own_directory, tail
from vmkit.host.process import Completed, Process, Runner, tool_failed
from vmkit.host.wait import Deadline, until

START_S = 30.0
AGENT_S = 120.0
STATE_S = 0.7  # of the second that `state` may take

_ASK_S = 2.0
_ASK_AGAIN_S = 5.0  # a guest that is still booting does not hear the first press of the power button
_QUIT_S = 2.0
_KILL_S = 10.0
_SOCKETS = ("qmp.sock", "qga.sock", "console.sock")
_PORT_TAKEN = b"Could not set up host forwarding rule"  # QEMU 7.2 net/slirp.c
_STATES = {
    "prelaunch": MachineState.STARTING,
    "inmigrate": MachineState.STARTING,
    "restore-vm": MachineState.STARTING,
    "shutdown": MachineState.STOPPING,
}


class QemuDriver:
    """Start and stop machines as QEMU processes of this user."""

    name = "qemu"
    bundle_only = False

    def __init__(self, *, runner: Runner, cache: Path, start_s: float = START_S, agent_s: float = AGENT_S) -> None:
        self._runner, self._cache, self._start_s, self._agent_s = runner, cache, start_s, agent_s

    def add(self, vm: Vm) -> None:
        """Do nothing: a bundle is all that QEMU needs."""

    def remove(self, vm: Vm) -> None:
        """Do nothing: QEMU keeps nothing of a machine."""

    def state(self, vm: Vm) -> MachineState:
        """Ask the lock, then the monitor; one that is silent or busy belongs to a machine that runs."""
        if not is_locked(_lock(vm)):
            whole = (vm.bundle / "config.plist").is_file()
            return MachineState.STOPPED if whole else MachineState.BROKEN
        try:
            with Qmp(vm.sockets / "qmp.sock", timeout_s=STATE_S) as qmp:
                status = qmp.execute("query-status")
        except Silent as silent:
            return MachineState.STARTING if silent.missing else MachineState.RUNNING
        except ToolFailed:
            return MachineState.RUNNING
        return _STATES.get(status["status"], MachineState.RUNNING if status["running"] else MachineState.PAUSED)

    def start(self, vm: Vm, *, disposable: bool = False, recovery: bool = False) -> bool:
        """Start QEMU with what config.plist says, or let a paused one go on; return when its monitor answers."""
        if recovery:
            raise UsageError("only macOS guests have a recovery system", hint=f"vmkit start {vm.name}")
        if self.state(vm) == MachineState.PAUSED:
            with Qmp(vm.sockets / "qmp.sock", timeout_s=_ASK_S) as qmp:
                qmp.execute("cont")
            return False
        try:
            lock = Lock(_lock(vm)).acquire(f"start {vm.name}")
        except Busy as busy:
            raise WrongState(f'machine "{vm.name}" is running', hint=f"vmkit shell {vm.name}") from busy
        with lock:
            from vmkit.drivers.qemu_launch import launch_line  # noqa: PLC0415  # reads bundles: 70 ms
            from vmkit.drivers.qemu_ready import forget_disks, forget_ready  # noqa: PLC0415  # as above

            console_log = self.console_log(vm)
            argv, resumes = launch_line(
                vm, runner=self._runner, cache=self._cache, console_log=console_log, disposable=disposable
            )
            if not disposable:
                forget_disks(vm)
                forget_ready(vm)
            own_directory(vm.sockets.parent)  # who can write there could put another folder in the place of ours
            own_directory(vm.sockets)
            console_log.unlink(missing_ok=True)  # an earlier boot's words must not be taken for this one's
            process = self._runner.spawn(
                argv,
                log_path=vm.home / "qemu.log",
                pass_fds=(lock.fileno(),),
                umask=0o177,  # sockets get 0600; QEMU makes no folders
            )
        try:
            self._await_monitor(vm, process, argv)
        except BaseException:
            process.kill()
            process.wait()
            if resumes:  # whatever it is, it is not worth keeping
                forget_ready(vm)
            raise
        return resumes

    def can_keep_ready(self, vm: Vm) -> bool:
        """Tell whether the machine was started for once, with disks that snapshots can lie in."""
        from vmkit.drivers.qemu_ready import can_keep  # noqa: PLC0415  # as in start

        return can_keep(vm)

    def keep_ready(self, vm: Vm) -> bool:
        """Keep the state of a machine that was started for once, beside it: memory, devices, disks."""
        from vmkit.drivers.qemu_launch import read_config  # noqa: PLC0415  # as in start
        from vmkit.drivers.qemu_ready import keep  # noqa: PLC0415  # as in start

        return keep(vm, read_config(vm), agent_s=self._agent_s)

    def suspend(self, vm: Vm) -> None:
        """Stop the machine's CPUs; its memory stays with QEMU."""
        if self.state(vm) != MachineState.RUNNING:
            raise WrongState(f'machine "{vm.name}" is not running', hint=f"vmkit start {vm.name}")
        with Qmp(vm.sockets / "qmp.sock", timeout_s=_ASK_S) as qmp:
            qmp.execute("stop")

    def stop(self, vm: Vm, *, timeout_s: float, force: bool = False, ask: Callable[[], None] | None = None) -> bool:
        """Ask the guest's agent, else press the power button; at the deadline quit QEMU, else kill it."""
        if not is_locked(_lock(vm)):
            raise WrongState(f'machine "{vm.name}" is not running', hint=f"vmkit start {vm.name}")
        deadline = Deadline(0 if force else timeout_s)
        if ask and not deadline.passed:
            ask()
        while not deadline.passed:
            _ask_to_stop(vm, agent_s=min(_ASK_S, deadline.left_s / 2))
            if _has_ended(vm, within_s=min(_ASK_AGAIN_S, deadline.left_s)):
                break
        forced = is_locked(_lock(vm))
        if forced:
            _end(vm)
        from vmkit.drivers.qemu_ready import forget_disks  # noqa: PLC0415  # as in start

        forget_disks(vm)
        return forced

    def address(self, vm: Vm) -> Address:
        """Return the host's end of the forward to the guest's sshd."""
        if not is_locked(_lock(vm)):
            raise WrongState(f'machine "{vm.name}" is not running', hint=f"vmkit start {vm.name}")
        from vmkit.drivers.qemu_launch import ssh_address  # noqa: PLC0415  # as in start

        return ssh_address(vm)

    def move_port(self, vm: Vm, port: int) -> None:
        """Write the port into config.plist."""
        from vmkit.drivers.qemu_launch import forward_port  # noqa: PLC0415  # as in start

        forward_port(vm, port)

    def find_bundle(self, vm: Vm) -> Path | None:
        """Return the machine's one bundle."""
        return vm.bundle

    def facts(self, vm: Vm) -> dict[str, str]:
        """Return the accelerator and why, and of a running machine QEMU's version and process id."""
        from vmkit.drivers.qemu_launch import accelerator_for  # noqa: PLC0415  # as in start

        facts = {}
        with contextlib.suppress(HostLacks):
            accelerator = accelerator_for(vm, runner=self._runner, cache=self._cache)
            facts["accelerator"] = f"{accelerator.name}: {accelerator.reason}"
        with contextlib.suppress(Silent, ToolFailed), Qmp(vm.sockets / "qmp.sock", timeout_s=STATE_S) as qmp:
            facts["qemu"] = ".".join(map(str, qmp.version))
            facts["process"] = str(qmp.pid)
        return facts

    def console_log(self, vm: Vm) -> Path:
        """Return the file to which QEMU copies the guest's serial console."""
        return vm.home / "console.log"

    def recording(self, vm: Vm) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002  # the protocol's
        """Do nothing: QEMU copies the console by itself, and at every moment."""
        return contextlib.nullcontext()

    def open_console(self, vm: Vm) -> int:
        """Connect to the socket behind the first serial port."""
        with socket.socket(socket.AF_UNIX) as console:
            try:
                console.connect(str(vm.sockets / "console.sock"))
            except OSError as error:
                raise TransportFailed("the console could not be reached", detail=str(error)) from error
            return console.detach()

    def _await_monitor(self, vm: Vm, process: Process, argv: list[str]) -> None:
        def answers(left_s: float) -> bool:
            code = process.poll()
            if code is not None:
                raise _death(vm, code, argv)
            with Qmp(vm.sockets / "qmp.sock", timeout_s=left_s) as qmp:
                return bool(qmp.execute("query-status"))

        until(
            answers,
            deadline=Deadline(self._start_s),
            what=f'the QEMU of machine "{vm.name}" did not answer',
            retry_on=(Silent,),
            every_s=0.02,
        )


def _lock(vm: Vm) -> Path:
    return vm.home / "qemu.lock"


def _death(vm: Vm, code: int, argv: list[str]) -> ToolFailed | HostLacks:
    said = tail(vm.home / "qemu.log")
    failure = tool_failed(Completed(argv=tuple(argv), code=code, stdout=b"", stderr=said))
    if _PORT_TAKEN in said:
        return PortTaken(f'a port that machine "{vm.name}" forwards is in use', detail=failure.detail)
    return failure


def _ask_to_stop(vm: Vm, *, agent_s: float) -> None:
    """Ask once, by what answers. A monitor that is busy or silent is asked again by the caller."""
    monitor = vm.sockets / "qmp.sock"
    with contextlib.suppress(Silent, ToolFailed):
        with Qmp(monitor, timeout_s=_ASK_S) as qmp:
            if not qmp.execute("query-status")["running"]:
                qmp.execute("cont")  # a paused guest hears nothing
        if not ask_to_shut_down(vm.sockets / "qga.sock", timeout_s=agent_s):
            with Qmp(monitor, timeout_s=_ASK_S) as qmp:
                qmp.execute("system_powerdown")


def _end(vm: Vm) -> None:
    """End QEMU: by its own `quit`, which flushes the disks, or by SIGKILL when it does not listen."""
    with contextlib.suppress(Silent, ToolFailed):
        with Qmp(vm.sockets / "qmp.sock", timeout_s=_ASK_S) as qmp:
            qmp.execute("quit")
        if _has_ended(vm, within_s=_QUIT_S):
            return
    with contextlib.suppress(ProcessLookupError):
        os.kill(_process_id(vm), signal.SIGKILL)
    if not _has_ended(vm, within_s=_KILL_S):
        raise ToolFailed(f'the QEMU of machine "{vm.name}" does not end', hint=_by_hand(vm))


def _process_id(vm: Vm) -> int:
    """Ask the kernel who listens on the machine's sockets.

    More than one, since a suspended QEMU accepts nothing and each queue takes only two connections that wait.
    More than once, since a QEMU whose vmkit was killed a moment ago has not made them yet.
    """

    def ask(_left_s: float) -> int:
        for name in _SOCKETS:
            with contextlib.suppress(Silent), JsonLines(vm.sockets / name, deadline=Deadline(_ASK_S)) as lines:
                return lines.peer_pid
        return 0

    try:
        return until(ask, deadline=Deadline(_ASK_S), what="its sockets", every_s=0.05)
    except TimedOut as error:
        raise ToolFailed(f'the QEMU of machine "{vm.name}" was not found', hint=_by_hand(vm)) from error


def _by_hand(vm: Vm) -> str:
    return f"kill -9 $(lsof -t {_lock(vm)})"


def _has_ended(vm: Vm, *, within_s: float) -> bool:
    try:
        return until(
            lambda _left_s: not is_locked(_lock(vm)), deadline=Deadline(within_s), what="the end", every_s=0.05
        )
    except TimedOut:
        return False
