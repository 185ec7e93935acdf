"""`vmkit run`: from a folder to Kiro at work in it, in one command."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from vmkit.cli.arguments import LayerOption, RawTerminal
from vmkit.cli.create import Cpus, Disk, Driver, Memory, Template
from vmkit.cli.login import log_in
from vmkit.cli.render import say, warn_of_raw_terminal
from vmkit.cli.tools import Tools
from vmkit.drivers.base import MachineState
from vmkit.errors import UsageError, WrongState
from vmkit.guest.base import Secret
from vmkit.kiro.verification import Wanted, checked_wish
from vmkit.machines.model import Machine
from vmkit.machines.store import read_journal
from vmkit.workflows.layer import Layer

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_AFTER = "vmkit.after"
_LOGGED_IN = ("chat", "agent", "translate", "acp")  # what of Kiro works only for who is logged in


class _WithArguments(TyperCommand):
    """A command that keeps what follows `--` apart, also when nothing comes before it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Cut the line at the first `--`."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_AFTER] = args[at + 1 :]
        rest: list[str] = super().parse_args(ctx, args[:at])
        return rest


@app.command("run", cls=_WithArguments)
def run(
    ctx: typer.Context,
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME] [WORKSPACE]", help="A machine, and a folder: `.`, `~/x`, anything with a slash."
        ),
    ] = None,
    *,
    template: Template = None,
    cpus: Cpus = None,
    memory: Memory = None,
    disk: Disk = None,
    driver: Driver = None,
    layer: LayerOption = None,
    raw_terminal: RawTerminal = False,
) -> None:
    """Bring a folder into a machine of its own and run Kiro there; the machine is made, started, logged in as needed.

    What follows `--` goes to kiro-cli; without it, that is `chat --trust-all-tools`. The exit code is Kiro's.
    """
    tools: Tools = ctx.obj
    from vmkit.workflows import run as day  # noqa: PLC0415  # paramiko
    from vmkit.workflows.layers import in_layer  # noqa: PLC0415
    from vmkit.workflows.reach import reach  # noqa: PLC0415

    arguments: Sequence[str] = ctx.meta[_AFTER] or day.CHAT
    name, folder = _places(places or [])
    needs_login = arguments[0] in _LOGGED_IN
    in_folder = needs_login or folder is not None or layer is not None  # the last is laid around one
    workspace = day.checked_workspace(folder or ".") if in_folder else Path("/")
    if name is None:
        name = day.machine_for(workspace, machines=tools.machines) if in_folder else tools.machine(None).name
    if not tools.machines.exists(name):
        _create(tools, name, template=template, cpus=cpus, memory=memory, disk=disk, driver=driver)
    machine = tools.machine(name)
    _start(tools, machine)
    if arguments[0] == "login":
        log_in(tools, machine, _wish(arguments[1:]))
        return
    warn_of_raw_terminal(raw_terminal=raw_terminal)
    wall = layer or Layer.NONE
    _lay(tools, machine, wall)
    api_key = Secret(os.environ["KIRO_API_KEY"]) if os.environ.get("KIRO_API_KEY") else None
    with reach(machine, machines=tools.machines, driver=tools.driver(machine.driver)) as guest:
        if needs_login and api_key is None:
            _require_login(tools, machine, guest)
        if in_folder:
            day.bring_in(guest, machine, workspace, report=tools.report)
        raise typer.Exit(
            day.session(
                guest,
                workspace,
                arguments,
                layer=lambda words: in_layer(wall, words, machine=machine, guest=guest, workspace=workspace),
                api_key=api_key,
                raw_terminal=raw_terminal,
            )
        )


def _places(words: Sequence[str]) -> tuple[str | None, str | None]:
    from vmkit.workflows.run import is_place  # noqa: PLC0415

    names = [word for word in words if not is_place(word)]
    folders = [word for word in words if is_place(word)]
    if len(names) > 1 or len(folders) > 1:
        raise UsageError("run takes one machine and one folder", hint="vmkit run [NAME] [WORKSPACE] [-- KIRO ARGS]")
    return (names[0] if names else None), (folders[0] if folders else None)


def _create(tools: Tools, name: str, **wishes: Any) -> None:
    from vmkit.workflows.create import create  # noqa: PLC0415
    from vmkit.workflows.plan import Wishes, make_plan  # noqa: PLC0415

    plan = make_plan(Wishes(name=name, **wishes), settings=tools.settings, machines=tools.machines, images=tools.images)
    say(f"making {name} from template {plan.template.name}", tools.flags)
    create(
        plan,
        machines=tools.machines,
        images=tools.images,
        driver=tools.driver(plan.driver),
        runner=tools.runner,
        report=tools.report,
        timeout_s=600.0,
    )


def _start(tools: Tools, machine: Machine) -> None:
    """Start a machine that does not run; finish one whose create was interrupted."""
    driver = tools.driver(machine.driver)
    if read_journal(machine):
        from vmkit.workflows.provision import provision  # noqa: PLC0415

        provision(machine, machines=tools.machines, driver=driver, report=tools.report)
    elif driver.state(tools.machines.vm(machine)) in (MachineState.STOPPED, MachineState.PAUSED):
        from vmkit.workflows.start import start  # noqa: PLC0415

        start(machine, machines=tools.machines, driver=driver, report=tools.report)


def _lay(tools: Tools, machine: Machine, layer: Layer) -> None:
    """Apply the layer's recipe, if it is not there: before the session's connection, which may be renewed by that."""
    if layer is Layer.NONE:
        return
    from vmkit.workflows.layers import require_layer  # noqa: PLC0415

    require_layer(layer, machine, machines=tools.machines, driver=tools.driver(machine.driver), report=tools.report)


def _require_login(tools: Tools, machine: Machine, guest: Any) -> None:
    from vmkit.workflows.login import whoami  # noqa: PLC0415

    if whoami(guest, machine) is not None:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or tools.flags.no_input:
        raise WrongState(f'"{machine.name}" is not logged in to Kiro', hint=f"vmkit login {machine.name}")
    log_in(tools, machine, Wanted())


class _Flags(argparse.ArgumentParser):
    """Kiro's own login flags, for `vmkit run NAME -- login …`."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"login: {message}", hint="vmkit login NAME --help")


def _wish(words: Sequence[str]) -> Wanted:
    """Return what `login` with these of Kiro's flags asks for. Raises UsageError."""
    flags = _Flags(add_help=False, allow_abbrev=False)
    flags.add_argument("--license", default="free")
    for name in ("--identity-provider", "--region", "--social"):
        flags.add_argument(name)
    flags.add_argument("--use-device-flow", action="store_true")  # vmkit uses no other
    found = flags.parse_args(list(words))
    return checked_wish(
        found.license, social=found.social, identity_provider=found.identity_provider, region=found.region
    )
