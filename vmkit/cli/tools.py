"""What the commands share beyond what `list` needs."""

from functools import cached_property

from vmkit.cli.app import App
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.settings import Settings, load_settings
from vmkit.images.store import ImageStore


class Tools(App):
    """The collaborators of one run."""

    @cached_property
    def settings(self) -> Settings:
        """The user's settings."""
        return load_settings(self.paths.settings)

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
