"""Our header reader and the real qemu-img agree: on what is taken, and that what we refuse would have done harm."""

import random
import shutil

import pytest

from vmkit.errors import Refused, UsageError
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.images.disk import create_overlay, create_standalone, flatten, measure, read_info
from vmkit.images.importer import import_image
from vmkit.images.qcow2 import read_header
from vmkit.images.store import ImageStore

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")
RUNNER = Runner()
SIZE = 64 << 20


def qemu_img(*words: object) -> None:
    RUNNER.run(["qemu-img", *(str(word) for word in words)])


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "source.raw"
    with path.open("wb") as file:
        file.write(random.Random(1).randbytes(1 << 20))
        file.truncate(SIZE)
    return path


@pytest.mark.parametrize(
    "options", ["compat=v3", "compat=0.10", "cluster_size=512", "cluster_size=2M", "compat=v3,lazy_refcounts=on"]
)
def test_what_qemu_img_makes_is_read(tmp_path, raw, options):
    disk = tmp_path / "disk.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, disk)

    assert read_header(disk).virtual_bytes == SIZE


@pytest.mark.parametrize("options", ["data_file=DATA", "extended_l2=on", "refcount_bits=1", "compression_type=zstd"])
def test_what_needs_more_than_we_allow_is_refused(tmp_path, options):
    disk = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", options.replace("DATA", str(tmp_path / "data")), disk, SIZE)

    with pytest.raises(Refused):
        read_header(disk)


def test_a_child_or_a_disk_with_snapshots_is_refused(tmp_path, raw):
    child, snapped = tmp_path / "child.qcow2", tmp_path / "snapped.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", raw, child)
    qemu_img("create", "-f", "qcow2", snapped, SIZE)
    qemu_img("snapshot", "-c", "one", snapped)

    with pytest.raises(Refused, match="backing file"):
        read_header(child)
    with pytest.raises(Refused, match="snapshots"):
        read_header(snapped)


def test_an_overlay_grows_and_reads_as_its_base(tmp_path, raw):
    overlay, flat = tmp_path / "deep/er/overlay.qcow2", tmp_path / "flat.raw"
    overlay.parent.mkdir(parents=True)

    create_overlay(raw, base_format="raw", target=overlay, size_bytes=2 * SIZE, runner=RUNNER)
    flatten(overlay, source_format="qcow2", target=flat, runner=RUNNER, report=Silent())

    assert flat.stat().st_size == 2 * SIZE
    assert flat.read_bytes()[:SIZE] == raw.read_bytes()
    assert flat.stat().st_blocks * 512 < 4 << 20


def test_an_imported_qcow2_is_the_same_disk(tmp_path, raw):
    disk = tmp_path / "disk.qcow2"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", raw, disk)

    image = import_image(disk, "mine", store=ImageStore(tmp_path / "images"), runner=RUNNER, report=Silent())

    assert image.disk.read_bytes() == raw.read_bytes()
    assert (image.boot, image.kernel) == ("uefi", None)
    assert read_info(disk, source_format="qcow2", runner=RUNNER).virtual_bytes == SIZE
    assert measure(disk, source_format="qcow2", runner=RUNNER) < SIZE


def test_a_disk_that_lies_about_its_backing_file_leaks_nothing(tmp_path, raw):
    evil = tmp_path / "evil.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", raw, evil)
    store = ImageStore(tmp_path / "images")

    with pytest.raises(Refused):
        import_image(evil, "mine", store=store, runner=RUNNER, report=Silent())

    assert store.list() == ()


def test_a_standalone_disk_holds_its_image_needs_no_other_file_and_is_as_large_as_asked(tmp_path, raw):
    disk = tmp_path / "disk.qcow2"

    create_standalone(raw, target=disk, size_bytes=2 * SIZE, runner=RUNNER)
    flatten(disk, source_format="qcow2", target=tmp_path / "again.raw", runner=RUNNER, report=Silent())

    assert read_header(disk).virtual_bytes == 2 * SIZE
    assert (tmp_path / "again.raw").read_bytes()[:SIZE] == raw.read_bytes()


def test_a_standalone_disk_smaller_than_its_image_is_refused(tmp_path, raw):
    with pytest.raises(UsageError, match="smaller"):
        create_standalone(raw, target=tmp_path / "disk.qcow2", size_bytes=SIZE - 4096, runner=RUNNER)

    assert not (tmp_path / "disk.qcow2").exists()
