"""`vmkit image save`."""

from typing import Annotated

import typer

from vmkit.cli.image_view import show_image
from vmkit.cli.tools import Tools


def save(
    ctx: typer.Context,
    machine: Annotated[str, typer.Argument(help="It stays as it is; one that runs is stopped for a while.")],
    reference: Annotated[str, typer.Argument(metavar="NAME:TAG", help="The image's name and tag.")],
    *,
    seal: Annotated[
        bool, typer.Option("--seal/--no-seal", help="Refuse to save what looks like a secret; else only tell.")
    ] = True,
    wipe: Annotated[
        bool,
        typer.Option(
            "--wipe", help="Let secrets in histories, logs, logins and deleted files go; else they refuse too."
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for the copy to boot.")] = 600.0,
) -> None:
    """Save a machine as an image: a copy of it is cleaned of identity, logins and traces, and every byte is scanned."""
    tools: Tools = ctx.obj
    from vmkit.workflows.save import save as save_machine  # noqa: PLC0415  # paramiko

    found = tools.machine(machine)
    saved = save_machine(
        found,
        reference,
        machines=tools.machines,
        images=tools.images,
        driver=tools.driver(found.driver),
        runner=tools.runner,
        report=tools.report,
        timeout_s=timeout,
        seal=seal,
        wipe=wipe,
    )
    show_image(saved.image, tools, **saved.to_json())
