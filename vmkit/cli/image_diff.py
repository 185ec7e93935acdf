"""`vmkit image diff`."""

from typing import Annotated

import typer

from vmkit.cli.image_sign import find_image
from vmkit.cli.render import say, show_json, show_text
from vmkit.cli.tools import Tools
from vmkit.host.sizes import show_size
from vmkit.host.text import printable

_SIZES = ("virtual_bytes", "stored_bytes")


def diff(
    ctx: typer.Context,
    first: Annotated[str, typer.Argument(metavar="A", help="NAME[:TAG].")],
    second: Annotated[str, typer.Argument(metavar="B", help="NAME[:TAG].")],
) -> None:
    """Show how image B differs from image A: packages, Kiro, recipes, sizes, and what a push of B would send."""
    tools: Tools = ctx.obj
    from vmkit.workflows.image_diff import Changes, image_diff  # noqa: PLC0415  # for this command only

    found = image_diff(find_image(first, tools), find_image(second, tools), images=tools.images)
    if tools.flags.json:
        show_json({"diff": found.to_json()})
        return
    if found.is_same:
        say(f"{found.first.name} and {found.second.name} are the same image", tools.flags)

    def show(title: str, changes: Changes) -> None:
        for name, value in changes.added.items():
            show_text(printable(f"+ {title} {name} {value}"))
        for name, value in changes.removed.items():
            show_text(printable(f"- {title} {name} {value}"))
        for name, (before, after) in changes.changed.items():
            show_text(printable(f"~ {title} {name} {before} → {after}"))

    for key, values in found.facts.items():
        shown = [show_size(int(value)) if key in _SIZES else str(value) or "-" for value in values]
        show_text(printable(f"~ {key} {shown[0]} → {shown[1]}"))
    show("recipe", found.recipes)
    if found.packages is None:
        say("packages cannot be compared: an image has no list of them", tools.flags)
    else:
        show("package", found.packages)
    parts = found.parts
    show_text(
        f"chunks: {parts.shared_chunks} shared, {parts.only_first_chunks} only in A, "
        f"{parts.only_second_chunks} only in B",
        f"a push of B where A is sends {show_size(parts.push_bytes)}",
    )
