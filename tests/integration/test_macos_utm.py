"""A macOS guest made with the utm driver and the simulated UTM: registered whole, with a platform of its own."""

import plistlib
from pathlib import Path

import pytest

from tests.ipsw import write_ipsw
from tests.mac import Mac
from tests.macinstaller import MacTools
from vmkit.bundle.check import check
from vmkit.drivers.base import MachineState
from vmkit.host.paths import Paths
from vmkit.host.process import Completed
from vmkit.host.report import Silent
from vmkit.host.settings import load_settings
from vmkit.images.store import ImageStore
from vmkit.machines.store import MachineStore
from vmkit.workflows.macos import make_mac_guest
from vmkit.workflows.plan import Wishes, make_plan


class MacWithTools(Mac):
    """A simulated Mac with stand-ins for Apple's compiler and signer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tools = MacTools(folder / "tools")

    def find(self, program: str) -> Path | None:
        return self.tools.find(program) or super().find(program)

    def run(self, argv, *, env=None, **options) -> Completed:
        return super().run(argv, env=env, **options)


@pytest.mark.parametrize("by_hand", [True, False])
def test_utm_has_what_was_rendered_and_vmkit_gives_its_copy_up(tmp_path: Path, by_hand: bool) -> None:
    mac = MacWithTools(tmp_path)
    machines = MachineStore(Paths(config=tmp_path, data=tmp_path / "data", cache=tmp_path / "cache"))
    plan = make_plan(
        Wishes(
            name="mac",
            template="kiro-macos",
            disk="64MiB",
            ipsw=str(write_ipsw(tmp_path / "mac.ipsw")),
            by_hand=by_hand,
        ),
        settings=load_settings(tmp_path / "config.toml"),
        machines=machines,
        images=ImageStore(machines.paths.images),
        new=False,
        host_arch="aarch64",
    )
    driver = mac.driver()

    machine, steps = make_mac_guest(plan, machines=machines, driver=driver, runner=mac, report=Silent(), start=False)

    vm = machines.vm(machine)
    held = mac.documents / "mac.utm"
    platform = plistlib.loads((held / "config.plist").read_bytes())["System"]["MacPlatform"]
    ours = plistlib.loads((machine.bundle / "config.plist").read_bytes())["System"]["MacPlatform"]
    assert driver.state(vm) == MachineState.STOPPED
    assert platform == ours
    assert check(held).loads
    assert (held / "Data" / "AuxiliaryStorage").exists()
    assert list((machine.bundle / "Data").iterdir()) == []
    assert ("IPSW Install Image" in "\n".join(steps)) is by_hand
