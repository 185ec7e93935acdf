"""Second walls inside a machine, around one program: srt or a container. Nothing of them is there until asked for.

The machine stays the boundary: root in the guest can take a layer away, and a layer shares the guest's kernel.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vmkit.drivers.base import Driver
from vmkit.errors import WrongState
from vmkit.guest.base import Command, Guest
from vmkit.host.report import Report
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.door import DOOR_PORT
from vmkit.network.policy import Mode, Policy
from vmkit.network.srt_settings import render_srt
from vmkit.recipes.facts import STAMPS_FOLDER
from vmkit.workflows.layer import Layer
from vmkit.workflows.net import policy_for, policy_of
from vmkit.workflows.provision import provision
from vmkit.workflows.reach import reach
from vmkit.workflows.workspace import read_workspace

_PROXY = f"http://127.0.0.1:{DOOR_PORT}"
_SETTINGS = "/run/vmkit/srt/settings.json"
_CONTAINER = "/usr/local/lib/vmkit/container/run.sh"
# The last step of each recipe: done when all is.
_LAST_STEPS = {"srt": "install", "container": "image"}
# The settings are root's, lest an earlier session of the same user has written them for this one. Folders that are not
# there when srt starts cannot be written in it.
_PUT_SETTINGS = """
mkdir -p "$HOME/.kiro" "$HOME/.local/share/kiro-cli" /tmp/claude
sudo -n sh -c 'umask 022; mkdir -p "${1%/*}" && cat >"$1.new" && mv -f "$1.new" "$1"' sh "$1"
"""


def require_layer(layer: Layer, machine: Machine, *, machines: MachineStore, driver: Driver, report: Report) -> bool:
    """Apply the layer's recipe unless it is there; say whether it was applied. Raises ProvisionFailed, WrongState."""
    if layer is Layer.NONE:
        return False
    if machine.system != "linux":
        raise WrongState(f'machine "{machine.name}" is not a Linux guest, and has no layers')
    with reach(machine, machines=machines, driver=driver) as guest:
        if has_layer(layer, guest):
            return False
    provision(machine, machines=machines, driver=driver, report=report, recipes=[layer.value])
    return True


def has_layer(layer: Layer, guest: Guest) -> bool:
    """Tell whether the layer's recipe was applied whole."""
    stamp = f"{STAMPS_FOLDER}/{layer}.{_LAST_STEPS[layer]}"
    return guest.run(Command("test", "-f", stamp), check=False).ok


def in_layer(
    layer: Layer,
    words: Sequence[str],
    *,
    machine: Machine,
    guest: Guest,
    workspace: Path,
    clock: Callable[[], float] = time.time,
) -> list[str]:
    """Return the words that run `words` behind the layer, to be run in `workspace`; srt gets the policy of now.

    Raises UsageError, Refused (a damaged policy).
    """
    match layer:
        case Layer.NONE:
            return list(words)
        case Layer.SRT:
            settings = guest_settings(machine, workspace=workspace, now=clock())
            guest.run(Command("sh", "-c", _PUT_SETTINGS, "sh", _SETTINGS), stdin=settings)
            return ["/usr/local/bin/srt", "--settings", _SETTINGS, "--", *words]
        case Layer.CONTAINER:
            return ["sh", _CONTAINER, *words]


def in_folder(words: Sequence[str], folder: Path) -> list[str]:
    """Return the words that run `words` in a folder of the guest."""
    return ["sh", "-c", 'cd -- "$1" && shift && exec "$@"', "sh", str(folder), *words]


def guest_settings(machine: Machine, *, workspace: Path, now: float) -> bytes:
    """Return srt's settings for one session: the policy as it is now; where that is open, what the recipes need."""
    policy: Policy = policy_of(machine)
    if policy.mode is Mode.OPEN:
        policy = replace(policy, mode=Mode.STRICT, rules=policy.rules or policy_for("strict", machine.recipes).rules)
    closed = machine.egress != Mode.OPEN
    # For one session, a rule that ends later counts: the proxy outside ends it in time.
    lasting = tuple(replace(rule, expires=None) for rule in policy.rules if rule.is_live(now))
    rendered = render_srt(
        replace(policy, rules=lasting), now=now, workspace=str(workspace), proxy=_PROXY if closed else None
    )
    return json.dumps(rendered.content).encode()


def workspace_in(machine: Machine) -> Path:
    """Return the workspace that a layer is laid around. Raises WrongState when none was brought in."""
    workspace = read_workspace(machine)
    if workspace is None:
        raise WrongState(
            f'no workspace was brought into "{machine.name}", and a layer is laid around one',
            hint=f"vmkit run {machine.name} FOLDER --layer …",
        )
    return workspace
