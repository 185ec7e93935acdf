"""What the commands share, each made once when first asked for."""

import os
from functools import cached_property

from vmkit.cli.flags import Flags
from vmkit.drivers.base import Driver
from vmkit.errors import UsageError
from vmkit.host.paths import Paths
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore


class App:
    """What every command needs; `list` needs no more, and must start fast."""

    def __init__(self, *, flags: Flags) -> None:
        self.flags = flags
        self._drivers: dict[str, Driver] = {}

    @cached_property
    def paths(self) -> Paths:
        """Where things are kept."""
        return Paths.from_environment()

    @cached_property
    def machines(self) -> MachineStore:
        """The machines."""
        return MachineStore(self.paths)

    def driver(self, name: str) -> Driver:
        """Return the driver `name`. Raises HostLacks, UsageError."""
        if name not in self._drivers:
            from vmkit.drivers.choice import get_driver  # noqa: PLC0415  # not before there is a machine
            from vmkit.host.process import Runner  # noqa: PLC0415

            self._drivers[name] = get_driver(name, paths=self.paths, runner=Runner())
        return self._drivers[name]

    def machine(self, name: str | None) -> Machine:
        """Open the machine `name`, or `VMKIT_MACHINE`, or the only one there is. Raises UsageError, NotFound."""
        chosen = name or os.environ.get("VMKIT_MACHINE") or self.machines.only()
        if not chosen:
            raise UsageError("which machine?", hint="name one, or set VMKIT_MACHINE; vmkit list shows them")
        return self.machines.open(chosen)
