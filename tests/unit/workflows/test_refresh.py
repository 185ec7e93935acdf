"""Renewing images, against a fake hypervisor and fake guests, with real disks: what is taken over, noted, left behind."""

import contextlib
import dataclasses
import json

import pytest

from tests.unit.workflows.test_save import FILES, World
from vmkit.errors import NotFound, Refused, ToolFailed, WrongState
from vmkit.guest.base import Command, Outcome
from vmkit.host.report import Silent
from vmkit.host.resources import data_folder
from vmkit.host.settings import load_settings
from vmkit.images.layout import Boot
from vmkit.testing.guest import FakeGuest
from vmkit.workflows.net import policy_of
from vmkit.workflows.refresh import refresh

UPGRADE = str(
    Command("sudo", "-n", "sh", "-c", (data_folder("provision") / "refresh/upgrade.sh").read_text(), "upgrade")
)
KIRO = "a" * 64


class Said(Silent):
    """A Report that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Renewal:
    """An image `golden:1` of machine `a`, and what happens in the temporary machine."""

    def __init__(self, world: World) -> None:
        self.world, self.report = world, Said()
        (world.machine.folder / "kiro.lock").write_text(
            json.dumps({"version": "2.24.1", "sha256": KIRO, "size": 1, "file": "x"})
        )
        self.old = world.save("golden:1").image
        self.upgrade: Outcome | bytes | int = b""
        self.seen: dict[str, object] = {}

    @contextlib.contextmanager
    def bring_up(self, machine, *, machines, driver, report, timeout_s):
        lock = machine.folder / "kiro.lock"
        self.seen = {
            "machine": machine,
            "kiro": json.loads(lock.read_text()) if lock.exists() else None,
            "hosts": {rule.host for rule in policy_of(machine).rules},
        }
        driver.start(machines.vm(machine))
        with FakeGuest({UPGRADE: self.upgrade}) as guest:
            yield guest
            assert guest.ran == [UPGRADE]

    def refresh(self, reference: str = "golden:1", new: str = "2", **options):
        world = self.world
        return refresh(
            reference,
            new,
            machines=world.machines,
            images=world.images,
            driver_for=lambda _name: world.driver,
            runner=world.runner,
            settings=load_settings(world.paths.settings),
            report=self.report,
            timeout_s=1,
            bring_up=self.bring_up,
            reach_copy=world.reach,
            **options,
        )

    def machines(self) -> list[str]:
        return [machine.name for machine in self.world.machines.all()]


@pytest.fixture
def renewal(tmp_path):
    return Renewal(World(tmp_path, FILES))


def test_the_new_image_has_the_lineage_of_the_old(renewal):
    done = renewal.refresh()

    lock = renewal.world.images.manifest(done.image.digest).meta.lock
    old = renewal.world.images.manifest(renewal.old.digest).meta.lock
    assert done.image.name == "golden:2"
    assert (lock.base, lock.refreshed_from) == (renewal.world.base.digest, renewal.old.digest)
    assert (lock.template, lock.recipes, lock.kiro_version) == (old.template, old.recipes, "2.24.1")
    assert done.image.sealed
    assert done.image.virtual_bytes == renewal.old.virtual_bytes
    assert renewal.world.images.find("golden:1").digest == renewal.old.digest


def test_the_temporary_machine_is_of_the_base_and_the_recipes_and_is_removed(renewal):
    renewal.refresh()

    machine = renewal.seen["machine"]
    assert (machine.image, machine.image_digest) == ("base:1", renewal.world.base.digest)
    assert machine.recipes == ("base", "kiro-cli")
    assert machine.egress == "strict"
    assert renewal.machines() == ["a"]
    assert renewal.report.notes[-1] == f'the temporary machine "{machine.name}" is removed'
    assert renewal.world.leftovers() == []
    assert renewal.world.driver.running == {}


def test_kiro_is_the_one_of_the_lock_unless_asked_otherwise(renewal):
    renewal.refresh()
    locked = renewal.seen["kiro"]
    renewal.refresh(new="3", upgrade_kiro=True)

    assert (locked["version"], locked["sha256"]) == ("2.24.1", KIRO)
    assert renewal.seen["kiro"] is None


def test_an_upgrade_that_fails_leaves_no_machine_and_no_image(renewal):
    renewal.upgrade = Outcome(command="", code=100, stdout=b"", stderr=b"E: 404\x1b\n")

    with pytest.raises(ToolFailed) as caught:
        renewal.refresh()

    assert caught.value.detail == "E: 404^["
    assert renewal.machines() == ["a"]
    assert renewal.world.images.find("golden:2") is None
    assert "is removed" in renewal.report.notes[-1]


def test_a_recipe_that_changed_is_refused_before_any_work(renewal):
    own = renewal.world.paths.recipes / "base"
    own.mkdir(parents=True)
    (own / "recipe.toml").write_text('summary = "mine"\n[[step]]\nid = "x"\npackages = ["git"]\n')

    with pytest.raises(Refused, match="base") as caught:
        renewal.refresh()

    assert caught.value.exit_code == 6
    assert "base: was sha256:" in caught.value.detail
    assert renewal.seen == {}


def test_a_recipe_that_changed_is_taken_when_that_is_allowed(renewal):
    old = renewal.world.images.manifest(renewal.old.digest).meta.lock
    own = renewal.world.paths.recipes / "base"
    own.mkdir(parents=True)
    (own / "recipe.toml").write_text('summary = "mine"\n[[step]]\nid = "x"\npackages = ["git"]\n')

    done = renewal.refresh(allow_changed_recipes=True)

    now = renewal.world.images.manifest(done.image.digest).meta.lock
    assert dict(now.recipes)["base"] != dict(old.recipes)["base"]


@pytest.mark.parametrize("new", ["1", "golden:1", "base:1"])
def test_a_tag_that_is_taken_is_refused_before_any_work(renewal, new):
    with pytest.raises(WrongState, match="exists"):
        renewal.refresh(new=new)

    assert renewal.seen == {}


def test_another_name_may_be_given_and_a_channel_moved(renewal):
    renewal.refresh(new="other:stable")
    again = renewal.refresh("other:stable", "stable")

    assert again.image.name == "other:stable"
    assert again.to_json()["base"] == renewal.world.base.digest


def test_a_base_whose_name_means_another_image_by_now_is_found(renewal):
    world = renewal.world
    meta = world.images.manifest(world.base.digest).meta
    world.images.add(
        "base:1", disk=world.base.disk, kernel=world.base.kernel, initrd=world.base.initrd,
        meta=dataclasses.replace(meta, created="2030-01-01T00:00:00Z"), report=Silent(),
    )  # fmt: skip

    renewal.refresh()

    assert renewal.seen["machine"].image_digest == world.base.digest


def test_a_base_that_is_gone_is_told(renewal):
    images = renewal.world.images
    base = images.blob(images.digest("base:1"))
    images.delete("base:1")
    base.unlink()  # as where the image was pulled to

    with pytest.raises(NotFound, match='"golden:1" was made from is not here'):
        renewal.refresh()

    assert renewal.machines() == ["a"]


def test_an_image_without_a_lock_is_upgraded_as_it_is_and_may_reach_the_archive(renewal):
    done = renewal.refresh("base:1", "base:2")

    lock = renewal.world.images.manifest(done.image.digest).meta.lock
    assert (lock.base, lock.refreshed_from) == (renewal.world.base.digest,) * 2
    assert lock.recipes == ()
    assert "deb.debian.org" in renewal.seen["hosts"]


def test_a_built_image_is_built_again_under_the_new_tag(renewal):
    images, asked = renewal.world.images, []
    meta = dataclasses.replace(
        images.manifest(renewal.world.base.digest).meta, release="debian-13", packages=("a 1 x",)
    )
    assert meta.boot is Boot.DIRECT
    files = {name: getattr(renewal.world.base, name) for name in ("disk", "kernel", "initrd")}
    built = images.add("mine:1", **files, meta=meta, report=Silent())

    def build(release, *, store, reference, again, refreshed_from, **_):
        asked.append((release, reference, again, refreshed_from))
        return store.add(reference, **files, meta=dataclasses.replace(meta, packages=("a 2 x",)), report=Silent())

    done = renewal.refresh("mine:1", "2", build=build)

    assert asked == [("debian-13", "mine:2", True, built.digest)]
    assert (done.image.name, done.packages_changed, done.saved) == ("mine:2", 1, None)
    assert renewal.seen == {}
