"""`vmkit image push|pull`."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from vmkit.cli.render import say, show_json, show_pairs
from vmkit.cli.tools import Tools
from vmkit.host.sizes import show_size

_REMOTE = "HOST[:PORT]/NAME:TAG, HOST[:PORT]/NAME@sha256:DIGEST, or oci-dir:PATH[:NAME] for a folder to carry away."


def push(
    ctx: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="LOCAL", help="NAME[:TAG].")],
    target: Annotated[str, typer.Argument(metavar="REMOTE", help=_REMOTE)],
    *,
    immutable: Annotated[
        bool, typer.Option("--immutable", help="Refuse to move a tag that means another image there.")
    ] = False,
    seal: Annotated[
        bool, typer.Option("--seal/--no-seal", help="Scan an image that was not sealed, and refuse what is found.")
    ] = True,
) -> None:
    """Push an image to a registry or a folder: what is there already is not sent; run it again after a break."""
    tools: Tools = ctx.obj
    from vmkit.workflows.transfer import push_image  # noqa: PLC0415  # listing images does not need it

    done = push_image(
        reference,
        target,
        images=tools.images,
        settings=tools.settings,
        runner=tools.runner,
        report=tools.report,
        never_move_tag=immutable,
        seal=seal,
    )
    _show(asdict(done), tools, verb="sent")


def pull(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="REMOTE", help=_REMOTE)],
    reference: Annotated[
        str | None, typer.Argument(metavar="[LOCAL]", help="NAME[:TAG] here; default: the remote name's last word.")
    ] = None,
) -> None:
    """Pull an image: every part is checked before it counts, and a broken pull goes on where it was."""
    tools: Tools = ctx.obj
    from vmkit.workflows.transfer import pull_image  # noqa: PLC0415  # as above

    _, done = pull_image(
        source,
        reference,
        images=tools.images,
        settings=tools.settings,
        runner=tools.runner,
        report=tools.report,
    )
    _show(asdict(done), tools, verb="fetched")


def _show(done: dict[str, Any], tools: Tools, *, verb: str) -> None:
    if tools.flags.json:
        show_json({"transfer": done})
        return
    show_pairs({"name": done["name"], "digest": done["digest"], "remote": done["pinned"]})
    there = f"; {show_size(done['kept_bytes'])} in {done['kept_parts']} parts were there" if done["kept_parts"] else ""
    say(f"{verb} {show_size(done['moved_bytes'])} in {done['moved_parts']} parts{there}", tools.flags)
