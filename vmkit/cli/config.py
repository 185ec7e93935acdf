"""`vmkit config list|get|set|path`."""

from typing import Annotated

import typer

from vmkit.cli.render import show_json, show_text
from vmkit.cli.tools import Tools
from vmkit.host.settings import get_value, set_value

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Settings.")

Key = Annotated[str, typer.Argument(help="Dotted key, such as defaults.memory.")]


@app.command("list")
def list_all(ctx: typer.Context) -> None:
    """List what is set."""
    tools: Tools = ctx.obj
    values = tools.settings.flat()
    if tools.flags.json:
        show_json({"settings": values})
    else:
        show_text(*(f"{key} = {_text(value)}" for key, value in values.items()))


@app.command("get")
def get(ctx: typer.Context, key: Key) -> None:
    """Print one value."""
    tools: Tools = ctx.obj
    value = get_value(tools.settings, key)
    if tools.flags.json:
        show_json({"key": key, "value": value})
    else:
        show_text(_text(value))


@app.command("set")
def set_(ctx: typer.Context, key: Key, value: Annotated[str, typer.Argument(help="Value.")]) -> None:
    """Set one value, keeping the file's comments."""
    tools: Tools = ctx.obj
    set_value(tools.paths.settings, key, value)


@app.command("path")
def path(ctx: typer.Context) -> None:
    """Print where the settings are kept."""
    tools: Tools = ctx.obj
    show_text(str(tools.paths.settings))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
