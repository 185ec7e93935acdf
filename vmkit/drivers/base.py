"""What every driver can do with a machine, and the few values they speak in."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from vmkit.errors import ToolFailed, WrongState


class MachineState(StrEnum):
    """What a machine is doing. Asked of the living process each time, never stored."""

    CREATING = "creating"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the guest's sshd answers."""

    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Vm:
    """What a driver needs to know of a machine: no more than its bundle and where its process may keep things."""

    name: str
    uuid: str
    bundle: Path  # NAME.utm
    home: Path  # the machine's folder: console.log, qemu.log, qemu.lock
    sockets: Path  # a 0700 folder short enough for sun_path
    backend: str = "qemu"  # UTM's: qemu, or apple, which only UTM runs


class PortTaken(ToolFailed):
    """A host port that the bundle forwards is in use: choose another one and start again."""

    kind = "port-taken"


class NoAddressYet(WrongState):
    """The machine runs, and nothing on this computer knows its address yet: ask again."""

    kind = "no-address"


class Driver(Protocol):
    """How a hypervisor is told. Errors: HostLacks, ToolFailed, TimedOut, WrongState."""

    name: str
    bundle_only: bool  # the hypervisor opens nothing outside the bundle: a disk cannot stand on an image's

    def add(self, vm: Vm) -> None:
        """Make a new machine known to the hypervisor; once more changes nothing. Raises Refused, ToolFailed."""

    def remove(self, vm: Vm) -> None:
        """Make the hypervisor forget a stopped machine and what it keeps of it; an unknown one is no error."""

    def state(self, vm: Vm) -> MachineState:
        """Ask the living process; within a second, whatever it does."""

    def start(self, vm: Vm, *, disposable: bool = False, recovery: bool = False) -> bool:
        """Start the machine, or resume a paused one; return when its process lives and answers.

        Returned is whether a `disposable` start goes on from the ready state; else the guest may still be booting.
        Raises WrongState when it runs already, PortTaken, UsageError (`recovery`, which only macOS guests have),
        ToolFailed with the process's words when it dies at once.
        """

    def can_keep_ready(self, vm: Vm) -> bool:
        """Tell whether `keep_ready` has something to keep: a `disposable` start that the driver can do this with."""

    def keep_ready(self, vm: Vm) -> bool:
        """Keep the state that a machine with a `disposable` start is in, for the next ones; return whether it is kept.

        It fits as long as nothing of the machine changes. Nobody may be connected to the guest meanwhile.
        """

    def suspend(self, vm: Vm) -> None:
        """Pause a running machine: it keeps its memory and does nothing until `start`. Raises WrongState."""

    def stop(self, vm: Vm, *, timeout_s: float, force: bool = False, ask: Callable[[], None] | None = None) -> bool:
        """Stop the machine: ask the guest, force at the deadline (`force`: at once). Return whether force was used.

        `ask` is one more way to ask, for guests that hear neither their agent nor the power button. It never raises.
        """

    def address(self, vm: Vm) -> Address:
        """Return where sshd of a running machine answers. Raises WrongState when it does not run, NoAddressYet."""

    def move_port(self, vm: Vm, port: int) -> None:
        """Forward another host port to the sshd of a stopped machine."""

    def find_bundle(self, vm: Vm) -> Path | None:
        """Return the bundle whose disks a stopped machine has; None when they cannot be read from here."""

    def facts(self, vm: Vm) -> dict[str, str]:
        """Return what `info` shows of the driver: accelerator and why, process id, version."""

    def console_log(self, vm: Vm) -> Path:
        """Return the file that keeps what the guest wrote to its serial console."""

    def recording(self, vm: Vm) -> AbstractContextManager[None]:
        """See to it that the console of a running machine goes to `console_log` while the context lasts."""

    def open_console(self, vm: Vm) -> int:
        """Return a file descriptor, the caller's to close, that reads and writes the serial console.

        Raises TransportFailed when it cannot be reached.
        """
