"""`vmkit image refresh`."""

from typing import Annotated

import typer

from vmkit.cli.image_view import show_image
from vmkit.cli.tools import Tools


def refresh(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(help="NAME[:TAG].")],
    new: Annotated[str, typer.Argument(metavar="NEWTAG", help="A tag of the same name, or NAME:TAG.")],
    *,
    upgrade_kiro: Annotated[
        bool, typer.Option("--upgrade-kiro", help="Take the newest Kiro CLI instead of the one of the lock.")
    ] = False,
    allow_changed_recipes: Annotated[
        bool,
        typer.Option("--allow-changed-recipes", help="Go on although recipes are not those of the lock any more."),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for each boot.")] = 600.0,
) -> None:
    """Make an image again from its lock, with today's packages: the same base, recipes and Kiro CLI.

    It is done in a temporary machine, which is removed at the end; a built image is built again.
    """
    tools: Tools = ctx.obj
    from vmkit.workflows.refresh import refresh as refresh_image  # noqa: PLC0415  # paramiko

    done = refresh_image(
        reference,
        new,
        machines=tools.machines,
        images=tools.images,
        driver_for=tools.driver,
        runner=tools.runner,
        settings=tools.settings,
        report=tools.report,
        timeout_s=timeout,
        upgrade_kiro=upgrade_kiro,
        allow_changed_recipes=allow_changed_recipes,
    )
    show_image(done.image, tools, **done.to_json())
