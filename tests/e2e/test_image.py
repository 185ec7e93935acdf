"""Disks that come from elsewhere."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import Lab

pytestmark = pytest.mark.vm


def test_an_imported_disk_makes_a_uefi_machine_that_runs(lab: Lab, tmp_path: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "Blank Disk.qcow2"), "64M"], check=True)

    image = lab.json("image", "import", str(tmp_path / "Blank Disk.qcow2"))["image"]
    lab.run("create", "blank", "-t", "debian", "--image", image["name"], "--no-start")
    lab.run("start", "blank", "--no-wait")

    assert image["name"] == "blank-disk:latest"
    assert lab.state("blank") == "running"
    assert lab.json("bundle", "check", lab.json("info", "blank")["machine"]["bundle"])["loads"]
    lab.run("image", "delete", image["name"], code=4)
    lab.run("delete", "--force", "blank")
    lab.run("image", "delete", image["name"])


def test_a_disk_that_names_another_file_is_refused_and_nothing_of_it_is_read(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"canary" * 1000)
    backed = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        str(tmp_path / "secret"),
        str(tmp_path / "x.qcow2"),
    ]
    subprocess.run(backed, check=True)
    before = lab.json("image", "list")

    done = lab.run("image", "import", str(tmp_path / "x.qcow2"), code=6)

    assert b"backing file" in done.stderr
    assert lab.json("image", "list") == before
