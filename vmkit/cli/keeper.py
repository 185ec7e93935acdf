"""`vmkit keeper`: the process beside a running machine. Commands start it; it is in no list."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("keeper", hidden=True)
def keeper(
    name: Annotated[str, typer.Argument(help="The machine.")],
    uuid: Annotated[str, typer.Option("--uuid", help="Its identity.")],
    socket_path: Annotated[Path, typer.Option("--socket", help="Where to listen.")],
    lock: Annotated[Path, typer.Option("--lock", help="What to hold while running.")],
    log: Annotated[Path, typer.Option("--log", help="Where to log decisions.")],
) -> None:
    """Hold a machine's connection, its door and its log until the machine has stopped."""
    from vmkit.workflows.keeping import keep  # noqa: PLC0415  # a process of its own

    typer.echo(keep(name, uuid=uuid, socket_path=socket_path, lock=lock, log=log), err=True)
