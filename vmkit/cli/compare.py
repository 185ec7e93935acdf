"""`vmkit compare`."""

from pathlib import Path
from typing import Annotated

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.compare_view import header, lines, markdown, svg
from vmkit.cli.render import say, show_json, show_table, show_text
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError
from vmkit.host.files import write_atomically
from vmkit.host.text import printable

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("compare")
def compare(
    ctx: typer.Context,
    name: Name = None,
    *,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")] = False,
    picture: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write the table as a picture, too.")
    ] = None,
) -> None:
    """Put the same program behind no wall, srt, a container and the machine, and say what it can do and what it costs.

    The machine gets the recipes srt and container. A stopped one is started, which times its start.
    """
    tools: Tools = ctx.obj
    machine = tools.machine(name)
    if picture and picture.exists():
        raise UsageError(f'"{picture}" is there already', hint="another file for --svg")
    from vmkit.workflows.compare import compare as compare_walls  # noqa: PLC0415  # paramiko, recipes

    done = compare_walls(
        machine,
        machines=tools.machines,
        driver=tools.driver(machine.driver),
        runner=tools.runner,
        report=tools.report,
    )
    if picture:
        write_atomically(picture.absolute(), svg(done).encode(), mode=0o644)
        say(f"written: {picture}", tools.flags)
    if tools.flags.json:
        show_json(done.to_json())
    elif as_markdown:
        show_text(*(printable(line) for line in markdown(done).splitlines()))
    else:
        show_table(header(), [[printable(cell, max_chars=60) for cell in row] for row in lines(done)])
