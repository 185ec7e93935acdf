"""Saving, against a fake hypervisor and a fake guest, with real disks: what is stored, refused, and left behind."""

import contextlib
import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.ext4 import make_ext4, require_programs
from vmkit.bundle.layout import LOGIN_NAME, Bundle
from vmkit.drivers.base import MachineState
from vmkit.errors import Busy, HostLacks, Refused, TimedOut, ToolFailed, UsageError, WrongState
from vmkit.guest.base import Command
from vmkit.host.files import own_directory
from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.host.resources import data_folder
from vmkit.host.settings import load_settings
from vmkit.images.layout import Boot, ImageMeta, now
from vmkit.images.secrets.rules import VERSION
from vmkit.images.store import ImageStore
from vmkit.machines.store import MachineStore, Unfinished, write_journal
from vmkit.network.policy import Mode, Policy, Rule, save_policy
from vmkit.testing.driver import FakeDriver
from vmkit.testing.guest import FakeGuest
from vmkit.workflows.create import create
from vmkit.workflows.net import policy_of
from vmkit.workflows.plan import Wishes, make_plan
from vmkit.workflows.save import save
from vmkit.workflows.trial_copy import end_orphans, guest_of, trial_copy

AWS_ID = ("AK" + "IAQRSTUVWXYZ234567").encode()  # taken apart, lest other scanners take this for a leak
PACKAGES = str(Command("dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\\n"))
SOURCES = str(Command("dpkg-query", "-W", "-f", "${Package} ${Version} ${source:Package} ${source:Version}\\n"))


def script(folder: str, *names: str) -> str:
    return "".join((data_folder("provision") / folder / name).read_text() for name in names)


OPEN = str(Command("sudo", "-n", "sh", "-c", script("closed-network", "apply.sh"), "closed-network", "open"))
CLEAN = str(Command("sudo", "-n", "sh", "-c", script("generalise", "clean.sh", "finish.sh"), "generalise"))


class World:
    """One machine, made of an image with these files, and how its copy's guest answers."""

    def __init__(self, folder: Path, files: dict[str, bytes], deleted: tuple[str, ...] = ()) -> None:
        require_programs("qemu-img")
        self.paths = Paths(config=folder / "config", data=folder / "data", cache=folder / "cache")
        own_directory(self.paths.data)
        self.machines, self.images = MachineStore(self.paths), ImageStore(self.paths.images)
        self.driver, self.runner = FakeDriver(), Runner()
        self.answers = {OPEN: b"", PACKAGES: b"git 1:2.47-1 amd64\nnonsense \x1b line\n", CLEAN: b"sealed\n"}
        self.answers[SOURCES] = b"git 1:2.47-1 git 1:2.47-1\nlibssl3 3.5.1-1+b1 openssl 3.5.1-1\n"
        self.copies: list[object] = []
        raw = make_ext4(folder / "base.raw", files, deleted=deleted)
        for name in ("kernel", "initrd"):
            (folder / name).write_bytes(name.encode())
        meta = ImageMeta(arch="x86_64", boot=Boot.DIRECT, user="agent", created=now(), kernel_arguments="root=/dev/vda")
        self.base = self.images.add(
            "base:1", disk=raw, kernel=folder / "kernel", initrd=folder / "initrd", meta=meta, report=Silent()
        )
        self.machine = self.create("a", image="base:1", egress="airgap")

    def create(self, name: str, **wishes: str):
        plan = make_plan(
            Wishes(name=name, template="kiro", disk="1G", driver="qemu", **wishes),
            settings=load_settings(self.paths.config / "none"),
            machines=self.machines,
            images=self.images,
            host_arch="x86_64",
        )
        create(
            plan,
            machines=self.machines,
            images=self.images,
            driver=self.driver,
            runner=self.runner,
            report=Silent(),
            timeout_s=1,
            start=False,
        )
        return self.machines.open(name)

    @contextlib.contextmanager
    def reach(self, copy, *, machines, driver, report, timeout_s):
        self.copies.append(copy)
        driver.start(machines.vm(copy.machine))
        with FakeGuest(self.answers) as guest:
            yield guest

    def save(self, reference: str = "golden:1", **options):
        return save(
            self.machine,
            reference,
            machines=self.machines,
            images=self.images,
            driver=self.driver,
            runner=self.runner,
            timeout_s=1,
            **{"report": Silent(), "reach": self.reach, **options},
        )

    def snapshot(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.machine.folder.rglob("*") if path.is_file()}

    def leftovers(self) -> list[Path]:
        roots = (self.paths.data / "copies", self.paths.images / "staging", self.paths.data / "run")
        return [path for root in roots if root.exists() for path in root.iterdir() if path.name != "guard"]


FILES = {"etc/os-release": b"ID=debian\n", "home/agent/work": b"w" * 100_000}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, FILES)


