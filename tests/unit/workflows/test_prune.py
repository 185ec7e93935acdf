"""Pruning frees what it has shown, and nothing that a machine or a named image needs."""

import os

import pytest

from tests.imagestore import Installation
from tests.unit.images.signing.test_referrer import attach
from vmkit.errors import NotFound, Refused, WrongState
from vmkit.host.files import Lock, own_directory
from vmkit.host.report import Silent
from vmkit.images import provenance
from vmkit.workflows.prune import Kind, delete_image, plan_prune, prune


@pytest.fixture
def world(tmp_path):
    return Installation(own_directory(tmp_path / "home"))


def plan(world, keep=None):
    return plan_prune(images=world.images, machines=world.machines, keep=keep)


def free(world, planned=None, **options):
    return prune(planned or plan(world, **options), images=world.images, machines=world.machines)


def kinds(planned):
    return [(str(item.kind), item.what) for item in planned.items]


def half_pulled(world, *, digits="ab"):
    folder = own_directory(world.paths.images / "incoming" / (digits * 32))
    (folder / "part").write_bytes(b"x" * 10_000)
    return folder


def damage(world, image):
    path = world.images.blob(image.digest)
    path.chmod(0o600)
    path.write_bytes(b"{}")


def test_an_empty_store_has_nothing_to_free_and_stays_absent(world):
    assert plan(world).items == ()
    assert not world.paths.images.exists()


def test_an_unused_disk_goes_and_comes_back_when_it_is_needed(world):
    image = world.image("kiro:1")
    before = image.disk.read_bytes()

    planned = plan(world)
    freed = free(world, planned)

    assert kinds(planned) == [("disk", "kiro:1")]
    assert freed == planned.size > 0
    assert not world.has_disk(image)
    assert world.images.get("kiro:1").disk.read_bytes() == before


def test_planning_changes_nothing(world):
    image = world.image("kiro:1")
    half_pulled(world)

    plan(world, keep=1)

    assert world.has_disk(image)
    assert (world.paths.images / "incoming").joinpath("ab" * 32).is_dir()


def test_the_disk_that_a_machine_stands_on_stays(world):
    image = world.image("kiro:1")
    world.machine("a", image)

    assert plan(world).items == ()


def test_a_machine_that_came_after_the_plan_keeps_its_disk(world):
    image = world.image("kiro:1")
    planned = plan(world)
    world.machine("a", image)

    freed = free(world, planned)

    assert freed == 0
    assert world.has_disk(image)


def test_the_disk_is_kept_when_it_could_not_be_put_together_again(world):
    image = world.image("kiro:1")
    chunk = world.images.manifest(image.digest).chunks[0].blob.digest
    world.images.blob(chunk).unlink()

    planned = plan(world)

    assert planned.items == ()
    assert "parts" in planned.kept[0]


def test_an_image_that_lost_its_name_goes_unless_a_machine_stands_on_it(world):
    old, new = world.image("kiro:stable", b"old"), world.image("kiro:2", b"new")
    world.images.tag("kiro:2", "kiro:stable", replace=True)
    machine = world.machine("a", old)
    world.machine("b", new)

    assert plan(world).items == ()

    machine.folder.joinpath("machine.json").unlink()
    machine.folder.rmdir()
    planned = plan(world)
    free(world, planned)
    assert [item.kind for item in planned.items] == [Kind.DISK, Kind.PARTS]
    assert not world.has_disk(old)
    assert not world.images.blob(old.digest).exists()
    assert world.images.get("kiro:stable").digest == new.digest


def test_what_an_image_was_made_from_stays_as_parts(world):
    base = world.image("debian:latest", b"base")
    world.machine("a", world.image("kiro:1", b"kiro", lock=provenance.Lock(base=base.digest)))
    world.image("debian:latest", b"newer base")

    free(world)

    assert not world.has_disk(base)
    assert world.images.ready(base, report=Silent()).disk.read_bytes().startswith(b"base")


