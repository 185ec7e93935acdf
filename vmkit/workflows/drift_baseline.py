"""What an image has: asked of a copy of it that boots once, and kept by the image's digest."""

import base64
import contextlib
import hashlib
import json
from pathlib import Path
from typing import Protocol

from vmkit.drivers.base import Driver
from vmkit.errors import VmkitError
from vmkit.host.files import own_directory, read_bounded, write_atomically
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.images.store import ImageStore
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.drift_inventory import Inventory, ask, inventory_script, parse_inventory
from vmkit.workflows.trial_copy import ReachCopy, guest_of, image_copy

_MAX_BYTES = 32 << 20


class Baseline(Protocol):
    """Where the inventory of a machine's image comes from: `baseline_of` below."""

    def __call__(
        self,
        machine: Machine,
        *,
        machines: MachineStore,
        images: ImageStore,
        driver: Driver,
        runner: Runner,
        report: Report,
        timeout_s: float,
    ) -> Inventory:
        """Return it."""


def baseline_of(
    machine: Machine,
    *,
    machines: MachineStore,
    images: ImageStore,
    driver: Driver,
    runner: Runner,
    report: Report,
    timeout_s: float,
    reach: ReachCopy = guest_of,
) -> Inventory:
    """Return the inventory of a machine's image as it is when it has booted; it is booted when none is kept.

    Raises Refused (the image is gone), HostLacks (no copies here), TimedOut, ToolFailed.
    """
    kept = machines.paths.cache / "inventory" / f"{machine.image_digest.removeprefix('sha256:')}.json"
    known = _read(kept)
    if known is not None:
        return known
    image = images.ready(images.by_digest(machine.image_digest, name=machine.image), report=report)
    with (
        report.phase("baseline", f"booting a copy of the image {machine.image}, once, to see what it has"),
        image_copy(image, like=machine, machines=machines, driver=driver, runner=runner) as copy,
        reach(copy, machines=machines, driver=driver, report=report, timeout_s=timeout_s) as guest,
    ):
        own_key, answer = copy.keys.user_public, ask(guest)
    inventory = parse_inventory(answer, own_key=own_key)
    if not inventory.missed:  # what is half known is asked again
        own_directory(kept.parent)
        said = {
            "schema": 1,
            "script": _script_digest(),
            "own_key": own_key,
            "answer": base64.b64encode(answer).decode(),
        }
        write_atomically(kept, json.dumps(said).encode())
    return inventory


def _read(kept: Path) -> Inventory | None:
    """Return what is kept, unless another script asked it or it cannot be read: then it is asked again."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError, VmkitError):
        said = json.loads(read_bounded(kept, max_bytes=_MAX_BYTES))
        if said["schema"] == 1 and said["script"] == _script_digest():
            return parse_inventory(base64.b64decode(said["answer"]), own_key=str(said["own_key"]))
    return None


def _script_digest() -> str:
    return hashlib.sha256(inventory_script().encode()).hexdigest()