def test_a_saved_machine_is_an_image_with_its_lock_and_its_seal(world):
    (world.machine.folder / "kiro.lock").write_text(json.dumps({"version": "2.24.1", "sha256": "a" * 64, "size": 1}))

    saved = world.save()

    meta = world.images.manifest(saved.image.digest).meta
    assert saved.image.sealed
    assert meta.seal.rules == VERSION
    assert meta.seal.scanned_bytes == saved.scanned_bytes > 0
    assert meta.lock.base == world.base.digest
    assert (meta.lock.kiro_version, meta.lock.kiro_digest) == ("2.24.1", "sha256:" + "a" * 64)
    assert [name for name, _ in meta.lock.recipes] == ["base", "kiro-cli"]
    assert meta.lock.template == "kiro"
    assert meta.packages == ("git 1:2.47-1 amd64",)
    assert meta.sources == ("libssl3 openssl 3.5.1-1",)
    assert (meta.boot, meta.kernel_arguments, meta.user) == (Boot.DIRECT, "root=/dev/vda", "agent")


def test_the_image_has_the_machines_disk_kernel_and_initrd(world):
    saved = world.save()

    assert saved.image.virtual_bytes == world.machine.disk_bytes
    assert b"w" * 100_000 in saved.image.disk.read_bytes()[: 64 << 20]
    assert (saved.image.kernel.read_bytes(), saved.image.initrd.read_bytes()) == (b"kernel", b"initrd")


def test_a_machine_of_the_image_reaches_no_more_than_the_saved_one(world):
    save_policy(world.machine.policy, Policy(mode=Mode.STRICT, rules=(Rule(host="pypi.org"),), denied=("x.example",)))
    world.machine = dataclasses.replace(world.machine, egress="strict")
    world.save()

    made = world.create("b", image="golden:1", egress="open")

    assert made.egress == "strict"
    policy = policy_of(made)
    assert ([rule.host for rule in policy.rules], policy.denied) == (["pypi.org"], ("x.example",))


def test_the_machine_stays_as_it_was_and_nothing_else_is_left(world):
    before = world.snapshot()

    world.save()

    assert world.snapshot() == before
    assert world.leftovers() == []
    assert world.driver.running == {}


def test_the_copy_has_an_identity_of_its_own_no_network_and_no_login(world):
    seen = {}

    @contextlib.contextmanager
    def look(copy, **options):
        config = Bundle(copy.machine.bundle).read()
        seen["uuid"] = (copy.machine.uuid, config.information.uuid)
        seen["macs"] = {network.mac_address for network in config.network}
        seen["isolated"] = all(network.isolate_from_host for network in config.network)
        seen["drives"] = {drive.identifier for drive in config.drive}
        seen["files"] = {path.name for path in Bundle(copy.machine.bundle).data.iterdir()}
        seen["keys"] = copy.keys.user_public
        with world.reach(copy, **options) as guest:
            yield guest

    world.save(reach=look)

    own = Bundle(world.machine.bundle).read()
    assert seen["uuid"][0] == seen["uuid"][1] != world.machine.uuid
    assert seen["macs"].isdisjoint(network.mac_address for network in own.network)
    assert seen["isolated"]
    assert "login" not in seen["drives"]
    assert LOGIN_NAME not in seen["files"]
    assert seen["keys"] != (world.machine.keys / "user_key.pub").read_text().strip()


def test_a_secret_refuses_the_image_and_is_named_but_not_shown(tmp_path):
    world = World(tmp_path, FILES | {"home/agent/.env": b"\n" + AWS_ID + b"\n"})

    with pytest.raises(Refused) as caught:
        world.save()

    assert caught.value.exit_code == 6
    assert "/home/agent/.env: an AWS access key (aws-id, offset " in caught.value.detail
    assert AWS_ID.decode() not in f"{caught.value.message}{caught.value.detail}{caught.value.hint}"
    assert world.images.find("golden:1") is None
    assert world.leftovers() == []


def test_what_was_deleted_is_not_in_the_image(tmp_path):
    world = World(tmp_path, FILES | {"gone": b"g" * 9000 + b"\n" + AWS_ID + b"\n"}, deleted=("gone",))

    saved = world.save(wipe=True)

    assert saved.zeroed_bytes > 0
    assert AWS_ID not in saved.image.disk.read_bytes()[: 64 << 20]


@pytest.mark.parametrize("name", ["user_key", "host_key", "user_key.pub"])
def test_the_machines_own_keys_are_found_wherever_they_lie(tmp_path, name):
    world = World(tmp_path, FILES)
    content = (world.machine.keys / name).read_bytes()
    bare = b"\0" + content.replace(b"-----", b"") + b"\0"  # nothing says what it is
    raw = make_ext4(tmp_path / "other.raw", FILES | {"var/lib/x": bare})
    [disk] = [path for path in Bundle(world.machine.bundle).data.glob("*.qcow2") if path.name != LOGIN_NAME]
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)]
    subprocess.run(argv, check=True, timeout=60)

    with pytest.raises(Refused) as caught:
        world.save()

    assert "the machine's" in caught.value.detail
    assert "/var/lib/x" in caught.value.detail


