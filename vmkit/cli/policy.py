"""`vmkit policy import`."""

from pathlib import Path
from typing import Annotated

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.render import say, show_json, show_text
from vmkit.cli.tools import Tools
from vmkit.host.text import printable

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Turn other programs' settings into a policy.",
)


@app.callback()
def _group() -> None:
    """Turn other programs' settings into a policy."""


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="srt's settings, such as ~/.srt-settings.json.")],
    name: Name = None,
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Change the machine's policy by what fits.")] = False,
) -> None:
    """Print the policy that the settings of srt (Sandbox Runtime) come to; name what is too broad, and what to use."""
    tools: Tools = ctx.obj
    machine = tools.machine(name) if apply or name else None
    from vmkit.workflows.policy import import_srt  # noqa: PLC0415

    done = import_srt(file.expanduser(), into=machine if apply else None, machines=tools.machines)
    if tools.flags.json:
        show_json(done.to_json())
        return
    if done.changed is None:
        show_text(*(printable(line) for line in done.to_toml().splitlines()))
        taken = f"{len(done.policy.rules)} allowed, {len(done.policy.denied)} denied, {len(done.remarks)} remarks"
        say(f"{taken}; nothing is changed", tools.flags)
        say(f"hint: vmkit policy import {file} {machine.name if machine else 'NAME'} --apply", tools.flags)
        return
    for remark in done.remarks:
        say(f"{remark.name}: {remark.text}", tools.flags)
    for rule in done.changed.added:
        say(f"{done.changed.machine} may reach {rule.target}", tools.flags)
    for host in done.policy.denied:
        say(f"{done.changed.machine} may not reach {host}", tools.flags)
    for note in done.changed.notes:
        say(note, tools.flags)
