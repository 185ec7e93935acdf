"""The one-command day: a machine for this folder, running, logged in, the folder inside, Kiro in the terminal."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from vmkit.errors import UsageError
from vmkit.guest.base import Command, Secret
from vmkit.guest.copy import copy_into
from vmkit.guest.handed import handed
from vmkit.guest.pty import Terminal, shell
from vmkit.guest.ssh import SshGuest
from vmkit.host.report import Report
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.workspace import mark_workspace, read_workspace

CHAT = ("chat", "--trust-all-tools")

_SESSION = 'cd -- "$1" && shift && PATH="$HOME/.local/bin:$PATH" && exec "$@"'
_TAKE_KEY = 'IFS= read -r KIRO_API_KEY <"$1" && export KIRO_API_KEY && shift && '
_PREPARE = 'sudo -n install -d -o "$(id -un)" -g "$(id -gn)" -- "$1"'


def is_place(argument: str) -> bool:
    """Tell whether an argument of `run` is a folder, not a machine: `.`, `~`, or with a slash."""
    return argument in (".", "..", "~") or "/" in argument


def checked_workspace(argument: str) -> Path:
    """Return the folder that an argument names, resolved. Raises UsageError when it is none that can go in."""
    place = Path(argument).expanduser()
    if not place.is_dir():
        raise UsageError(f'there is no folder "{argument}"', hint="vmkit run NAME FOLDER")
    place = place.resolve()
    if place in (Path("/"), Path.home()):
        raise UsageError(f'"{place}" is too much to bring in', hint="vmkit run in the folder of one project")
    if not str(place).isprintable():
        raise UsageError("the folder's path holds a control character")
    return place


def machine_for(workspace: Path, *, machines: MachineStore) -> str:
    """Return the name of the machine for a folder: the folder's own; with a suffix when another folder has that one."""
    slug = re.sub(r"[^a-z0-9]+", "-", workspace.name.lower()).strip("-")[:32].rstrip("-")
    name = slug if slug[:1].isalpha() else f"kiro-{slug}".rstrip("-")
    if machines.exists(name) and read_workspace(machines.open(name)) not in (None, workspace):
        name = f"{name}-{hashlib.sha256(os.fsencode(workspace)).hexdigest()[:6]}"
    return name


def bring_in(guest: SshGuest, machine: Machine, workspace: Path, *, report: Report) -> bool:
    """Copy the folder to the same path in the guest, unless it is there from before. Return whether it was copied.

    Raises CommandFailed, TransportFailed.
    """
    if guest.run(Command("test", "-d", str(workspace)), check=False).ok:
        return False
    mark_workspace(machine, workspace)
    guest.run(Command("sh", "-c", _PREPARE, "sh", str(workspace.parent)))
    with report.phase("workspace", f"copying {workspace} to {machine.name}"):
        copy_into(guest, [workspace], str(workspace), on_bytes=lambda done: report.progress(done, None))
    return True


def session(
    guest: SshGuest,
    workspace: Path,
    arguments: Sequence[str],
    *,
    layer: Callable[[Sequence[str]], Sequence[str]] = list,
    api_key: Secret | None = None,
    raw_terminal: bool = False,
) -> int:
    """Run Kiro CLI in the workspace, in this terminal (`raw_terminal`: unfiltered), and return its exit code.

    `layer` makes of its words those that run it behind a second wall.
    """
    terminal = Terminal.from_environment(os.environ, filtered=not raw_terminal)
    rest = (str(workspace), *layer(["kiro-cli", *arguments]))
    if api_key is None:
        return shell(guest, ["sh", "-c", _SESSION, "sh", *rest], terminal=terminal)
    with handed(guest, api_key) as pipe:
        return shell(guest, ["sh", "-c", _TAKE_KEY + _SESSION, "sh", pipe, *rest], terminal=terminal)
