"""`vmkit image tag`."""

from typing import Annotated

import typer

from vmkit.cli.render import say, show_json
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError, WrongState
from vmkit.images.channels import CHANNELS, is_channel
from vmkit.images.layout import parse_reference


def tag(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="NAME:TAG", help="The image.")],
    name: Annotated[str, typer.Argument(metavar="NAME:NEWTAG", help="One more name for it.")],
) -> None:
    """Give an image one more name. A channel (stable, beta and the like) moves to it; a fixed tag is never moved."""
    tools: Tools = ctx.obj
    target = parse_reference(name)
    if ":" not in name:
        raise UsageError("which tag?", hint=f"vmkit image tag {reference} {name}:stable")
    try:
        digest = tools.images.tag(reference, target, replace=is_channel(target))
    except WrongState as error:
        hint = f"choose another tag; these may be moved: {', '.join(sorted(CHANNELS))}"
        raise WrongState(error.message, hint=hint) from None
    if tools.flags.json:
        show_json({"tag": {"name": target, "digest": digest}})
    else:
        say(f"{target} is {parse_reference(reference)} now", tools.flags)
