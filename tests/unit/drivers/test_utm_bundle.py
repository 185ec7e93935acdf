import plistlib
from pathlib import Path

import pytest

from vmkit.bundle.config import QemuConfig, decode
from vmkit.bundle.layout import Bundle
from vmkit.drivers.base import Vm
from vmkit.drivers.utm_bundle import accelerator, drop_files, find_bundle, has_files, needs_a_save, record, unlike
from vmkit.testing.bundle import UUID, idle_config, idle_machine

SAMPLES = Path(__file__).parents[2] / "data/utm-samples"


@pytest.fixture
def vm(tmp_path):
    return idle_machine(tmp_path / "idle", port=2222, sockets=tmp_path / "s")


def apple(tmp_path: Path, sample: str) -> Vm:
    bundle = tmp_path / "apple.utm"
    bundle.mkdir()
    (bundle / "config.plist").write_bytes((SAMPLES / sample).read_bytes())
    return Vm(name="apple", uuid=UUID, bundle=bundle, home=tmp_path, sockets=tmp_path / "s", backend="apple")


def test_a_bundle_is_found_by_its_uuid_whatever_it_is_called(tmp_path):
    for name, uuid in (("a.utm", UUID.replace("6", "7")), ("b-2.utm", UUID)):
        config = idle_config(port=1)
        config["Information"]["UUID"] = uuid
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.plist").write_bytes(plistlib.dumps(config))
    (tmp_path / "0.utm").mkdir()
    (tmp_path / "broken.utm").mkdir()
    (tmp_path / "broken.utm/config.plist").write_bytes(b"<plist>")

    assert find_bundle(UUID, tmp_path) == tmp_path / "b-2.utm"
    assert find_bundle("00000000-0000-0000-0000-000000000000", tmp_path) is None
    assert find_bundle(UUID, tmp_path / "none") is None


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        ({"A": 1}, {"A": 1}, []),
        ({"A": 1}, {"A": 2}, ["A: 1 was rendered, 2 is in UTM"]),
        ({"A": 1}, {"A": True}, ["A: 1 was rendered, True is in UTM"]),
        ({"A": {"B": 1}}, {"A": {}}, ["A.B: 1 was rendered, nothing is in UTM"]),
        ({"A": {}}, {"A": {"B": 1}}, ["A.B: nothing was rendered, 1 is in UTM"]),
        ({"A": [1, 2]}, {"A": [1]}, ["A: [1, 2] was rendered, [1] is in UTM"]),
        ({"A": [{"B": 1}]}, {"A": [{"B": 2}]}, ["A[0].B: 1 was rendered, 2 is in UTM"]),
        ({"A": "x"}, {"A": "\x1b[2J"}, ["A: 'x' was rendered, '\\x1b[2J' is in UTM"]),
    ],
)
def test_each_key_that_differs_is_named(wanted, found, said):
    assert unlike(wanted, found) == said


def test_what_utm_makes_for_itself_is_no_difference():
    wanted = plistlib.loads((SAMPLES / "apple-linux-uefi.plist").read_bytes())
    found = plistlib.loads((SAMPLES / "apple-linux-uefi.plist").read_bytes())
    wanted["System"].pop("GenericPlatform", None)
    wanted["System"]["Boot"].pop("EfiVariableStoragePath", None)

    assert unlike(decode(wanted).to_plist(), decode(found).to_plist()) == []
    assert unlike(decode(found).to_plist(), decode(wanted).to_plist()) != []


def test_the_record_of_a_machine_speaks_utms_words():
    config = decode(idle_config(port=2222))
    assert isinstance(config, QemuConfig)

    assert record(config) == {
        "name": "idle",
        "memory": 32,
        "cpuCores": 1,
        "architecture": "x86_64",
        "machine": "pc",
        "hypervisor": False,
        "uefi": False,
        "drives": [],
        "networkInterfaces": [
            {"mode": "emulated", "address": "52:54:00:12:34:56", "portForwards": [["127.0.0.1", 2222, 22]]}
        ],
    }


def test_our_copy_gives_up_its_disks_and_keeps_its_record(vm):
    data = Bundle(vm.bundle).data
    (data / "disk.qcow2").write_bytes(b"disk")
    (data / "folder").mkdir()
    (data / "folder/file").touch()
    (data / "link").symlink_to("/etc")

    before = has_files(vm)
    drop_files(vm)

    assert (before, has_files(vm)) == (True, False)
    assert Path("/etc").is_dir()
    assert (vm.bundle / "config.plist").is_file()


@pytest.mark.parametrize(
    ("sample", "needed"),
    [("apple-linux-uefi.plist", True), ("apple-linux-kernel.plist", False), ("apple-macos.plist", True)],
)
def test_a_save_is_needed_for_what_only_a_save_makes(tmp_path, sample, needed):
    assert needs_a_save(apple(tmp_path, sample)) is needed


def test_qemu_machines_need_no_save(vm):
    assert not needs_a_save(vm)


def test_it_is_said_what_utm_runs_a_machine_with(vm, tmp_path):
    assert accelerator(vm).startswith("tcg: ")
    assert accelerator(apple(tmp_path, "apple-macos.plist")).startswith("virtualization: ")
