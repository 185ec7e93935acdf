"""Attach this terminal to a machine's serial console, through the terminal filter."""

import os
import select

from vmkit.drivers.base import Driver
from vmkit.errors import UsageError
from vmkit.guest.pty import Terminal
from vmkit.guest.pty import raw_terminal as own_terminal
from vmkit.guest.terminal import TerminalFilter
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.reach import require_running

LEAVE = b"\x1d"  # Ctrl-], as telnet and virsh have it
_READ_BYTES = 4096


def attach(machine: Machine, *, machines: MachineStore, driver: Driver, raw_terminal: bool = False) -> None:
    """Relay between this terminal and the console until Ctrl-], or the machine stops.

    `raw_terminal` shows what the guest writes without the filter.
    Raises UsageError (no terminal), WrongState, TransportFailed.
    """
    terminal = Terminal.from_environment(os.environ, filtered=not raw_terminal)
    if not os.isatty(terminal.stdin):
        raise UsageError("the console needs a terminal", hint=f"vmkit logs {machine.name}")
    require_running(machine, machines=machines, driver=driver)
    screen = terminal.screen()
    console = driver.open_console(machines.vm(machine))
    try:
        with own_terminal(terminal, screen):
            _relay(console, terminal, screen)
    finally:
        os.close(console)


def _relay(console: int, terminal: Terminal, screen: TerminalFilter) -> None:
    while True:
        readable, _, _ = select.select([console, terminal.stdin], [], [])
        if console in readable:
            output = os.read(console, _READ_BYTES)
            if not output:
                return
            _write_all(terminal.stdout, screen.feed(output))
        if terminal.stdin in readable:
            typed = os.read(terminal.stdin, _READ_BYTES)
            before, leave, _ = typed.partition(LEAVE)
            _write_all(console, before)
            if leave or not typed:
                return


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
