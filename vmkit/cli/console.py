"""`vmkit logs` and `vmkit console`."""

import sys
from typing import Annotated

import typer

from vmkit.cli.arguments import Name, RawTerminal
from vmkit.cli.render import say, show_json, warn_of_raw_terminal
from vmkit.cli.tools import Tools
from vmkit.host.text import printable_lines

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("logs")
def logs(
    ctx: typer.Context,
    name: Name = None,
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000, help="How many of the last lines.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows, until Ctrl-C.")] = False,
    hypervisor: Annotated[bool, typer.Option("--hypervisor", help="What QEMU said, not the guest.")] = False,
) -> None:
    """Show what a machine wrote to its console, through the line filter."""
    tools: Tools = ctx.obj
    machine = tools.machine(name)
    from vmkit.workflows.logs import follow_log, last_lines  # noqa: PLC0415

    driver = tools.driver(machine.driver)
    vm = tools.machines.vm(machine)
    path = machine.folder / "qemu.log" if hypervisor else driver.console_log(vm)
    shown = last_lines(path, lines)
    if tools.flags.json:
        show_json({"machine": machine.name, "lines": shown})
        return
    for line in shown:
        sys.stdout.write(line + "\n")
    if follow:
        for block in follow_log(path):
            for line in printable_lines(block):
                sys.stdout.write(line + "\n")
            sys.stdout.flush()


@app.command("console")
def console(ctx: typer.Context, name: Name = None, *, raw_terminal: RawTerminal = False) -> None:
    """Attach to a machine's serial console. Ctrl-] leaves it."""
    tools: Tools = ctx.obj
    machine = tools.machine(name)
    from vmkit.workflows.console import attach  # noqa: PLC0415

    say(f"attached to the console of {machine.name}; Ctrl-] leaves it", tools.flags)
    warn_of_raw_terminal(raw_terminal=raw_terminal)
    attach(machine, machines=tools.machines, driver=tools.driver(machine.driver), raw_terminal=raw_terminal)
