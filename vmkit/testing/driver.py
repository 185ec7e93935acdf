"""A driver without a hypervisor: machines in a dict, refusing what the real one refuses. Public, for your tests too."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vmkit.drivers.base import Address, MachineState, NoAddressYet, PortTaken, Vm
from vmkit.drivers.qemu_launch import forward_port, ssh_address
from vmkit.errors import ToolFailed, UsageError, WrongState


@dataclass
class FakeMachine:
    """What the fake knows of a machine that runs."""

    state: MachineState = MachineState.RUNNING
    disposable: bool = False
    hears: bool = True  # whether it shuts down when asked


class FakeDriver:
    """Machines in `running`, by UUID. What a test wants to go wrong, it says with the methods below the protocol's."""

    name = "qemu"

    def __init__(self, *, bundle_only: bool = False) -> None:
        self.bundle_only = bundle_only
        self.added: set[str] = set()
        self.lost_addresses: set[str] = set()  # whose address nobody knows yet
        self.asked: list[str] = []  # who was asked to stop by the caller's own way
        self.running: dict[str, FakeMachine] = {}
        self.ready: set[str] = set()  # who has a ready state
        self.taken_ports: set[int] = set()
        self.guests_hear = True
        self._spoiled: dict[str, str] = {}

    def add(self, vm: Vm) -> None:
        """Note the machine's UUID."""
        self.added.add(vm.uuid)

    def remove(self, vm: Vm) -> None:
        """Forget the machine's UUID."""
        self.added.discard(vm.uuid)

    def state(self, vm: Vm) -> MachineState:
        """Return the state of the machine in the dict."""
        if vm.uuid in self.running:
            return self.running[vm.uuid].state
        return MachineState.STOPPED if (vm.bundle / "config.plist").is_file() else MachineState.BROKEN

    def start(self, vm: Vm, *, disposable: bool = False, recovery: bool = False) -> bool:
        """Put the machine into the dict, unless its bundle cannot be read or its port is taken."""
        if recovery:
            raise UsageError("only macOS guests have a recovery system")
        if self.state(vm) == MachineState.PAUSED:
            self.running[vm.uuid].state = MachineState.RUNNING
            return False
        if vm.uuid in self.running:
            raise _is_running(vm)
        address = ssh_address(vm)
        if vm.uuid in self._spoiled:
            raise ToolFailed('"qemu" exited with 1', detail=self._spoiled[vm.uuid])
        if address.port in self.taken_ports:
            raise PortTaken(f'a port that machine "{vm.name}" forwards is in use')
        started = FakeMachine(disposable=disposable, hears=self.guests_hear)
        if self.running.setdefault(vm.uuid, started) is not started:  # another thread was faster
            raise _is_running(vm)
        self.console_log(vm).touch()
        return disposable and vm.uuid in self.ready

    def can_keep_ready(self, vm: Vm) -> bool:
        """Tell whether it was started for once."""
        return self._machine(vm).disposable

    def keep_ready(self, vm: Vm) -> bool:
        """Note that the machine has a ready state, which fits for ever."""
        self.ready.add(vm.uuid)
        return self._machine(vm).disposable

    def suspend(self, vm: Vm) -> None:
        """Pause the machine."""
        self._machine(vm).state = MachineState.PAUSED

    def stop(self, vm: Vm, *, timeout_s: float, force: bool = False, ask: Callable[[], None] | None = None) -> bool:
        """Take the machine out of the dict; forced when it was to be, or does not hear, or has no time to."""
        machine = self._machine(vm)
        if ask and not force:
            self.asked.append(vm.name)
            ask()
        del self.running[vm.uuid]
        return force or timeout_s <= 0 or not machine.hears

    def address(self, vm: Vm) -> Address:
        """Return what the bundle forwards."""
        self._machine(vm)
        if vm.uuid in self.lost_addresses:
            raise NoAddressYet(f'nothing knows the address of machine "{vm.name}" yet')
        return ssh_address(vm)

    def move_port(self, vm: Vm, port: int) -> None:
        """Write the port into config.plist."""
        forward_port(vm, port)

    def find_bundle(self, vm: Vm) -> Path | None:
        """Return the machine's one bundle."""
        return vm.bundle

    def facts(self, vm: Vm) -> dict[str, str]:
        """Return what a machine without a hypervisor has."""
        return {"accelerator": "none: this is a fake", **({"process": "0"} if vm.uuid in self.running else {})}

    def console_log(self, vm: Vm) -> Path:
        """Return the file, empty unless the test writes to it."""
        return vm.home / "console.log"

    def recording(self, vm: Vm) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002  # the protocol's
        """Do nothing."""
        return contextlib.nullcontext()

    def open_console(self, vm: Vm) -> int:
        """Open the log: what is read is what a test wrote to it."""
        self._machine(vm)
        return os.open(self.console_log(vm), os.O_RDWR)

    def die(self, vm: Vm) -> None:
        """End a machine as a SIGKILL to its process would."""
        del self.running[vm.uuid]

    def deafen(self, vm: Vm) -> None:
        """Make a machine deaf, as a SIGSTOP to its process would: it runs on, and hears nothing."""
        self.running[vm.uuid].hears = False

    def spoil(self, vm: Vm, words: str) -> None:
        """Make the next starts of a machine fail with these words of its hypervisor."""
        self._spoiled[vm.uuid] = words

    def _machine(self, vm: Vm) -> FakeMachine:
        if vm.uuid not in self.running:
            raise WrongState(f'machine "{vm.name}" is not running', hint=f"vmkit start {vm.name}")
        return self.running[vm.uuid]


def _is_running(vm: Vm) -> WrongState:
    return WrongState(f'machine "{vm.name}" is running', hint=f"vmkit shell {vm.name}")
