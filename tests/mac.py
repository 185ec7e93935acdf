"""A simulated Mac for tests: a home, a simulated UTM in it, and a Runner that runs the simulator's programs there."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tests import utmsim
from tests.utmsim.place import Place
from vmkit.drivers.base import Vm
from vmkit.drivers.utm import UtmDriver
from vmkit.host.process import Completed, Runner


class Mac(Runner):
    """Runs programs as on a Mac whose user has `home`; this process's own environment stays as it is."""

    def __init__(self, folder: Path, **session: str) -> None:
        self.sim = utmsim.install(folder / "utm")
        self.home = folder / "user"
        self.home.mkdir()
        self.session = {**self.sim.environment, "HOME": str(self.home), **session}

    def find(self, program: str) -> Path | None:
        found = shutil.which(program, path=self.session["PATH"])
        return Path(found) if found else None

    def run(self, argv, *, env=None, **options) -> Completed:
        return super().run(argv, env={**self.session, **(env or {})}, **options)

    def driver(self, **options: Any) -> UtmDriver:
        return UtmDriver(runner=self, app=self.sim.app, home=self.home, **options)

    @property
    def documents(self) -> Path:
        return self.sim.documents(self.home)

    def entry(self, vm: Vm) -> dict[str, Any] | None:
        """Return what UTM holds of a machine."""
        registry = Place(self.sim.folder, self.home).registry
        entries = json.loads(registry.read_text()) if registry.exists() else []
        return next((entry for entry in entries if entry["uuid"] == vm.uuid), None)

    def signal(self, vm: Vm, number: int) -> None:
        """Send a signal to the QEMU of a machine."""
        os.kill(self.entry(vm)["pid"], number)
