"""Open a terminal in a machine."""

import os
from collections.abc import Sequence

from vmkit.drivers.base import Driver
from vmkit.guest.pty import Terminal
from vmkit.guest.pty import shell as relay
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.reach import reach


def shell(
    machine: Machine,
    command: Sequence[str] | None,
    *,
    machines: MachineStore,
    driver: Driver,
    raw_terminal: bool = False,
) -> int:
    """Run `command`, or a login shell, on a terminal in the guest; return its exit code.

    `raw_terminal` shows what the guest writes without the filter.
    Raises WrongState, TransportFailed, Refused (another host key).
    """
    with reach(machine, machines=machines, driver=driver) as guest:
        terminal = Terminal.from_environment(os.environ, filtered=not raw_terminal)
        return relay(guest, list(command) if command else None, terminal=terminal)