def test_signatures_of_what_lost_its_name_leave_the_index(world):
    old = world.image("kiro:stable", b"old")
    attach(world.images, old)
    world.image("kiro:stable", b"new")

    free(world)

    assert world.images.index().referrers == {}
    world.image("kiro:3", b"third")  # writes the index, which names only what is there


def test_a_broken_pull_and_a_broken_build_go(world):
    world.machine("a", world.image("kiro:1"))
    pull = half_pulled(world)
    build = own_directory(world.paths.images / "staging/tmpabc")
    (build / "disk.raw").write_bytes(b"x" * 5000)
    (world.paths.images / "staging/tmpabc.lock").touch()

    planned = plan(world)
    freed = free(world, planned)

    assert kinds(planned) == [("leftover", "staging/tmpabc"), ("leftover", f"incoming/{'ab' * 32}")]
    assert freed == planned.size >= 15_000
    assert not pull.exists()
    assert not build.exists()


def test_what_somebody_works_at_stays(world):
    world.machine("a", world.image("kiro:1"))
    pull = half_pulled(world)
    other = half_pulled(world, digits="cd")

    with Lock(world.paths.images / "incoming/ab.lock").acquire("pulling"):
        planned = plan(world)
        assert kinds(planned) == [("leftover", f"incoming/{'cd' * 32}")]
    with Lock(world.paths.images / "incoming/cd.lock").acquire("pulling"):  # begun after the plan
        assert free(world, planned) == 0

    assert pull.is_dir()
    assert other.is_dir()


def test_while_a_machine_is_made_only_leftovers_go(world):
    image = world.image("kiro:1")
    half_pulled(world)

    with world.machines.lock("newcomer", "create"):
        planned = plan(world, keep=1)
        free(world, planned)

    assert [item.kind for item in planned.items] == [Kind.LEFTOVER]
    assert "newcomer" in planned.kept[0]
    assert world.has_disk(image)


def test_a_broken_machine_may_stand_on_any_image(world):
    image = world.image("kiro:1")
    machine = world.machine("a", image)
    machine.folder.joinpath("machine.json").write_text("{")

    planned = plan(world, keep=1)

    assert planned.items == ()
    assert '"a" is broken' in planned.kept[0]


def test_images_are_never_deleted_unless_asked(world):
    for number in range(5):
        world.image(f"kiro:{number}", b"%d" % number)

    free(world)

    assert len(world.names()) == 5


def test_the_newest_tags_of_each_line_are_kept_channels_and_used_ones_too(world):
    for number in range(5):
        world.image(f"kiro:{number}", b"%d" % number, created=f"2026-01-0{5 - number}T00:00:00Z")
    world.image("other:1", b"other", created="2020-01-01T00:00:00Z")
    world.images.tag("kiro:4", "kiro:stable", replace=True)
    world.machine("a", world.images.find("kiro:3"))

    planned = plan(world, keep=2)
    free(world, planned)

    assert [item.what for item in planned.items if item.kind is Kind.IMAGE] == ["kiro:2", "kiro:4"]
    assert world.names() == ["kiro:0", "kiro:1", "kiro:3", "kiro:stable", "other:1"]
    assert world.images.get("kiro:stable").disk.read_bytes()[:1] == b"4"


def test_what_only_the_deleted_images_had_goes_with_them(world):
    shared = world.image("kiro:1", b"same", b"old", created="2025-01-01T00:00:00Z")
    world.image("kiro:2", b"same", b"new")
    before = world.blobs()

    planned = plan(world, keep=1)
    freed = free(world, planned)

    assert [item.kind for item in planned.items] == [Kind.IMAGE, Kind.DISK, Kind.DISK, Kind.PARTS]
    assert freed == planned.size
    assert len(before - world.blobs()) == 3  # manifest, config, one chunk
    assert not world.images.blob(shared.digest).exists()
    assert world.images.get("kiro:2").disk.read_bytes().startswith(b"same")


