"""`vmkit doctor`."""

from typing import Annotated

import typer

from vmkit.cli.render import show_json, show_text
from vmkit.cli.tools import Tools
from vmkit.host.text import printable

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_MARKS = {"ok": "✓", "warn": "!", "fail": "✗"}


@app.command("doctor")
def doctor(
    ctx: typer.Context,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what vmkit can mend by itself.")] = False,
) -> None:
    """Check this computer; each finding comes with its fix. Exit 7 when something that is needed is missing."""
    tools: Tools = ctx.obj
    from vmkit.workflows.doctor import doctor as examine  # noqa: PLC0415

    checks = examine(
        paths=tools.paths,
        runner=tools.runner,
        machines=tools.machines,
        images=tools.images,
        accelerator=tools.accelerator,
        fix=fix,
    )
    if tools.flags.json:
        show_json({"checks": [check.to_json() for check in checks]})
    else:
        for check in checks:
            show_text(f"{_MARKS[check.status]} {check.id}: {printable(check.detail)}")
            if check.fix:
                show_text(f"    fix: {check.fix}")
    raise typer.Exit(7 if any(check.status == "fail" for check in checks) else 0)
