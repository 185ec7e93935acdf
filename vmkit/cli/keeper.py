"""`vmkit keeper`: the process beside a running machine. Commands start it; it is in no list."""

import socket
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_LOCKED_WITHIN_S = 10.0


@app.command("keeper", hidden=True)
def keeper(
    name: Annotated[str, typer.Argument(help="The machine.")],
    socket_path: Annotated[Path, typer.Option("--socket", help="Where to listen.")],
    lock: Annotated[Path, typer.Option("--lock", help="What to hold while running.")],
    log: Annotated[Path, typer.Option("--log", help="Where to log decisions.")],
) -> None:
    """Hold a machine's connection, its door and its log until the machine has stopped."""
    from vmkit.errors import Busy  # noqa: PLC0415  # this whole command is a process of its own
    from vmkit.guest.dial import dial  # noqa: PLC0415
    from vmkit.host.files import Lock  # noqa: PLC0415
    from vmkit.host.wait import Deadline, until  # noqa: PLC0415
    from vmkit.network.keeper import Keeper  # noqa: PLC0415

    held = until(
        lambda _left_s: Lock(lock).acquire("keep"),
        deadline=Deadline(_LOCKED_WITHIN_S),
        what="another keeper of this machine lives",
        retry_on=(Busy,),
    )
    with held, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        socket_path.unlink(missing_ok=True)
        listener.bind(str(socket_path))
        socket_path.chmod(0o600)
        try:
            typer.echo(Keeper(name, log=log, dial=dial).run(listener), err=True)
        finally:
            socket_path.unlink(missing_ok=True)
