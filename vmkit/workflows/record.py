"""The record of a machine that is about to be made."""

import datetime as dt
import uuid

from vmkit.images.layout import Image
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.plan import Plan


def new_machine(plan: Plan, image: Image | None, *, machines: MachineStore) -> Machine:
    """Return the machine of `plan` with a fresh identity; nothing of it exists yet. A macOS guest has no image."""
    return Machine(
        name=plan.name,
        uuid=str(uuid.uuid4()).upper(),
        driver=plan.driver,
        template=plan.template.name,
        image=image.name if image else "",
        image_digest=image.digest if image else "",
        arch=image.arch if image else plan.arch,
        cpus=plan.cpus,
        memory_mib=plan.memory_mib,
        disk_bytes=plan.disk_bytes,
        user=image.user if image else plan.user,
        recipes=plan.recipes,
        egress=plan.egress,
        options=dict(plan.options),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        folder=machines.paths.machines / plan.name,
        backend=plan.backend,
        system=plan.system,
    )