def test_a_tag_that_came_after_the_plan_keeps_its_parts(world):
    world.image("kiro:1", b"old", created="2025-01-01T00:00:00Z")
    world.image("kiro:2", b"new")
    planned = plan(world, keep=1)
    world.images.tag("kiro:1", "kiro:stable", replace=True)

    free(world, planned)

    assert world.names() == ["kiro:2", "kiro:stable"]
    assert world.images.get("kiro:stable").disk.read_bytes().startswith(b"old")


def test_a_damaged_image_is_told_and_nothing_is_removed(world):
    image = world.image("kiro:1")
    damage(world, image)

    with pytest.raises(Refused, match='image "kiro:1" is damaged') as caught:
        plan(world)

    assert caught.value.hint == "vmkit image delete kiro:1"
    assert world.has_disk(image)


def test_what_a_broken_pull_shares_with_the_store_is_not_counted(world):
    image = world.image("kiro:1")
    world.machine("a", image)
    folder = own_directory(world.paths.images / "incoming" / ("ab" * 32))
    os.link(world.images.blob(image.digest), folder / "manifest")

    [item] = plan(world).items

    assert item.size == 0


def test_an_image_in_use_is_refused_by_name_of_the_machine(world):
    world.machine("a", world.image("kiro:1"))

    with pytest.raises(WrongState, match="in use") as caught:
        delete_image("kiro:1", images=world.images, machines=world.machines)

    assert caught.value.detail == "by a"
    assert world.names() == ["kiro:1"]


def test_one_in_use_by_another_tag_of_it_is_refused_when_it_is_the_last(world):
    world.machine("a", world.image("kiro:1"))
    world.images.tag("kiro:1", "kiro:stable", replace=True)

    assert delete_image("kiro:1", images=world.images, machines=world.machines) == "kiro:1"

    with pytest.raises(WrongState, match='"kiro:stable" is in use') as caught:
        delete_image("kiro:stable", images=world.images, machines=world.machines)
    assert caught.value.detail == "by a"
    assert world.images.find("kiro:stable") is not None


def test_deleting_another_image_keeps_what_a_machine_stands_on_whatever_its_name_means_now(world):
    old = world.image("kiro:stable", b"old")
    world.machine("a", old)
    world.image("kiro:stable", b"new")
    world.image("other:1", b"other")

    delete_image("other:1", images=world.images, machines=world.machines)

    assert world.images.manifest(old.digest).digest == old.digest
    assert world.images.ready(old, report=Silent()).disk.is_file()


def test_deleting_does_not_put_the_disk_together(world):
    image = world.image("kiro:1")
    free(world)

    delete_image("kiro:1", images=world.images, machines=world.machines)

    assert not world.has_disk(image)
    assert world.blobs() == set()


def test_a_damaged_image_can_be_deleted(world):
    image = world.image("kiro:1")
    damage(world, image)

    delete_image("kiro:1", images=world.images, machines=world.machines)

    assert world.names() == []
    assert world.blobs() == set()


def test_beside_a_damaged_image_a_name_is_deleted_and_no_part(world):
    damage(world, world.image("kiro:1", b"1"))
    world.image("kiro:2", b"2")
    before = world.blobs()

    delete_image("kiro:2", images=world.images, machines=world.machines)

    assert world.names() == ["kiro:1"]
    assert world.blobs() == before


def test_deleting_what_is_not_there_is_not_found(world):
    world.image("kiro:1")

    with pytest.raises(NotFound) as caught:
        delete_image("kiro:2", images=world.images, machines=world.machines)

    assert "kiro:1" in caught.value.detail


@pytest.mark.parametrize("name", ["debian-13-x86_64", "ubuntu-24.04-aarch64"])
def test_a_broken_download_goes_unless_it_is_still_coming(world, name):
    folder = own_directory(world.paths.images / "downloads" / name)
    (folder / "part").write_bytes(b"x" * 5000)

    with Lock(folder.with_suffix(f"{folder.suffix}.lock")).acquire("fetching"):  # as fetch_image names it
        assert plan(world).items == ()
    free(world)

    assert not folder.exists()
