"""`vmkit shell`, `exec`, `copy`."""

import sys
from typing import Annotated

import typer

from vmkit.cli.arguments import LayerOption, Name, RawTerminal
from vmkit.cli.render import warn_of_raw_terminal
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError
from vmkit.guest.ssh import SshGuest
from vmkit.workflows.layer import Layer
from vmkit.workflows.reach import reach

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}

Command = Annotated[list[str] | None, typer.Argument(help="Command and arguments, after --.")]


@app.command("shell", context_settings=_PASS_ON)
def shell(ctx: typer.Context, name: Name = None, command: Command = None, *, raw_terminal: RawTerminal = False) -> None:
    """Open a terminal in a machine, for a login shell or the given command."""
    tools: Tools = ctx.obj
    machine = tools.machine(name)
    from vmkit.workflows.shell import shell as open_shell  # noqa: PLC0415

    warn_of_raw_terminal(raw_terminal=raw_terminal)
    raise typer.Exit(
        open_shell(
            machine,
            _words(command),
            machines=tools.machines,
            driver=tools.driver(machine.driver),
            raw_terminal=raw_terminal,
        )
    )


@app.command("exec", context_settings=_PASS_ON)
def execute(ctx: typer.Context, name: Name = None, command: Command = None, *, layer: LayerOption = None) -> None:
    """Run a command in a machine; stdin, stdout, stderr and the exit code pass through unchanged.

    With --layer it runs in the workspace that `vmkit run` brought in.
    """
    tools: Tools = ctx.obj
    words = _words(command)
    if not words:
        raise UsageError("which command?", hint="vmkit exec NAME -- COMMAND")
    if words[0].startswith("-"):
        raise UsageError("options stand before the machine's name", hint="vmkit exec --layer srt NAME -- COMMAND")
    machine = tools.machine(name)
    from vmkit.guest.streams import execute as run  # noqa: PLC0415

    wall = layer or Layer.NONE
    driver = tools.driver(machine.driver)
    if wall is not Layer.NONE:
        from vmkit.workflows.layers import (  # noqa: PLC0415  # only a layer needs it
            in_folder,
            in_layer,
            require_layer,
            workspace_in,
        )

        workspace = workspace_in(machine)
        require_layer(wall, machine, machines=tools.machines, driver=driver, report=tools.report)
    with reach(machine, machines=tools.machines, driver=driver) as guest:
        if wall is not Layer.NONE:
            laid = in_layer(wall, words, machine=machine, guest=guest, workspace=workspace)
            words = in_folder(laid, workspace)
        raise typer.Exit(
            run(guest, words, stdin=sys.stdin.fileno(), stdout=sys.stdout.fileno(), stderr=sys.stderr.fileno())
        )


@app.command("copy")
def copy(
    ctx: typer.Context,
    places: Annotated[list[str], typer.Argument(help="SRC… DST; NAME:PATH on one side.")],
) -> None:
    """Copy files and trees between this computer and a machine."""
    tools: Tools = ctx.obj
    if len(places) < 2:
        raise UsageError("copy takes a source and a target", hint="vmkit copy FILE NAME:PATH")
    from vmkit.workflows.copy import copy as copy_all  # noqa: PLC0415

    def open_guest(name: str) -> SshGuest:
        machine = tools.machine(name)
        return reach(machine, machines=tools.machines, driver=tools.driver(machine.driver))

    copy_all(places[:-1], places[-1], open_guest=open_guest, report=tools.report)


def _words(command: list[str] | None) -> list[str] | None:
    """Return the guest's command without the `--` before it, which the parser leaves in."""
    return (command[1:] if command and command[0] == "--" else command) or None
