"""The utm driver with utmsim and real QEMU: the console, the arguments that reach UTM, the life of a registration."""

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.hostile import hostile_names
from tests.mac import Mac
from vmkit.drivers.applescript import AppleScript
from vmkit.drivers.base import MachineState
from vmkit.errors import Refused, VmkitError
from vmkit.host.process import Runner
from vmkit.host.wait import Deadline, until
from vmkit.testing.bundle import idle_config, idle_machine, write_config

needs_qemu = pytest.mark.skipif(
    Runner().find("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"
)

# A boot sector that writes MESSAGE to the first serial port again and again, and sends back what it is sent.
MESSAGE = b"vmkit: ready\r\n"
PROGRAM = bytes.fromhex(
    "fa 31c0 8ed8 fc"  # cli; ds = 0; cld
    "be2a7c"  # again: si = the message
    "ac 84c0 7406 baf803 ee ebf5"  # until it ends: out 0x3f8, its letters
    "b9ffff bafd03"  # look 65535 times whether
    "ec a801 7504 e2f9 ebe3"  # something has come; else again
    "baf803 ec ee ebdc"  # send it back, and again
)


@pytest.fixture
def mac(tmp_path):
    return Mac(tmp_path)


@pytest.fixture
def talker(mac, tmp_path):
    """A running machine that talks on its serial port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    config = idle_config(port=port)
    config["Serial"] = [{"Mode": "Ptty", "Target": "Auto"}]
    config["Drive"] = [
        {
            "Identifier": "boot",
            "ImageName": "boot.img",
            "ImageType": "Disk",
            "Interface": "IDE",
            "InterfaceVersion": 1,
            "ReadOnly": False,
        }
    ]
    driver = mac.driver()
    with tempfile.TemporaryDirectory(prefix="vmkit-test-") as sockets:
        vm = idle_machine(tmp_path / "idle", port=port, sockets=Path(sockets) / "s")
        vm.home.chmod(0o700)
        write_config(vm, config)
        sector = (PROGRAM + MESSAGE).ljust(510, b"\0") + b"\x55\xaa"
        (vm.bundle / "Data/boot.img").write_bytes(sector.ljust(1 << 20, b"\0"))
        driver.add(vm)
        driver.start(vm)
        yield vm
        driver.stop(vm, timeout_s=0, force=True)


@needs_qemu
def test_what_a_guest_says_is_recorded_and_what_is_typed_reaches_it(mac, talker):
    driver = mac.driver()

    with driver.recording(talker):
        log = driver.console_log(talker)
        until(lambda _left_s: MESSAGE in log.read_bytes(), deadline=Deadline(60), what="the console", every_s=0.1)
    console = driver.open_console(talker)
    heard = bytearray()

    def types(_left_s: float) -> bool:
        os.write(console, b"%")
        heard.extend(os.read(console, 4096))
        return b"%" in heard

    until(types, deadline=Deadline(60), what="the echo", every_s=0.1)
    os.close(console)

    assert b"%" in heard
    assert driver.state(talker) == MachineState.RUNNING


@needs_qemu
def test_a_boot_begins_with_an_empty_log(mac, talker):
    driver = mac.driver()
    driver.stop(talker, timeout_s=0, force=True)
    driver.console_log(talker).write_text("vmkit: ready long ago\n")

    driver.start(talker)

    assert "long ago" not in driver.console_log(talker).read_text()


@needs_qemu
def test_a_recording_outlives_the_end_of_the_machine(mac, talker):
    driver = mac.driver()

    with driver.recording(talker):
        driver.stop(talker, timeout_s=0, force=True)
        driver.start(talker)
        log = driver.console_log(talker)
        until(lambda _left_s: MESSAGE in log.read_bytes(), deadline=Deadline(60), what="the console", every_s=0.1)

    assert MESSAGE in log.read_bytes()


@needs_qemu
def test_utm_has_the_disk_and_our_copy_the_record(mac, talker):
    [bundle] = mac.documents.iterdir()

    assert (bundle / "Data/boot.img").is_file()
    assert list((talker.bundle / "Data").iterdir()) == []
    assert (talker.bundle / "config.plist").is_file()
    assert mac.driver().facts(talker)["bundle in UTM"] == str(bundle)


@needs_qemu
def test_a_removed_machine_leaves_nothing_in_utm(mac, talker):
    driver = mac.driver()
    driver.stop(talker, timeout_s=0, force=True)

    driver.remove(talker)
    left, state = list(mac.documents.iterdir()), driver.state(talker)
    (talker.bundle / "Data/boot.img").write_bytes(b"again")
    driver.add(talker)
    driver.start(talker)

    assert (left, state) == ([], MachineState.BROKEN)


@needs_qemu
def test_an_update_keeps_what_it_does_not_name_and_drops_nothing(mac, talker):
    driver, scripts = mac.driver(), AppleScript(runner=mac)
    driver.stop(talker, timeout_s=0, force=True)
    before = scripts.configuration(talker.uuid)

    with pytest.raises(Refused, match=r"drives\[boot\]"):
        scripts.update_configuration(talker.uuid, {"drives": []})
    scripts.update_configuration(talker.uuid, {"memory": 64})
    [bundle] = mac.documents.iterdir()

    assert scripts.configuration(talker.uuid) == {**before, "memory": 64}
    assert (bundle / "Data/boot.img").is_file()
    driver.start(talker)


@needs_qemu
def test_a_copy_has_a_uuid_of_its_own(mac, talker):
    driver, scripts = mac.driver(), AppleScript(runner=mac)
    driver.stop(talker, timeout_s=0, force=True)

    copied = scripts.duplicate(talker.uuid, "a copy")
    scripts.export(copied, mac.home / "out.utm")

    assert copied != talker.uuid
    assert {entry.uuid: entry.name for entry in scripts.listing()} == {talker.uuid: "idle", copied: "a copy"}
    assert (mac.home / "out.utm/config.plist").is_file()
    driver.start(talker)


@pytest.mark.slow
def test_hostile_names_and_paths_reach_utm_as_they_are_and_do_nothing(mac, tmp_path):
    names = hostile_names(300)
    (mac.home / "here").mkdir()
    scripts = AppleScript(runner=mac)
    before = set(tmp_path.rglob("*"))

    for at in range(0, len(names), 10):
        with pytest.raises(VmkitError):  # there is no such machine
            scripts.share("6F9619FF-8B86-4D01-B42D-00CF4FC964FF", [Path("/") / name for name in names[at : at + 10]])
    for name in names[:40]:
        with pytest.raises(VmkitError):
            scripts.import_bundle(mac.home / "here" / name / "none.utm")
    said = [call["argv"] for call in mac.sim.calls()]

    assert [word for argv in said[:30] for word in argv[2:]] == [str(Path("/") / name) for name in names]
    assert [argv[-1] for argv in said[30:]] == [str(mac.home / "here" / name / "none.utm") for name in names[:40]]
    assert not list(tmp_path.rglob("*owned*"))
    assert {path for path in set(tmp_path.rglob("*")) - before if "Library" not in path.parts} <= {
        mac.sim.folder / "calls.jsonl",
        mac.sim.folder / "faults.lock",
    }


def test_what_is_run_is_what_is_shipped(mac):
    with pytest.raises(VmkitError):
        AppleScript(runner=mac).configuration("6F9619FF-8B86-4D01-B42D-00CF4FC964FF")

    [call] = mac.sim.calls()
    assert call["text"] == Path(call["script"]).read_text()
    assert subprocess.run(["git", "ls-files", "--error-unmatch", call["script"]], check=False).returncode == 0
