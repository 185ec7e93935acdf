"""Making a macOS guest, with stand-ins for Apple's tools and for UTM: what is made, what is left to do, what fails."""

import json
from pathlib import Path

import pytest

from tests.ipsw import write_ipsw
from tests.macinstaller import MacTools, error
from vmkit.bundle.config import AppleConfig
from vmkit.bundle.layout import Bundle
from vmkit.bundle.mac_platform import read_machine_identifier
from vmkit.drivers.base import Vm
from vmkit.errors import Refused, ToolFailed
from vmkit.guest.keys import is_pinned
from vmkit.host.paths import Paths
from vmkit.host.report import Silent
from vmkit.host.settings import load_settings
from vmkit.images.store import ImageStore
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore, read_journal
from vmkit.testing.driver import FakeDriver
from vmkit.workflows.adopt import needs_adoption
from vmkit.workflows.macos import fetch_ipsw, make_mac_guest
from vmkit.workflows.plan import Plan, Wishes, make_plan


class FakeUtm(FakeDriver):
    """Starts what it was given before, whichever backend it is of."""

    name = "utm"

    def __init__(self) -> None:
        super().__init__(bundle_only=True)
        self.started: list[str] = []

    def start(self, vm: Vm, *, disposable: bool = False, recovery: bool = False) -> bool:
        assert vm.uuid in self.added
        self.started.append(vm.uuid)
        return False


class World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.machines = MachineStore(Paths(config=root, data=root / "data", cache=root / "cache"))
        self.driver = FakeUtm()

    def plan(self, **wishes: object) -> Plan:
        return make_plan(
            Wishes(name="mac", template="kiro-macos", disk="1GiB", **wishes),  # type: ignore[arg-type]
            settings=load_settings(self.root / "config.toml"),
            machines=self.machines,
            images=ImageStore(self.machines.paths.images),
            new=False,
            host_arch="aarch64",
        )

    def make(self, plan: Plan, tools: MacTools, *, start: bool = True) -> tuple[Machine, tuple[str, ...]]:
        return make_mac_guest(
            plan, machines=self.machines, driver=self.driver, runner=tools, report=Silent(), start=start
        )

    def config(self, machine: Machine) -> AppleConfig:
        config = Bundle(machine.bundle).read_any()
        assert isinstance(config, AppleConfig)
        return config


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def tools(tmp_path: Path) -> MacTools:
    return MacTools(tmp_path / "bin")


def test_an_installed_guest_has_the_platform_that_the_installer_made(world: World, tools: MacTools) -> None:
    plan = world.plan(ipsw=str(write_ipsw(world.root / "mac.ipsw")))

    machine, steps = world.make(plan, tools)

    config = world.config(machine)
    platform, disk = config.system.mac_platform, machine.bundle / "Data" / str(config.drive[0].image_name)
    assert platform is not None
    assert read_machine_identifier(platform.machine_identifier) == 4711
    assert (machine.bundle / "Data" / "AuxiliaryStorage").read_bytes() == b"nvram"
    assert disk.read_bytes()[:5] == b"macOS"
    assert disk.stat().st_size == 1 << 30
    assert sorted(path.name for path in machine.bundle.joinpath("Data").iterdir()) == sorted(
        [disk.name, "AuxiliaryStorage"]
    )
    assert world.driver.started == [machine.uuid]
    assert "vmkit adopt mac --host-key" in "\n".join(steps)


def test_its_record_is_one_that_adopt_can_finish(world: World, tools: MacTools) -> None:
    machine, steps = world.make(world.plan(ipsw=str(write_ipsw(world.root / "mac.ipsw"))), tools)

    kept = world.machines.open("mac")
    assert (kept.backend, kept.system, kept.driver, kept.image, kept.arch) == ("apple", "macos", "utm", "", "aarch64")
    assert (kept.seeded, is_pinned(kept.keys), needs_adoption(kept), read_journal(kept)) == (False, False, True, None)
    assert (machine.folder / "keys" / "user_key.pub").read_text().strip() in "\n".join(steps)
    assert sorted(path.name for path in machine.folder.iterdir()) == ["keys", "mac.utm", "machine.json"]


