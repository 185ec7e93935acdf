"""`vmkit verify`."""

from typing import Annotated, NoReturn

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.render import say, show_json, show_table, show_text
from vmkit.cli.tools import Tools
from vmkit.host.text import printable
from vmkit.machines.model import Machine
from vmkit.network.door import DOOR_PORT
from vmkit.network.layer_probes import Side
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
    layer: Annotated[
        Side | None,
        typer.Option(
            "--layer", help="What a program can do behind this wall; a layer's recipe is applied when needed."
        ),
    ] = None,
) -> None:
    """Have a running machine prove its walls, from inside as root. Exit 6 on a leak, or when a probe is blind.

    With --layer: try files, processes, kernel, network and credentials from behind one wall. srt and container protect
    the guest, the machine protects this computer; with none, the probes show that they can see.
    """
    tools: Tools = ctx.obj
    machine = tools.machine(name)
    if layer:
        _verify_layer(tools, machine, layer)

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


def _verify_layer(tools: Tools, machine: Machine, side: Side) -> NoReturn:
    from vmkit.workflows.layers import require_layer  # noqa: PLC0415  # with recipes
    from vmkit.workflows.verify_layer import layer_of, verify_side  # noqa: PLC0415

    driver = tools.driver(machine.driver)
    require_layer(layer_of(side), machine, machines=tools.machines, driver=driver, report=tools.report)
    with reach(machine, machines=tools.machines, driver=driver) as guest:
        verdict = verify_side(side, machine, guest=guest, runner=tools.runner, report=tools.report)
    if tools.flags.json:
        show_json(verdict.to_json())
    else:
        rows = [
            ("✓" if one.passed else "✗", one.question.dimension.value, one.question.text, one.seen.value, one.evidence)
            for one in verdict.answers
        ]
        show_table(("", "ABOUT", "CAN A PROGRAM …", "SEEN", "EVIDENCE"), rows)
        wrong = sum(not one.passed for one in verdict.answers)
        said = "everything is as it should be" if verdict.passed else f"{wrong} answers are not as they should be"
        say(f"{machine.name}, {side}: {said}", tools.flags)
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
