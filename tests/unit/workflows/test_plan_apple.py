"""Plans for UTM's Apple backend: what the flags mean, what is refused and with which exit code, before anything is written."""

from pathlib import Path

import pytest

from tests.ipsw import write_ipsw
from vmkit.bundle.check import check
from vmkit.bundle.config import AppleConfig
from vmkit.bundle.layout import Bundle
from vmkit.bundle.mac_platform import read_hardware_model, read_machine_identifier
from vmkit.errors import HostLacks, Refused, UsageError, VmkitError
from vmkit.host.paths import Paths
from vmkit.host.settings import load_settings
from vmkit.images.layout import Boot, Image
from vmkit.images.store import ImageStore
from vmkit.machines.store import MachineStore
from vmkit.workflows.create import write_bundle_only
from vmkit.workflows.plan import Plan, Wishes, make_plan


class World:
    """A folder of vmkit's, and plans made in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        paths = Paths(config=root, data=root, cache=root / "cache")
        self.machines, self.images = MachineStore(paths), ImageStore(paths.images)

    def plan(
        self,
        template: str = "kiro-macos",
        *,
        arch: str = "aarch64",
        new: bool = False,
        settings: str = "",
        **wishes: object,
    ) -> Plan:
        file = self.root / "config.toml"
        file.write_text(settings)
        return make_plan(
            Wishes(name="mac", template=template, **wishes),  # type: ignore[arg-type]
            settings=load_settings(file),
            machines=self.machines,
            images=self.images,
            new=new,
            host_arch=arch,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def image(root: Path, *, boot: Boot, arch: str) -> Image:
    return Image(
        name="debian-13:latest",
        digest="sha256:" + "0" * 64,
        arch=arch,
        boot=boot,
        user="agent",
        kernel_arguments="root=/dev/vda rw console=ttyAMA0 quiet",
        virtual_bytes=1 << 30,
        stored_bytes=1 << 20,
        created="2026-01-01T00:00:00Z",
        release="13",
        disk=root / "disk.raw",
        kernel=None,
        initrd=None,
    )


@pytest.mark.parametrize("arch", ["aarch64", "x86_64"])
@pytest.mark.parametrize(
    ("template", "boot"), [("kiro-macos", None), ("kiro-apple", Boot.UEFI), ("kiro-apple", Boot.DIRECT)]
)
def test_each_case_renders_a_bundle_that_utm_loads_whole(
    world: World, template: str, boot: Boot | None, arch: str
) -> None:
    ipsw = str(write_ipsw(world.root / "mac.ipsw")) if boot is None else None
    plan = world.plan(template, arch=arch, ipsw=ipsw)

    path = write_bundle_only(plan, image(world.root, boot=boot, arch=arch) if boot else None, output=world.root / "out")

    verdict = check(path)
    assert (verdict.loads, verdict.backend) == (True, "Apple")
    assert (verdict.ignored_keys, dict(verdict.defaults), verdict.changed) == ((), {}, ())
    config = Bundle(path).read_any()
    assert isinstance(config, AppleConfig)
    assert config.system.architecture == ("aarch64" if boot is None else arch)
    assert config.system.boot.uefi_boot is (boot is Boot.UEFI)


def test_a_restore_image_chooses_the_hardware_model_and_each_bundle_has_its_own_identity(world: World) -> None:
    plan = world.plan(ipsw=str(write_ipsw(world.root / "old.ipsw", ProductVersion="12.6.1")))

    configs = [Bundle(write_bundle_only(plan, None, output=world.root / name)).read_any() for name in "ab"]

    platforms = [config.system.mac_platform for config in configs if isinstance(config, AppleConfig)]
    assert [read_hardware_model(one.hardware_model).minimum_os for one in platforms if one] == [(12, 0, 0)] * 2
    assert len({read_machine_identifier(one.machine_identifier) for one in platforms if one}) == 2


def test_the_kernel_s_console_is_the_framework_s(world: World) -> None:
    plan = world.plan("kiro-apple")

    path = write_bundle_only(plan, image(world.root, boot=Boot.DIRECT, arch="aarch64"), output=world.root / "out")

    config = Bundle(path).read_any()
    assert isinstance(config, AppleConfig)
    assert config.system.boot.linux_command_line == "root=/dev/vda rw quiet console=hvc0"


@pytest.mark.parametrize("installer", [None, "latest", "boot-partition"])
def test_without_a_restore_image_it_is_apple_s_newest(world: World, installer: str | None) -> None:
    plan = world.plan(installer=installer)

    assert plan.mac_source is not None
    assert plan.to_json() | {"installer": "latest", "ipsw": None, "install_by_hand": False} == plan.to_json()
    assert (plan.driver, plan.backend, plan.system, plan.image) == ("utm", "apple", "macos", "")


def test_a_plan_says_what_its_restore_image_holds(world: World) -> None:
    path = write_ipsw(world.root / "mac.ipsw")

    said = world.plan(ipsw=str(path), by_hand=True).to_json()

    assert (said["ipsw"], said["macos"]) == (str(path), {"version": "15.6.1", "build": "24G90"})
    assert (said["installer"], said["install_by_hand"]) == (None, True)


@pytest.mark.parametrize(
    ("template", "wishes", "error", "code"),
    [
        ("kiro-macos", {"ipsw": "a.ipsw", "installer": "latest"}, UsageError, 2),
        ("kiro-macos", {"installer": "newest"}, UsageError, 2),
        ("kiro-macos", {"image": "debian-13"}, UsageError, 2),
        ("kiro-macos", {"driver": "qemu"}, UsageError, 2),
        ("kiro-macos", {"cpus": 1}, UsageError, 2),
        ("kiro-macos", {"memory": "2GiB"}, UsageError, 2),
        ("kiro-macos", {"ipsw": "http://example.com/mac.ipsw"}, UsageError, 2),
        ("kiro-macos", {"ipsw": "ftp://example.com/mac.ipsw"}, UsageError, 2),
        ("kiro-macos", {"ipsw": "https://u:p@example.com/mac.ipsw"}, UsageError, 2),
        ("kiro-macos", {"ipsw": "/nonexistent/mac.ipsw"}, VmkitError, 3),
        ("kiro-macos", {"ipsw": __file__}, Refused, 6),
        ("kiro-macos", {"egress": "strict"}, Refused, 6),
        ("kiro-apple", {"egress": "airgap"}, Refused, 6),
        ("kiro-apple", {"options": ("egress=strict",)}, Refused, 6),
        ("kiro-apple", {"settings": '[defaults]\negress = "airgap"\n'}, Refused, 6),
        ("kiro-apple", {"driver": "qemu"}, UsageError, 2),
        ("kiro-apple", {"installer": "latest"}, UsageError, 2),
        ("kiro", {"ipsw": "a.ipsw"}, UsageError, 2),
        ("kiro", {"by_hand": True}, UsageError, 2),
        ("kiro-apple", {"arch": "x86_64", "options": ("rosetta=true",)}, UsageError, 2),
        ("kiro-macos", {"arch": "x86_64", "new": True}, HostLacks, 7),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    world: World, template: str, wishes: dict[str, object], error: type[VmkitError], code: int
) -> None:
    with pytest.raises(error) as raised:
        world.plan(template, **wishes)  # type: ignore[arg-type]

    assert raised.value.exit_code == code
    assert sorted(path.name for path in world.root.iterdir()) == ["config.toml"]


def test_the_refusal_of_a_closed_network_says_why(world: World) -> None:
    with pytest.raises(Refused) as raised:
        world.plan("kiro-apple", egress="strict")

    assert "no switch to close it" in str(raised.value.detail)
    assert "--egress open" in str(raised.value.hint)
