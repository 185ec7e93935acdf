"""`vmkit recipe list|show`."""

from typing import Annotated

import typer

from vmkit.cli.render import show_json, show_pairs, show_table
from vmkit.cli.tools import Tools
from vmkit.recipes.load import list_recipes, load_recipes

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Recipes.")


@app.command("list")
def list_all(ctx: typer.Context) -> None:
    """List the recipes, yours and the shipped ones."""
    tools: Tools = ctx.obj
    found = list_recipes(user_folder=tools.paths.recipes)
    if tools.flags.json:
        show_json({"recipes": [{"name": one.name, "summary": one.summary} for one in found]})
    else:
        show_table(("NAME", "SUMMARY"), [(one.name, one.summary) for one in found])


@app.command("show")
def show(ctx: typer.Context, name: Annotated[str, typer.Argument(help="Recipe.")]) -> None:
    """Show a recipe's steps in the order in which they are applied."""
    tools: Tools = ctx.obj
    recipes = load_recipes((name,), user_folder=tools.paths.recipes)
    if tools.flags.json:
        steps = [{"recipe": one.name, "id": step.id} for one in recipes for step in one.steps]
        show_json({"recipe": {"name": name, "steps": steps}})
        return
    for one in recipes:
        show_pairs({one.name: one.summary, **{f"  {step.id}": type(step).__name__.lower() for step in one.steps}})
