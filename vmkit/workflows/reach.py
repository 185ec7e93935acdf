"""Reach the guest of a running machine over SSH, with the keys vmkit made for it."""

from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import WrongState
from vmkit.guest.keys import load_keys
from vmkit.guest.ssh import SshGuest
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.keep import Keeper

CONNECT_S = 30.0


def require_running(machine: Machine, *, machines: MachineStore, driver: Driver) -> None:
    """Raise WrongState, with the next command, unless the machine runs."""
    state = driver.state(machines.vm(machine))
    if state == MachineState.PAUSED:
        raise WrongState(f'machine "{machine.name}" is paused', hint=f"vmkit start {machine.name}")
    if state in (MachineState.STOPPED, MachineState.BROKEN):
        raise WrongState(f'machine "{machine.name}" is not running', hint=f"vmkit start {machine.name}")


def reach(machine: Machine, *, machines: MachineStore, driver: Driver, timeout_s: float = CONNECT_S) -> SshGuest:
    """Borrow the keeper's connection to the guest; a keeper that is gone is started again.

    Raises WrongState, TransportFailed, Refused (another host key), ToolFailed (no keeper).
    """
    require_running(machine, machines=machines, driver=driver)
    keys = load_keys(machine.keys)
    keeper = Keeper(machine, machines=machines)
    return SshGuest(
        keeper.dial(
            driver.address(machines.vm(machine)),
            user=machine.user,
            key=keys.user_key,
            host_key=keys.host_public,
            timeout_s=timeout_s,
        )
    )


def reach_later(machine: Machine, *, machines: MachineStore, driver: Driver) -> None:
    """Have the keeper reach a guest that boots, as soon as it can be, and open its door. Raises ToolFailed."""
    keys = load_keys(machine.keys)
    Keeper(machine, machines=machines).dial_later(
        driver.address(machines.vm(machine)), user=machine.user, key=keys.user_key, host_key=keys.host_public
    )
