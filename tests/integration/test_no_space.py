"""The disk is full in the middle of saving, pulling and cloning: told as such, nothing changed, and done when it is not.

The first look at the free space passes: the space ends while the work is done.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.smalldisk import SmallDisk
from tests.unit.workflows.test_save import FILES, World
from vmkit.cli.run import _worded
from vmkit.errors import VmkitError
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.host.settings import Settings, load_settings
from vmkit.images.layout import Boot, ImageMeta
from vmkit.images.store import ImageStore
from vmkit.workflows.create import create
from vmkit.workflows.delete import delete
from vmkit.workflows.plan import Wishes, make_plan
from vmkit.workflows.transfer import pull_image, push_image

PAGE = 4096


class Filling(Silent):
    """A report that fills the disk when a phase begins."""

    def __init__(self, disk: SmallDisk, phase: str, *, leaving: int = 0) -> None:
        self.disk, self.wanted, self.leaving = disk, phase, leaving
        self.filled = False

    @contextlib.contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        if name == self.wanted:
            self.filled = True
            self.disk.fill(leaving=self.leaving)
        yield


class FillingRunner(Runner):
    """Fills the disk before a program that has the word `wanted` in its line is run."""

    def __init__(self, disk: SmallDisk, wanted: str, *, leaving: int = 0) -> None:
        super().__init__()
        self.disk, self.wanted, self.leaving = disk, wanted, leaving
        self.filled = False

    def run(self, argv, **options):
        if self.wanted in argv and not self.filled:
            self.filled = True
            self.disk.fill(leaving=self.leaving)
        return super().run(argv, **options)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "data")
    yield made
    made.unmount()


@pytest.fixture
def world(disk: SmallDisk, tmp_path: Path) -> World:
    """A machine "a" and its image on a file system that can be filled."""
    return World(tmp_path, FILES)


def listing(root: Path) -> dict[str, str]:
    """Return every file with its digest, and every folder but those of what is under way, which a pull goes on from."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "/"
        for path in root.rglob("*")
        if path.suffix != ".lock"
        and not {"guard", "locks", "staging", "incoming", "copies", "run"} & set(path.relative_to(root).parts)
    }


def under_way(root: Path) -> list[Path]:
    return [
        path
        for folder in ("staging", "images/staging", "copies")
        for path in (root / folder).glob("*")
        if path.name != "guard"
    ]


def told(work: Callable[[], object]) -> VmkitError | None:
    """Do what may fail, and return its error as the command line tells it."""
    try:
        work()
    except VmkitError as error:
        return error
    except OSError as error:
        return _worded(error)
    return None


def refused_for_space(work: Callable[[], object]) -> VmkitError:
    error = told(work)
    assert error is not None
    assert (error.exit_code, error.message[:16]) == (7, "no space is left"), (error.message, error.detail)
    return error


def clone(world: World, name: str, image: str, *, report: Silent | None = None, runner: Runner | None = None) -> None:
    wishes = Wishes(name=name, template="kiro", image=image, disk="1G", driver="qemu", egress="airgap")
    stores = {"machines": world.machines, "images": world.images}
    plan = make_plan(wishes, settings=load_settings(world.paths.config / "none"), host_arch="x86_64", **stores)
    tools = {"driver": world.driver, "runner": runner or world.runner, "report": report or Silent()}
    create(plan, timeout_s=1, start=False, **stores, **tools)


def require_usable(world: World) -> None:
    """See that the other machine and its image are what they were: a machine can be made of one, the other saved."""
    clone(world, "other", "base:1")
    world.save("other:1")
    vm = world.machines.vm(world.machines.open("a"))
    world.driver.start(vm)
    world.driver.stop(vm, timeout_s=0, force=True)


@pytest.mark.parametrize(
    ("step", "leaving"),
    [("create", 0), ("create", 10 * PAGE), ("convert", 0), ("convert", 20 * PAGE), ("chunk", 0), ("chunk", 5 * PAGE)],
)
def test_a_save_changes_nothing_and_can_be_done_again(world, disk, step, leaving):
    """When its copy gets a disk, when that is flattened, when it is cut into chunks."""
    before = listing(disk.path)
    report, own = Filling(disk, step, leaving=leaving), world.runner
    world.runner = FillingRunner(disk, step, leaving=leaving)

    refused_for_space(lambda: world.save("golden:1", report=report))

    assert report.filled or world.runner.filled
    assert listing(disk.path) == before
    assert under_way(disk.path) == []
    assert world.driver.running == {}
    assert [image.name for image in world.images.list()] == ["base:1"]  # it can be read while the disk is full
    disk.free()
    world.runner = own
    assert world.save("golden:1").image.name == "golden:1"
    require_usable(world)


