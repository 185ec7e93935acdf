"""`vmkit drift`."""

from itertools import groupby
from typing import Annotated

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.render import say, show_json, show_text
from vmkit.cli.tools import Tools
from vmkit.workflows.drift import Drift
from vmkit.workflows.drift import drift as look
from vmkit.workflows.drift_kinds import MEANINGS, Risk
from vmkit.workflows.reach import reach

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("drift")
def drift(
    ctx: typer.Context,
    name: Name = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Show also what vmkit and the recipes put there.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for a copy of the image to boot.")] = 600.0,
) -> None:
    """Show what changed in a running machine against the image it was made from, the worst first.

    The image is booted once, in a copy without a network, to see what it has.
    """
    tools: Tools = ctx.obj
    machine = tools.machine(name)
    driver = tools.driver(machine.driver)
    with reach(machine, machines=tools.machines, driver=driver) as guest:
        found = look(
            machine,
            guest=guest,
            machines=tools.machines,
            images=tools.images,
            driver=driver,
            runner=tools.runner,
            report=tools.report,
            timeout_s=timeout,
        )
    if tools.flags.json:
        show_json(found.to_json())
        return
    show(found, everything=everything)
    for what in found.missed:
        say(f"not looked at: {what}", tools.flags)
    say(summary(found), tools.flags)


def show(found: Drift, *, everything: bool) -> None:
    """Print a heading for each kind of change with its risk and reason, and a line for each change."""
    shown = [one for one in found.findings if everything or one.risk is not Risk.EXPECTED]
    for (risk, kind), findings in groupby(shown, key=lambda one: (one.risk, one.kind)):
        show_text(f"{risk}: {MEANINGS[kind].title}: {MEANINGS[kind].reason}")
        for one in findings:
            by = f"  [{one.owner}]" if one.owner else ""
            show_text(f"  {one.change:<7}  {one.subject}{f'  ({one.detail})' if one.detail else ''}{by}")


def summary(found: Drift) -> str:
    """Return one line: how many changes of each risk."""
    counts = ", ".join(f"{found.count(risk)} {risk}" for risk in Risk if found.count(risk))
    return f"{found.machine} against {found.image} ({found.image_digest[7:19]}): {counts or 'no change'}"
