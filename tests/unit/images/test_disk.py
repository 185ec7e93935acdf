"""What is asked of qemu-img."""

import json
from pathlib import Path

import pytest

from vmkit.errors import NotFound, Refused, UsageError
from vmkit.host.process import Completed, Runner
from vmkit.host.report import Silent
from vmkit.images.disk import create_overlay, flatten, read_info
from vmkit.images.importer import import_image
from vmkit.images.store import ImageStore


class QemuImg(Runner):
    """Answers `info` with what a test says, and keeps what it was asked."""

    def __init__(self, **info: object) -> None:
        self.info, self.argv = {"format": "raw", "virtual-size": 4096} | info, []

    def find(self, program: str) -> Path | None:
        return Path("/usr/bin") / program

    def run(self, argv, **_: object) -> Completed:
        self.argv.append(list(argv))
        return Completed(argv=tuple(argv), code=0, stdout=json.dumps(self.info | {"required": 1}).encode(), stderr=b"")


def raw(path: Path, size: int = 4096) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a" * size)
    return path


def test_an_overlay_names_both_formats_and_a_relative_base(tmp_path):
    runner = QemuImg()
    base = raw(tmp_path / "images/assembled/d/disk.raw")
    target = tmp_path / "machines/m/m.utm/Data/disk.qcow2"
    target.parent.mkdir(parents=True)

    create_overlay(base, base_format="raw", target=target, size_bytes=8192, runner=runner)

    [argv] = runner.argv
    assert argv[:7] == ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
    assert argv[7:] == ["-b", "../../../../images/assembled/d/disk.raw", str(target), "8192"]


def test_a_base_beside_its_overlay_is_not_taken_for_a_protocol(tmp_path):
    runner = QemuImg()
    base = raw(tmp_path / "nbd:evil")

    create_overlay(base, base_format="raw", target=tmp_path / "disk.qcow2", size_bytes=4096, runner=runner)

    assert runner.argv[0][8] == "./nbd:evil"


def test_a_disk_smaller_than_its_image_is_a_usage_error(tmp_path):
    runner = QemuImg()

    with pytest.raises(UsageError, match="smaller than its image"):
        create_overlay(
            raw(tmp_path / "disk.raw"), base_format="raw", target=tmp_path / "t", size_bytes=4095, runner=runner
        )
    assert runner.argv == []


@pytest.mark.parametrize(
    "info",
    [
        {"backing-filename": "/etc/shadow"},
        {"encrypted": True},
        {"format-specific": {"data": {"data-file": "/etc/shadow"}}},
    ],
)
def test_a_disk_that_refers_elsewhere_is_refused(tmp_path, info):
    with pytest.raises(Refused):
        read_info(raw(tmp_path / "disk"), source_format="qcow2", runner=QemuImg(**info))


def test_a_disk_larger_than_allowed_is_not_copied(tmp_path):
    runner = QemuImg(**{"virtual-size": 1 << 40})

    with pytest.raises(Refused, match="more than"):
        flatten(
            raw(tmp_path / "disk"),
            source_format="raw",
            target=tmp_path / "out",
            runner=runner,
            report=Silent(),
            max_bytes=1 << 30,
        )
    assert not [argv for argv in runner.argv if "convert" in argv]


def test_copying_is_bounded_in_memory_and_size(tmp_path):
    runner = QemuImg()

    flatten(raw(tmp_path / "disk"), source_format="raw", target=tmp_path / "out", runner=runner, report=Silent())

    [argv] = [argv for argv in runner.argv if "convert" in argv]
    assert "--fsize=4096" in argv
    assert [word for word in argv if word.startswith("--as=")]
    assert argv[argv.index("-f") + 1] == "raw"


def imported(file: Path, store: Path, runner: Runner, **options):
    return import_image(file, "mine", store=ImageStore(store), runner=runner, report=Silent(), **options)


def test_importing_a_file_both_do_not_read_alike_is_refused(tmp_path):
    with pytest.raises(Refused, match="alike"):
        imported(raw(tmp_path / "disk"), tmp_path / "images", QemuImg(format="qcow2"))


@pytest.mark.parametrize("size", [0, 100])
def test_importing_a_part_of_a_disk_is_refused(tmp_path, size):
    with pytest.raises(Refused, match="raw disk"):
        imported(raw(tmp_path / "disk", size), tmp_path / "images", QemuImg())


def test_importing_nothing_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        imported(tmp_path / "none", tmp_path / "images", QemuImg())


@pytest.mark.parametrize("boot", ["direct", "network"])
def test_importing_for_another_way_to_boot_is_a_usage_error(tmp_path, boot):
    with pytest.raises(UsageError, match="cannot boot by"):
        imported(raw(tmp_path / "disk"), tmp_path / "images", QemuImg(), boot=boot)
