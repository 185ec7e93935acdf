"""Run one command line of vmkit where the machine is an sshd of this computer, as a program of its own: WORDS…

VMKIT_HOME holds the machine that `place_machine` made; VMKIT_TEST_CONSOLE is the socket that is its console.
"""

import dataclasses
import os
import shutil
import socket
import sys
import uuid
from functools import cached_property
from pathlib import Path

from typer.main import get_command

from tests.sshd import ROOT, Sshd
from tests.unit.machines.test_model import MACHINE
from vmkit.cli.commands import root
from vmkit.cli.flags import split_flags
from vmkit.cli.render import show_error
from vmkit.cli.tools import Tools
from vmkit.drivers.base import Driver, Vm
from vmkit.errors import VmkitError
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.testing.bundle import idle_config, write_config
from vmkit.testing.driver import FakeDriver


def place_machine(machines: MachineStore, sshd: Sshd, *, name: str) -> Machine:
    """Make a machine whose guest is `sshd`."""
    place = machines.paths.machines / name
    # an identity of its own: a machine's sockets may lie in a folder that all of a user's machines share
    machine = dataclasses.replace(MACHINE, name=name, uuid=str(uuid.uuid4()).upper(), user=sshd.user, folder=place)
    (machine.bundle / "Data").mkdir(parents=True)
    shutil.copytree(sshd.keys.user_key.parent, machine.keys)
    write_config(machines.vm(machine), idle_config(name, port=sshd.address.port))
    machines.save(machine)
    return machine


def command_line(*words: str) -> list[str]:
    return [sys.executable, "-m", "tests.cliclient", *words]


def environment(home: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "HOME": str(home), "VMKIT_HOME": str(home), "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8", "TERM": "xterm-256color", **more,
    }  # fmt: skip


class _Driver(FakeDriver):
    """Every machine runs."""

    def open_console(self, vm: Vm) -> int:
        with socket.socket(socket.AF_UNIX) as console:
            console.connect(os.environ["VMKIT_TEST_CONSOLE"])
            return console.detach()


class _Tools(Tools):
    @cached_property
    def _driver(self) -> Driver:
        driver = _Driver()
        for machine in self.machines.all():
            driver.start(self.machines.vm(machine))
        return driver

    def driver(self, name: str) -> Driver:
        return self._driver


def main() -> int:
    flags, words = split_flags(sys.argv[1:])
    try:
        tools = _Tools(flags=flags)
        return get_command(root).main(args=words, prog_name="vmkit", standalone_mode=False, obj=tools) or 0
    except VmkitError as error:
        return show_error(error, flags)


if __name__ == "__main__":
    sys.exit(main())
