"""`vmkit verify`."""

from typing import Annotated

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.render import say, show_json, show_table, show_text
from vmkit.cli.tools import Tools
from vmkit.host.text import printable
from vmkit.network.door import DOOR_PORT
from vmkit.network.walls import CLAIMS
from vmkit.workflows.reach import reach
from vmkit.workflows.verify import State, Verdict, state_of
from vmkit.workflows.verify import verify as try_walls

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_MARKS = {State.HOLDS: "✓", State.LEAKS: "✗", State.BLIND: "✗", State.NOT_SHOWN: "?"}


@app.command("verify")
def verify(
    ctx: typer.Context,
    name: Name = None,
    *,
    all_probes: Annotated[bool, typer.Option("--all", help="Show every probe, not only each wall.")] = False,
) -> None:
    """Have a running machine prove its walls, from inside as root. Exit 6 on a leak, or when a probe is blind."""
    tools: Tools = ctx.obj
    machine = tools.machine(name)

    driver = tools.driver(machine.driver)
    with reach(machine, machines=tools.machines, driver=driver) as guest:
        verdict = try_walls(
            machine,
            guest=guest,
            machines=tools.machines,
            driver=driver,
            runner=tools.runner,
            report=tools.report,
            door=DOOR_PORT,
        )
    if tools.flags.json:
        show_json(verdict.to_json())
    else:
        show(verdict, all_probes=all_probes)
        say(_summary(verdict), tools.flags)
    raise typer.Exit(0 if verdict.passed else 6)


def show(verdict: Verdict, *, all_probes: bool) -> None:
    """Print the rows, then what did not pass, or every probe."""
    rows = []
    for wall, findings in verdict.rows.items():
        proof = "not shown" if any(one.proved is None for one in findings) else "seen open"
        state = state_of(findings)
        rows.append((_MARKS[state], wall.value, str(len(findings)), proof, f"{state}: {CLAIMS[wall]}"))
    show_table(("", "WALL", "PROBES", "CONTROL", "WHAT IS SHOWN"), rows)
    for one in verdict.findings:
        if all_probes or not one.passed:
            blind = "; blind: it did not see the control's open door" if one.proved is False else ""
            seen = f"{one.observed}{'' if one.passed else f', expected {one.probe.expected}'}{blind}"
            show_text(printable(f"  {one.probe.wall}/{one.probe.id}: {one.probe.tries}: {seen}: {one.evidence}"))


def _summary(verdict: Verdict) -> str:
    control = verdict.control
    proof = f"; that the probes can see is not shown on this computer: {control.reason}" if not control.shown else ""
    faults = {wall: state for wall, found in verdict.rows.items() if (state := state_of(found)) is not State.HOLDS}
    said = ", ".join(f"{wall} {state}" for wall, state in faults.items())
    if faults and verdict.mode == "open":
        said += " (its network is open: vmkit create --egress strict makes a closed one)"
    count = f"{len(verdict.findings)} probes, {len(verdict.rows)} walls"
    return f"{verdict.machine}: {said or 'every wall holds'} ({count}, {verdict.seconds:g} s){proof}"
