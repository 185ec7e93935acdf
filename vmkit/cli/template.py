"""`vmkit template list|show|check`."""

from typing import Annotated

import typer

from vmkit.bundle.template import check_template, list_templates, load_template
from vmkit.cli.render import say, show_json, show_pairs, show_table
from vmkit.cli.tools import Tools
from vmkit.host.sizes import gib, show_size

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Templates.")


@app.command("list")
def list_all(ctx: typer.Context) -> None:
    """List the templates, yours and the shipped ones."""
    tools: Tools = ctx.obj
    found = list_templates(user_folder=tools.paths.templates)
    if tools.flags.json:
        show_json({"templates": [{"name": one.name, "summary": one.summary} for one in found]})
    else:
        show_table(("NAME", "SUMMARY"), [(one.name, one.summary) for one in found])


@app.command("show")
def show(ctx: typer.Context, name: Annotated[str, typer.Argument(help="Template.")]) -> None:
    """Show a template's defaults and the options it takes."""
    tools: Tools = ctx.obj
    one = load_template(name, user_folder=tools.paths.templates)
    data: dict[str, object] = {
        "name": one.name,
        "summary": one.summary,
        "backend": one.backend,
        "system": one.system,
        "image": one.image or None,
        "cpus": one.cpus,
        "memory_mib": one.memory_mib,
        "disk_gib": gib(one.disk_bytes),
        "user": one.user,
        "recipes": list(one.recipes),
        "egress": one.egress,
        "options": {key: {"default": option.default, "help": option.help} for key, option in one.options.items()},
    }
    if tools.flags.json:
        show_json({"template": data})
        return
    options = {f"--set {key}={option.default}": option.help for key, option in one.options.items()}
    shown = {
        key: "none" if value is None else str(value)
        for key, value in data.items()
        if key not in ("options", "recipes", "memory_mib", "disk_gib")
    }
    sizes = {"memory": show_size(one.memory_mib << 20), "disk": show_size(one.disk_bytes)}
    show_pairs(shown | sizes | {"recipes": ", ".join(one.recipes) or "none"} | options)


@app.command("check")
def check(ctx: typer.Context, name: Annotated[str, typer.Argument(help="Template.")]) -> None:
    """Render a template with its defaults, parse it back and compare."""
    tools: Tools = ctx.obj
    check_template(name, user_folder=tools.paths.templates)
    say(f'template "{name}" renders, and what it renders is what was meant', tools.flags)
