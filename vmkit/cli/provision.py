"""`vmkit provision`."""

from typing import Annotated

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.render import show_json, show_text
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError
from vmkit.machines.model import Machine

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("provision")
def provision(
    ctx: typer.Context,
    name: Name = None,
    *,
    recipe: Annotated[list[str] | None, typer.Option(help="Recipe, instead of the machine's own; repeat.")] = None,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Take the newest Kiro CLI, not the locked one.")] = False,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", help="Take a recipe that knows its way back out of the guest; repeat."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the guest.")] = 600.0,
) -> None:
    """Apply a machine's recipes; start it if need be, resume where it stopped. A second run changes nothing."""
    tools: Tools = ctx.obj
    machine = tools.machine(name)
    from vmkit.workflows.provision import provision as bring  # noqa: PLC0415

    if remove:
        _take_back(tools, machine, remove, others=bool(recipe or upgrade))
        return

    done, seconds = bring(
        machine,
        machines=tools.machines,
        driver=tools.driver(machine.driver),
        report=tools.report,
        recipes=recipe,
        timeout_s=timeout,
        upgrade=upgrade,
    )
    if tools.flags.json:
        show_json({"machine": machine.name, "provision": done.to_json(), "seconds": seconds})
    else:
        show_text(f"{machine.name}: changed {done.changed}, unchanged {done.unchanged}, failed {done.failed}")


def _take_back(tools: Tools, machine: Machine, names: list[str], *, others: bool) -> None:
    from vmkit.workflows.take_back import take_back  # noqa: PLC0415

    if others:
        raise UsageError("--remove goes with no other")
    take_back(machine, names, machines=tools.machines, driver=tools.driver(machine.driver), report=tools.report)
    if tools.flags.json:
        show_json({"machine": machine.name, "removed": names})
    else:
        show_text(f"{machine.name}: removed {', '.join(names)}")
