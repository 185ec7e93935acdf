"""utmsim by itself: machines under real QEMU (no guest), the Apple backend, and every fault it plays."""

import json
import os
import plistlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.utmsim.config import files
from tests.utmsim.mac import UUID, Mac, qemu_config, simulated_mac, write_bundle

needs_qemu = pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed")
DATA = Path(__file__).parents[1] / "data"
HEADER = "UUID                                 Status   Name"
DISK = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def mac(tmp_path):
    with simulated_mac(tmp_path) as mac:
        yield mac


@pytest.fixture
def idle(mac, tmp_path):
    return mac.add(write_bundle(tmp_path / "ours", qemu_config()))


# Real QEMU


@needs_qemu
def test_an_idle_machine_is_started_paused_resumed_and_stopped(mac, idle):
    started = mac.utmctl("start", UUID)
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    assert mac.status() == "started"
    assert "Operation not available." in mac.utmctl("start", UUID).stderr
    terminal = mac.utmctl("attach", UUID).stdout.splitlines()
    assert terminal[0].startswith("WARNING")
    assert terminal[1].startswith("PTTY: /dev/")
    assert "must be stopped" in mac.utmctl("delete", UUID).stderr
    assert "must be stopped" in mac.osascript("update_configuration.js", UUID, "{}").stderr

    mac.utmctl("suspend", UUID)
    assert mac.status() == "paused"
    assert "not running" in mac.utmctl("stop", UUID).stderr
    assert mac.status() == "paused"
    mac.utmctl("start", UUID)
    assert mac.status() == "started"

    mac.utmctl("stop", UUID)
    assert mac.status() == "stopped"


def qemu_process(mac: Mac) -> int:
    registry = mac.home / "Library/Containers/com.utmapp.UTM/Data/Library/Preferences/com.utmapp.UTM.json"
    return json.loads(registry.read_text())[0]["pid"]


@needs_qemu
def test_a_paused_machine_can_be_killed_and_a_dead_one_is_stopped(mac, idle):
    mac.utmctl("start", UUID)
    mac.utmctl("suspend", UUID)
    mac.utmctl("stop", UUID, "--kill")
    assert mac.status() == "stopped"

    mac.utmctl("start", UUID)
    os.kill(qemu_process(mac), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while mac.status() != "stopped":
        assert time.monotonic() < deadline
    assert mac.utmctl("start", UUID).stderr == ""


@needs_qemu
def test_a_taken_port_fails_with_qemus_words_and_exit_0(mac, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        mac.add(write_bundle(tmp_path / "ours", qemu_config(port=port)))

        done = mac.utmctl("start", UUID)

    assert done.returncode == 0
    assert f"Could not set up host forwarding rule 'tcp:127.0.0.1:{port}-:22'" in done.stderr
    assert mac.status() == "stopped"


@needs_qemu
def test_the_agent_of_a_guest_without_one_does_not_answer(mac, idle):
    mac.utmctl("start", UUID)

    done = mac.utmctl("ip-address", UUID)

    assert done.returncode == 0
    assert "guest agent is not running or not installed" in done.stderr


@needs_qemu
def test_uefi_variables_are_made_as_qcow2(mac, tmp_path):
    if not Path("/usr/share/OVMF/OVMF_CODE_4M.fd").exists():
        pytest.skip("OVMF is not installed")
    config = qemu_config()
    config["QEMU"]["UEFIBoot"] = True
    config["System"] |= {"Target": "q35", "MemorySize": 128}
    mac.add(write_bundle(tmp_path / "ours", config))

    assert mac.utmctl("start", UUID).stderr == ""

    assert (mac.documents / "idle.utm/Data/efi_vars.fd").read_bytes()[:4] == b"QFI\xfb"
    assert mac.status() == "started"


@needs_qemu
def test_the_sandbox_hides_what_a_disk_stands_on(mac, tmp_path):
    base, config = tmp_path / "base.qcow2", qemu_config()
    config["Drive"] = [{"Identifier": DISK, "ImageName": "a.qcow2", "ImageType": "Disk", "Interface": "VirtIO"}]
    bundle = write_bundle(tmp_path / "ours", config)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "1M"], check=True)
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, bundle / "Data/a.qcow2"]
    subprocess.run(overlay, check=True)
    mac.add(bundle)

    assert "Operation not permitted" in mac.utmctl("start", UUID).stderr
    assert mac.status() == "stopped"


