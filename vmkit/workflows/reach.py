"""Reach the guest of a running machine over SSH, with the keys vmkit made for it."""

from pathlib import Path

from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import WrongState
from vmkit.guest.ssh import SshGuest, connect
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore

CONNECT_S = 30.0


def login_key(machine: Machine) -> Path:
    """Return the private key that the guest's user accepts."""
    return machine.keys / "id_ed25519"


def host_key(machine: Machine) -> str:
    """Return the public host key that vmkit gave the guest."""
    return (machine.keys / "host_ed25519.pub").read_text()


def require_running(machine: Machine, *, machines: MachineStore, driver: Driver) -> None:
    """Raise WrongState, with the next command, unless the machine runs."""
    state = driver.state(machine.vm(machines.paths.sockets(machine.uuid)))
    if state == MachineState.PAUSED:
        raise WrongState(f'machine "{machine.name}" is paused', hint=f"vmkit restart {machine.name}")
    if state in (MachineState.STOPPED, MachineState.BROKEN):
        raise WrongState(f'machine "{machine.name}" is not running', hint=f"vmkit start {machine.name}")


def reach(machine: Machine, *, machines: MachineStore, driver: Driver, timeout_s: float = CONNECT_S) -> SshGuest:
    """Connect to the guest. Raises WrongState, TransportFailed, Refused (another host key)."""
    require_running(machine, machines=machines, driver=driver)
    return connect(
        driver.address(machine.vm(machines.paths.sockets(machine.uuid))),
        user=machine.user,
        key=login_key(machine),
        host_key=host_key(machine),
        timeout_s=timeout_s,
    )
