"""`vmkit policy import|export`."""

from pathlib import Path
from typing import Annotated

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.render import say, show_json, show_text
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError
from vmkit.host.text import printable
from vmkit.workflows.policy_export import Target, checked_output, export_policy

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Turn other programs' settings into a policy, and a policy into theirs.",
)


@app.callback()
def _group() -> None:
    """Turn other programs' settings into a policy, and a policy into theirs."""


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


@app.command("export")
def export(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Machine; without one, what a new machine of the template gets.")
    ] = None,
    *,
    to: Annotated[Target, typer.Option("--to", help="What the files are for.")],
    template: Annotated[str | None, typer.Option("--template", "-t", help="Template, in place of a machine.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; for srt also a .json file. Default: vmkit-TARGET.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a policy as files for this computer: srt's settings, a container, Kiro's hooks. Each says what it is not.

    docker brings Kiro CLI's verified archive. kiro-hooks goes into a Kiro folder: --output ~/.kiro.
    """
    tools: Tools = ctx.obj
    if name and template:
        raise UsageError("a machine or --template, not both")
    done = export_policy(
        to,
        machine=tools.machine(name) if name else None,
        template=template,
        output=checked_output(output or Path(f"vmkit-{to}")),
        force=force,
        settings=tools.settings,
        paths=tools.paths,
        report=tools.report,
    )
    if tools.flags.json:
        show_json(done.to_json())
        return
    show_text(*(printable(str(path)) for path in done.files))
    for remark in done.remarks:
        say(f"{remark.name}: {remark.text}", tools.flags)