# Apple's backend


def test_an_apple_machine_runs_without_qemu_and_gets_its_address_late(mac, tmp_path):
    config = plistlib.loads((DATA / "utm-samples" / "apple-linux-uefi.plist").read_bytes())
    config["System"]["Architecture"] = "x86_64" if os.uname().machine == "x86_64" else "aarch64"
    data = {name.replace(".", "__"): b"raw!" for name in files(config) - {"vmstate", "efi_vars.fd"}}
    uuid = mac.add(write_bundle(tmp_path / "ours", config, **data))
    assert "efi_vars.fd" in mac.utmctl("start", uuid).stderr
    mac.osascript("update_configuration.js", uuid, json.dumps({"name": config["Information"]["Name"]}))

    assert mac.utmctl("start", uuid).stderr == ""

    assert mac.status(uuid) == "started"
    assert mac.utmctl("ip-address", uuid).stdout == ""
    mac.faults.set("apple-address", "192.168.64.7")
    assert mac.utmctl("ip-address", uuid).stdout == "192.168.64.7\n"
    assert "not supported" in mac.utmctl("exec", uuid, "--cmd", "ls").stderr


def test_an_apple_machine_of_another_architecture_does_not_start(mac, tmp_path):
    config = plistlib.loads((DATA / "utm-samples" / "apple-linux-kernel.plist").read_bytes())
    mac.sim.set_host(architecture="x86_64" if config["System"]["Architecture"] == "aarch64" else "aarch64")
    uuid = mac.add(write_bundle(tmp_path / "ours", config))

    assert "cannot be run on this machine" in mac.utmctl("start", uuid).stderr
    assert mac.status(uuid) == "stopped"


def test_macos_machines_start_two_at_a_time_and_have_a_recovery(mac, tmp_path):
    mac.sim.set_host(architecture="aarch64")
    config = plistlib.loads((DATA / "utm-samples" / "apple-macos.plist").read_bytes())
    data = {name.replace(".", "__"): b"raw!" for name in files(config) - {"vmstate"}}
    bundle = write_bundle(tmp_path / "ours", config, **data)
    first, second, third = (mac.add(bundle) for _ in range(3))

    assert mac.utmctl("start", first, "--recovery").stderr == mac.utmctl("start", second).stderr == ""

    assert "maximum supported number of active virtual machines" in mac.utmctl("start", third).stderr
    assert [mac.status(uuid) for uuid in (first, second, third)] == ["started", "started", "stopped"]
    assert "not supported by the backend" in mac.utmctl("start", third, "--disposable").stderr


@needs_qemu
def test_recovery_is_for_the_apple_backend_only(mac, idle):
    assert "not supported by the backend" in mac.utmctl("start", UUID, "--recovery").stderr
    assert mac.status() == "stopped"


# Faults