def small_image(folder: Path, store: ImageStore, name: str, letter: bytes, report: Silent) -> None:
    raw, kernel = folder / f"{letter.hex()}.raw", folder / "kernel"
    raw.write_bytes(letter * 9000 + bytes((4 << 20) - 9000) + letter * 512)
    kernel.write_bytes(letter)  # nothing that the other image has: what is replaced gives its space back
    meta = ImageMeta(arch="x86_64", boot=Boot.DIRECT, user="agent", created="2026-01-02T03:04:05Z")
    store.add(name, disk=raw, kernel=kernel, meta=meta, report=report)


@pytest.mark.parametrize("phase", ["chunk", "pull"])
def test_at_whatever_page_the_space_ends_an_image_is_there_or_not(disk, tmp_path, phase):
    """One page more each time, until it is enough: adding ends in all its steps, the index among them."""
    here, there = ImageStore(disk.path / "images"), ImageStore(tmp_path / "images")
    small_image(tmp_path, here, "old:1", b"o", Silent())
    small_image(tmp_path, there, "new:1", b"n", Silent())
    stick = f"oci-dir:{tmp_path / 'stick'}"
    push_image("new:1", stick, images=there, settings=Settings(), runner=Runner(), report=Silent(), seal=False)
    before = listing(disk.path)

    def work(report: Silent) -> None:
        if phase == "chunk":
            small_image(tmp_path, here, "new:1", b"n", report)
        else:
            pull_image(f"{stick}:new:1", None, images=here, settings=Settings(), runner=Runner(), report=report)

    failures = 0
    for pages in range(100):
        report = Filling(disk, phase, leaving=pages * PAGE)
        error = told(partial(work, report))
        assert report.filled
        if error is None:
            break
        failures += 1
        assert (error.exit_code, error.message[:16]) == (7, "no space is left"), (error.message, error.detail)
        assert listing(disk.path) == before, f"{pages} pages"
        disk.free()

    assert failures >= {"chunk": 6, "pull": 6}[phase]
    disk.free()
    work(Silent())
    assert here.get("new:1").disk.read_bytes() == there.get("new:1").disk.read_bytes()
    assert {key: value for key, value in listing(disk.path).items() if key in before and "index" not in key} == {
        key: value for key, value in before.items() if "index" not in key
    }


def test_a_pull_goes_on_from_what_has_come(disk, tmp_path):
    here, there = ImageStore(disk.path / "images"), ImageStore(tmp_path / "images")
    small_image(tmp_path, there, "new:1", b"n", Silent())
    stick = f"oci-dir:{tmp_path / 'stick'}"
    push_image("new:1", stick, images=there, settings=Settings(), runner=Runner(), report=Silent(), seal=False)
    given = {"images": here, "settings": Settings(), "runner": Runner()}

    error = refused_for_space(
        lambda: pull_image(f"{stick}:new:1", None, report=Filling(disk, "pull", leaving=PAGE), **given)
    )
    disk.free()
    image, moved = pull_image(f"{stick}:new:1", None, report=Silent(), **given)

    assert "the same command goes on" in error.hint
    assert moved.kept_parts > 0
    assert image.disk.read_bytes() == there.get("new:1").disk.read_bytes()


@pytest.mark.parametrize(
    ("step", "leaving"), [("assemble", 0), ("assemble", 3 * PAGE), ("create", 0), ("create", 10 * PAGE)]
)
def test_a_clone_that_fails_is_no_machine_and_can_be_made_again(world, disk, step, leaving):
    """When the image's disk is put together, when the machine gets its own."""
    world.save("golden:1")
    shutil.rmtree(disk.path / "images/assembled" / world.images.digest("golden:1")[7:])
    before = listing(disk.path)
    report, runner = Filling(disk, step, leaving=leaving), FillingRunner(disk, step, leaving=leaving)

    refused_for_space(lambda: clone(world, "b", "golden:1", report=report, runner=runner))

    assert report.filled or runner.filled
    assert not world.machines.exists("b")
    assert under_way(disk.path) == []
    kept = {key: value for key, value in listing(disk.path).items() if key in before}
    assert kept == before
    disk.free()
    clone(world, "b", "golden:1")
    assert world.machines.open("b").image == "golden:1"
    require_usable(world)


def test_on_a_full_disk_machines_and_images_can_be_deleted(world, disk):
    """How else would anybody get out of this?"""
    world.save("golden:1")
    disk.fill()

    world.images.delete("golden:1")
    disk.fill()
    delete("a", machines=world.machines, driver_for=lambda _: world.driver, report=Silent())

    assert [image.name for image in world.images.list()] == ["base:1"]
    assert not world.machines.exists("a")
