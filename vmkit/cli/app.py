"""What the commands share, each made once when first asked for."""

from functools import cached_property

from vmkit.cli.flags import Flags
from vmkit.drivers import get_driver
from vmkit.drivers.base import Driver
from vmkit.errors import UsageError
from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.settings import Settings, load_settings
from vmkit.images.store import ImageStore
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore


class App:
    """The collaborators of one run."""

    def __init__(self, *, flags: Flags) -> None:
        self.flags = flags
        self._drivers: dict[str, Driver] = {}

    @cached_property
    def paths(self) -> Paths:
        """Where things are kept."""
        return Paths.from_environment()

    @cached_property
    def settings(self) -> Settings:
        """The user's settings."""
        return load_settings(self.paths.settings)

    @cached_property
    def machines(self) -> MachineStore:
        """The machines."""
        return MachineStore(self.paths)

    @cached_property
    def images(self) -> ImageStore:
        """The images."""
        return ImageStore(self.paths.images)

    @cached_property
    def runner(self) -> Runner:
        """How host programs are run."""
        return Runner()

    @cached_property
    def report(self) -> Report:
        """Where progress goes: stderr, drawn only on a terminal."""
        from vmkit.cli.progress import make_report  # noqa: PLC0415  # rich, for commands that take time

        return make_report(self.flags)

    def driver(self, name: str) -> Driver:
        """Return the driver `name`."""
        if name not in self._drivers:
            self._drivers[name] = get_driver(name, paths=self.paths, runner=self.runner)
        return self._drivers[name]

    def machine(self, name: str | None) -> Machine:
        """Open the machine `name`, or `VMKIT_MACHINE`, or the only one there is. Raises UsageError, NotFound."""
        import os  # noqa: PLC0415

        chosen = name or os.environ.get("VMKIT_MACHINE") or self.machines.only()
        if not chosen:
            raise UsageError("which machine?", hint="name one, or set VMKIT_MACHINE; vmkit list shows them")
        return self.machines.open(chosen)

    def accelerator(self) -> tuple[str, str]:
        """Return which accelerator this computer's own machines get, and why. Raises HostLacks."""
        from vmkit.drivers.accelerator import choose_accelerator  # noqa: PLC0415  # only doctor asks
        from vmkit.host.computer import machine_arch  # noqa: PLC0415
        from vmkit.host.programs import find_qemu  # noqa: PLC0415

        arch = machine_arch()
        binary = find_qemu(arch, runner=self.runner)
        chosen = choose_accelerator(
            arch, hypervisor_wanted=True, binary=binary, runner=self.runner, cache=self.paths.cache
        )
        return chosen.name, chosen.reason
