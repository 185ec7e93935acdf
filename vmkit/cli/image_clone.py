"""`vmkit image clone`."""

from typing import Annotated

import typer

from vmkit.cli.tools import Tools


def clone(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="NAME:TAG", help="The image.")],
    name: Annotated[str, typer.Argument(metavar="MACHINE", help="The new machine.")],
    *,
    start: Annotated[bool, typer.Option("--start", help="Start and provision it too.")] = False,
) -> None:
    """Make a machine of an image, with the template that the image was made with; its disk is a copy-on-write child.

    `vmkit create --image` does the same and takes every other wish.
    """
    tools: Tools = ctx.obj
    from vmkit.cli.create import create  # noqa: PLC0415  # plans and templates, which the other image commands need not

    lock = tools.images.manifest(tools.images.digest(reference)).meta.lock
    create(ctx, name, image=reference, template=(lock and lock.template) or None, no_start=not start, no_login=True)