@pytest.mark.parametrize("lacking", [True, False])
def test_without_a_compiler_or_by_hand_the_user_is_led_through_utm_s_dialog(
    world: World, tools: MacTools, lacking: bool
) -> None:
    ipsw = write_ipsw(world.root / "mac.ipsw")
    plan = world.plan(ipsw=str(ipsw), by_hand=not lacking)

    machine, steps = world.make(plan, tools.without("swiftc") if lacking else tools)

    config, text = world.config(machine), "\n".join(steps)
    assert (machine.bundle / "Data" / str(config.drive[0].image_name)).stat().st_size == 1 << 30
    assert str(ipsw) in text
    assert "Remote Login" in text
    assert (world.driver.added, world.driver.started) == ({machine.uuid}, [])
    assert tools.lines("calls") == []


def test_latest_asks_apple_fetches_checks_and_keeps_it(world: World, tmp_path: Path) -> None:
    served = write_ipsw(tmp_path / "apple.ipsw")
    tools = MacTools(tmp_path / "bin", url=served.as_uri())

    world.make(world.plan(), tools)

    latest, install = (json.loads(line) for line in tools.lines("calls"))
    assert latest == ["latest"]
    assert Path(install[2]).read_bytes() == served.read_bytes()
    assert Path(install[2]).is_relative_to(world.root / "cache")


@pytest.mark.parametrize("url", ["http://example.com/a.ipsw", "javascript:alert(1)", "file://host/etc/passwd"])
def test_an_address_that_is_not_https_is_not_fetched(world: World, tmp_path: Path, url: str) -> None:
    with pytest.raises(Exception, match="cannot be used"):
        world.make(world.plan(), MacTools(tmp_path / "bin", url=url))

    assert not world.machines.exists("mac")


def test_what_was_fetched_is_not_kept_when_it_is_no_restore_image(world: World, tmp_path: Path) -> None:
    served = write_ipsw(tmp_path / "phone.ipsw", SupportedProductTypes=["iPhone18,1"])

    with pytest.raises(Refused, match="cannot install a macOS guest"):
        fetch_ipsw(served.as_uri(), cache=world.root / "cache", report=Silent())

    assert list((world.root / "cache" / "ipsw").glob("*.ipsw*")) == []


def test_a_download_that_broke_off_goes_on(world: World, tmp_path: Path) -> None:
    served = write_ipsw(tmp_path / "apple.ipsw")
    cache = world.root / "cache"
    path, _ = fetch_ipsw(served.as_uri(), cache=cache, report=Silent())
    path.rename(path.with_name(path.name + ".partial"))
    path.with_name(path.name + ".partial").write_bytes(served.read_bytes()[:1000])

    again, image = fetch_ipsw(served.as_uri(), cache=cache, report=Silent())

    assert (again.read_bytes(), image.version) == (served.read_bytes(), "15.6.1")


@pytest.mark.parametrize(
    "body",
    [
        error(message="the disk is too small"),
        "say(event='done')",  # and made nothing
        "(made / 'HardwareModel').symlink_to('/etc/passwd'); say(event='done')",
        "(made / 'HardwareModel').write_bytes(b'x' * 10000); say(event='done')",
    ],
)
def test_an_installation_that_fails_leaves_no_machine(world: World, tmp_path: Path, body: str) -> None:
    tools = MacTools(tmp_path / "bin", body=body)

    with pytest.raises((ToolFailed, Refused)):
        world.make(world.plan(ipsw=str(write_ipsw(tmp_path / "mac.ipsw"))), tools)

    assert not world.machines.exists("mac")
    assert [path for path in (world.root / "data" / "staging").iterdir() if path.is_dir()] == []
    assert world.driver.added == set()