def test_without_a_seal_what_is_found_is_told(tmp_path):
    world = World(tmp_path, FILES | {"home/agent/.env": b"\n" + AWS_ID + b"\n"})

    saved = world.save(seal=False)

    assert len(saved.findings) == 1
    assert not saved.image.sealed
    assert world.images.manifest(saved.image.digest).meta.seal is None


def test_a_tag_is_not_moved_unless_it_is_a_channel(world):
    world.save("golden:1.0")
    world.save("golden:stable")

    with pytest.raises(WrongState, match="exists"):
        world.save("golden:1.0")
    world.save("golden:stable")


def test_an_image_needs_a_tag(world):
    with pytest.raises(UsageError, match="a tag"):
        world.save("golden")


def test_a_machine_that_runs_is_stopped_meanwhile_and_runs_again(world):
    vm = world.machines.vm(world.machine)
    world.driver.start(vm)
    seen = []

    @contextlib.contextmanager
    def reach(copy, **options):
        seen.append(world.driver.state(vm))
        with world.reach(copy, **options) as guest:
            yield guest

    world.save(reach=reach)

    assert (seen, world.driver.state(vm)) == ([MachineState.STOPPED], MachineState.RUNNING)


def test_a_machine_that_is_unfinished_is_not_saved(world):
    write_journal(world.machine.folder, Unfinished(operation="create", phase="boot"))

    with pytest.raises(WrongState, match="unfinished"):
        world.save()


def test_a_machine_that_is_being_changed_is_busy(world):
    with world.machines.lock("a", "start"), pytest.raises(Busy):
        world.save()


def test_where_disks_have_no_children_nothing_is_saved(world):
    world.driver.bundle_only = True

    with pytest.raises(HostLacks, match="cannot be copied"):
        world.save()


@pytest.mark.parametrize("answer", [b"", b"sealed\nno", 48])
def test_a_guest_that_is_not_clean_is_not_saved(world, answer):
    world.answers[CLEAN] = answer

    with pytest.raises(ToolFailed, match="could not be generalised"):
        world.save()

    assert world.leftovers() == []
    assert world.driver.running == {}


def test_a_recipe_has_its_own_traces_taken_out_first(world):
    recipe = world.paths.recipes / "mine"
    recipe.mkdir(parents=True)
    (recipe / "recipe.toml").write_text('summary = "x"\ngeneralise = "clean.sh"\n')
    (recipe / "clean.sh").write_text("rm -f /etc/mine.token\n")
    world.machine = dataclasses.replace(world.machine, recipes=("mine",))
    run = 'exec sudo -n env VMKIT_USER="$1" VMKIT_HOME="$HOME" sh -c "$2"'
    own = str(Command("sh", "-c", run, "generalise", "agent", "rm -f /etc/mine.token\n"))
    world.answers = {own: b"", **world.answers}

    world.save()
    world.answers[own] = 1

    with pytest.raises(ToolFailed, match='recipe "mine"'):
        world.save("golden:2")


def test_a_copy_that_does_not_boot_leaves_nothing(world):
    @contextlib.contextmanager
    def never(copy, *, machines, driver, **_):
        driver.start(machines.vm(copy.machine))
        raise TimedOut("the guest was not ready")
        yield

    with pytest.raises(TimedOut):
        world.save(reach=never)

    assert world.leftovers() == []
    assert world.driver.running == {}


def test_a_file_system_that_was_not_put_away_is_not_saved(tmp_path):
    world = World(tmp_path, FILES)
    raw = make_ext4(tmp_path / "other.raw", FILES)
    with raw.open("r+b") as file:
        file.seek(1024 + 0x3A)
        file.write(b"\0\0")
    [disk] = [path for path in Bundle(world.machine.bundle).data.glob("*.qcow2") if path.name != LOGIN_NAME]
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)], check=True, timeout=60)

    with pytest.raises(ToolFailed, match="cleanly"):
        world.save()


def test_a_copy_whose_vmkit_was_killed_is_ended_by_the_next(world):
    child = os.fork()
    if child == 0:  # what a kill -9 leaves: folder, lock file, and a machine that runs on
        with trial_copy(world.machine, machines=world.machines, driver=world.driver, runner=world.runner):
            os._exit(0)
    os.waitpid(child, 0)
    [folder] = [path.parent for path in (world.paths.data / "copies").glob("*/machine.json")]
    record = json.loads((folder / "machine.json").read_text())
    orphan = dataclasses.replace(world.machine, name="copy", uuid=record["uuid"], folder=folder)
    world.driver.start(world.machines.vm(orphan))

    end_orphans(machines=world.machines, driver=world.driver)
    world.save()

    assert world.driver.running == {}
    assert world.leftovers() == []


def test_the_copys_guest_is_reached_or_its_death_is_told(world):
    with trial_copy(world.machine, machines=world.machines, driver=world.driver, runner=world.runner) as copy:
        world.driver.spoil(world.machines.vm(copy.machine), "no such device")

        with (
            pytest.raises(ToolFailed) as caught,
            guest_of(copy, machines=world.machines, driver=world.driver, report=Silent(), timeout_s=1),
        ):
            pass

    assert caught.value.detail == "no such device"