def test_over_ssh_nothing_may_talk_to_utm(mac, idle):
    ssh = {"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}

    listed, status = mac.utmctl("list", env=ssh), mac.utmctl("status", UUID, env=ssh)

    assert (listed.returncode, listed.stdout) == (0, HEADER + "\n")
    assert "OSStatus error -1743" in listed.stderr
    assert "NOTE: utmctl does not work from SSH sessions" in listed.stderr
    assert (status.returncode, status.stderr) == (1, "Error: Virtual machine not found.\n")
    scripted = mac.osascript("list.js", env=ssh)
    assert scripted.returncode == 1
    assert "execution error: Not authorized to send Apple events to UTM. (-1743)" in scripted.stderr


@pytest.mark.parametrize(("fault", "code"), [("connection-invalid", -609), ("timed-out", -1712)])
def test_a_broken_event_happens_as_often_as_asked_and_exits_0(mac, idle, fault, code):
    mac.faults.set(fault, times=1, verbs=["utmctl status"])

    first, second = mac.utmctl("status", UUID), mac.utmctl("status", UUID)

    assert (first.returncode, first.stdout) == (0, "")
    assert f"OSStatus error {code}" in first.stderr
    assert second.stdout == "stopped\n"


def test_an_answer_can_get_lost_after_the_work_is_done(mac, tmp_path):
    mac.faults.set("timed-out-after", verbs=["import"])

    done = mac.osascript("import.applescript", str(write_bundle(tmp_path / "ours", qemu_config())))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("execution error: UTM got an error: AppleEvent timed out. (-1712)\n")
    assert mac.status() == "stopped"


def test_utm_that_does_not_run_is_code_600(mac, idle):
    mac.faults.set("not-running")

    assert "-600" in mac.utmctl("list").stderr
    assert "(-600)" in mac.osascript("list.js").stderr
    assert mac.utmctl("start", UUID).returncode == 1


def test_a_hang_lasts_until_the_caller_gives_up_and_holds_up_nobody_else(mac, idle):
    mac.faults.set("hang", verbs=["start"])

    with pytest.raises(subprocess.TimeoutExpired):
        mac.utmctl("start", UUID, timeout=1)

    assert mac.status() == "stopped"


def test_imports_can_go_wrong_in_three_ways(mac, tmp_path):
    bundle = write_bundle(tmp_path / "ours", qemu_config())
    mac.faults.set("no-space")
    assert "isn\u2019t enough space" in mac.osascript("import.applescript", str(bundle)).stderr
    assert list(mac.documents.iterdir()) == []
    mac.faults.clear("no-space")

    mac.faults.set("other-uuid", times=1)
    assert mac.add(bundle) != UUID

    mac.faults.set("alter-import", {"System.MemorySize": 1, "Serial.0": None})
    bundle = write_bundle(tmp_path / "more", qemu_config("altered"))
    assert mac.add(bundle) == UUID
    written = plistlib.loads((mac.documents / "altered.utm/config.plist").read_bytes())
    assert (written["System"]["MemorySize"], written["Serial"]) == (1, [])


@needs_qemu
def test_start_and_stop_can_do_nothing_and_say_nothing(mac, idle):
    mac.faults.set("start-ignored", times=1)
    assert mac.utmctl("start", UUID).stderr == ""
    assert mac.status() == "stopped"

    mac.utmctl("start", UUID)
    mac.faults.set("stop-ignored", ["request", "force"])
    assert mac.utmctl("stop", UUID).stderr == mac.utmctl("stop", UUID, "--request").stderr == ""
    assert mac.status() == "started"
    mac.utmctl("stop", UUID, "--kill")
    assert mac.status() == "stopped"


def test_list_can_be_odd(mac, idle):
    mac.faults.set("extra-names", ["two  words ", "na\u00efve \U0001f427"])
    mac.faults.set("unknown-status", times=1)
    rows = mac.utmctl("list").stdout.splitlines()[1:]
    assert [row[37:] for row in rows] == ["unknown  idle", "unknown  two  words ", "unknown  na\u00efve \U0001f427"]

    mac.faults.set("empty-list", times=3)
    assert mac.utmctl("list").stdout == HEADER + "\n"
    assert mac.utmctl("status", UUID).returncode == 1
    assert mac.listed() == []
    assert mac.listed()[0]["id"] == UUID


def test_answers_can_be_huge_binary_or_a_crash(mac, idle):
    mac.faults.set("huge-output", times=1)
    assert len(mac.utmctl("list").stdout) == 10_000_000
    mac.faults.set("garbage", times=1)
    assert "\0" in mac.osascript("list.js").stdout
    mac.faults.set("crash", times=1)
    assert mac.utmctl("list").returncode == -signal.SIGSEGV
