"""What UTM does in trouble, played by utmsim: what vmkit says, with which exit code, and how the machine is left.

Each failure is one of the reference's, and the numbers are macOS's. Deadlines are kept by programs that hang for ever:
a test that waited for one would not end.
"""

import contextlib
import json
import os
import plistlib
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.mac import Mac
from vmkit.drivers.base import MachineState, NoAddressYet, Vm
from vmkit.drivers.events import UtmAbsent, UtmRefused, UtmUnknown
from vmkit.drivers.utm import Limits
from vmkit.errors import HostLacks, TimedOut, ToolFailed, TransportFailed, VmkitError, WrongState
from vmkit.host.process import Runner
from vmkit.machines.model import Machine
from vmkit.testing.bundle import UUID, idle_config, idle_machine, write_config

pytestmark = pytest.mark.skipif(
    Runner().find("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"
)

SHORT = Limits(patience_s=4, start_s=8, confirm_s=4)
SEED = "seed.iso"


@pytest.fixture
def mac(tmp_path):
    return Mac(tmp_path)


@pytest.fixture
def driver(mac):
    return mac.driver(limits=SHORT)


@pytest.fixture
def staged(mac, tmp_path):
    """A machine that UTM has not been told of."""
    with tempfile.TemporaryDirectory(prefix="vmkit-test-") as sockets:
        vm = idle_machine(tmp_path / "idle", port=_free_port(), sockets=Path(sockets) / "s")
        vm.home.chmod(0o700)
        (vm.bundle / "Data" / SEED).write_bytes(b"seed")
        yield vm
        mac.sim.faults.clear()
        with contextlib.suppress(WrongState):
            mac.driver().stop(vm, timeout_s=0, force=True)


@pytest.fixture
def vm(driver, staged):
    driver.add(staged)
    return staged


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _verbs(mac: Mac) -> list[str]:
    return [call["argv"][0] for call in mac.sim.calls() if call["program"] == "utmctl"]


def _port_in_utm(mac: Mac, vm: Vm) -> int:
    [bundle] = mac.documents.iterdir()
    [network] = plistlib.loads((bundle / "config.plist").read_bytes())["Network"]
    return network["PortForward"][0]["HostPort"]


def _left_running(mac: Mac) -> str:
    """Return the simulator's programs that still run, other than machines."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in found.splitlines() if str(mac.sim.folder) in line and "qemu-system" not in line)


# -- permission --


def test_without_permission_the_setting_is_named(mac, driver, vm):
    mac.sim.faults.set("not-permitted")

    with pytest.raises(HostLacks, match="does not let vmkit control UTM") as caught:
        driver.start(vm)

    mac.sim.faults.clear()
    assert caught.value.exit_code == 7
    assert "Privacy & Security → Automation" in caught.value.hint
    assert "-1743" in caught.value.detail
    assert driver.state(vm) == MachineState.STOPPED


def test_a_lookup_that_permission_silenced_is_not_believed(mac, driver, vm):
    mac.sim.faults.set("not-permitted", verbs=["status", "list"])

    with pytest.raises(HostLacks):
        driver.state(vm)

    assert _verbs(mac)[-2:] == ["status", "list"]


def test_over_ssh_the_explanation_is_another_one(mac, driver, vm, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")

    with pytest.raises(HostLacks) as caught:
        driver.start(vm)

    monkeypatch.delenv("SSH_CONNECTION")
    assert caught.value.hint.startswith("not over SSH, not before login")
    assert driver.state(vm) == MachineState.STOPPED


def test_a_machine_is_not_removed_as_unknown_without_permission(mac, driver, vm):
    mac.sim.faults.set("not-permitted")

    with pytest.raises(HostLacks):
        driver.remove(vm)

    assert mac.entry(vm) is not None


def test_a_script_without_permission_says_the_same(mac, driver, staged):
    mac.sim.faults.set("not-permitted", verbs=["import"])

    with pytest.raises(HostLacks, match="does not let vmkit control UTM"):
        driver.add(staged)

    assert mac.entry(staged) is None
    assert (staged.bundle / "Data" / SEED).exists()


# -- a UTM that is absent for a moment, or for good --


@pytest.mark.parametrize("fault", ["not-running", "connection-invalid"])
def test_a_start_that_broke_off_is_tried_again(mac, driver, vm, fault):
    mac.sim.faults.set(fault, verbs=["start"], times=2)

    mac.driver().start(vm)

    assert driver.state(vm) == MachineState.RUNNING


def test_a_start_that_was_heard_before_it_broke_off_is_not_made_twice(mac, driver, vm):
    broken = mac.driver()
    real_start = broken._utmctl.start

    def start(uuid, **options):
        real_start(uuid, **options)
        raise UtmAbsent("utmctl start: the connection is invalid")

    broken._utmctl.start = start
    broken.start(vm)

    assert driver.state(vm) == MachineState.RUNNING
    assert _verbs(mac).count("start") == 1


@pytest.mark.parametrize("fault", ["not-running", "connection-invalid"])
def test_a_utm_that_stays_away_is_given_up_at_the_deadline(mac, driver, vm, fault):
    mac.sim.faults.set(fault)

    with pytest.raises(TimedOut, match="UTM did not answer: not within 4 s") as caught:
        driver.start(vm)

    mac.sim.faults.clear()
    assert caught.value.exit_code == 5
    assert "UTM is not running, or broke off" in caught.value.detail
    assert caught.value.hint == "open UTM and try again"
    assert driver.state(vm) == MachineState.STOPPED


def test_a_hiccup_is_no_state(mac, driver, vm):
    mac.sim.faults.set("connection-invalid", verbs=["status"], times=1)

    assert driver.state(vm) == MachineState.STOPPED


def test_machines_that_the_window_does_not_yet_show_are_waited_for(mac, driver, vm):
    mac.sim.faults.set("empty-list", times=3)

    mac.driver().start(vm)

    assert driver.state(vm) == MachineState.RUNNING


def test_an_event_that_times_out_is_told_when_the_status_does_not_change(mac, driver, vm):
    mac.sim.faults.set("timed-out", verbs=["start"])

    with pytest.raises(TimedOut, match="UTM did not answer in time") as caught:
        driver.start(vm)

    assert "does a dialog wait" in caught.value.hint
    assert driver.state(vm) == MachineState.STOPPED


# -- a UTM that hangs --


def test_the_state_of_a_hanging_utm_is_not_waited_for(mac, driver, vm):
    mac.sim.faults.set("hang")

    with pytest.raises(TimedOut) as caught:
        driver.state(vm)

    assert caught.value.exit_code == 5
    assert _left_running(mac) == ""


def test_of_many_machines_only_the_first_waits_for_a_hanging_utm(mac, driver, vm):
    mac.sim.faults.set("hang")
    before = len(_verbs(mac))

    for _ in range(20):
        with pytest.raises(TimedOut):
            driver.state(vm)

    assert _verbs(mac)[before:] == ["status"]


def test_a_hanging_start_is_ended_at_its_deadline(mac, driver, vm):
    mac.sim.faults.set("hang", verbs=["start"])

    with pytest.raises(TimedOut, match="did not end within 8 s"):
        driver.start(vm)

    assert _left_running(mac) == ""
    assert driver.state(vm) == MachineState.STOPPED


def test_a_hanging_request_does_not_hold_up_the_force_at_the_deadline(mac, driver, vm):
    driver.start(vm)
    mac.sim.faults.set("hang", verbs=["exec"])

    forced = driver.stop(vm, timeout_s=1)

    assert forced
    assert _left_running(mac) == ""
    assert driver.state(vm) == MachineState.STOPPED


def test_a_hanging_utm_cannot_stop_a_machine_and_says_so(mac, driver, vm):
    driver.start(vm)
    mac.sim.faults.set("hang")

    with pytest.raises(TimedOut):
        driver.stop(vm, timeout_s=1)

    mac.sim.faults.clear()
    assert driver.state(vm) == MachineState.RUNNING


# -- exit code 0, and nothing done, or no --


def test_a_start_that_does_nothing_is_not_taken_for_one(mac, driver, vm):
    mac.sim.faults.set("start-ignored")

    with pytest.raises(ToolFailed, match='did not make machine "idle" running') as caught:
        driver.start(vm)

    assert "reported no error" in caught.value.detail
    assert driver.state(vm) == MachineState.STOPPED


def test_a_refusal_is_quoted_although_the_exit_code_is_0(mac, driver, vm):
    mac.sim.faults.set("refused", "Operation not available.", verbs=["start"])

    with pytest.raises(UtmRefused, match="Operation not available") as caught:
        driver.start(vm)

    assert caught.value.exit_code == 7
    assert "OSStatus error -2700" in caught.value.detail
    assert driver.state(vm) == MachineState.STOPPED


def test_a_suspension_that_is_refused_leaves_the_machine_running(mac, driver, vm):
    driver.start(vm)
    mac.sim.faults.set("refused", "Operation not supported by the backend.", verbs=["suspend"])

    with pytest.raises(UtmRefused, match="not supported"):
        driver.suspend(vm)

    assert driver.state(vm) == MachineState.RUNNING


@pytest.mark.parametrize(("ignored", "last"), [(["request"], "--force"), (["request", "force"], "--kill")])
def test_stopping_goes_on_to_what_works(mac, driver, vm, ignored, last):
    driver.start(vm)
    mac.sim.faults.set("stop-ignored", ignored)

    forced = driver.stop(vm, timeout_s=0.5)

    stops = [call["argv"][-1] for call in mac.sim.calls() if call["argv"][0] == "stop"]
    assert forced
    assert stops[-1] == last
    assert driver.state(vm) == MachineState.STOPPED


def test_a_machine_that_utm_cannot_stop_is_said_to_run(mac, driver, vm):
    driver.start(vm)
    mac.sim.faults.set("stop-ignored")

    with pytest.raises(ToolFailed, match='UTM does not stop machine "idle"') as caught:
        driver.stop(vm, timeout_s=0, force=True)

    assert "quit UTM" in caught.value.hint
    assert driver.state(vm) == MachineState.RUNNING


def test_a_paused_machine_has_no_plug_and_is_killed(mac, driver, vm):
    driver.start(vm)
    driver.suspend(vm)

    driver.stop(vm, timeout_s=0, force=True)

    stops = [call["argv"][-1] for call in mac.sim.calls() if call["argv"][0] == "stop"]
    assert stops == ["--force", "--kill"]
    assert driver.state(vm) == MachineState.STOPPED


def test_without_an_agent_the_power_button_is_pressed(mac, driver, vm):
    driver.start(vm)
    mac.sim.faults.set("no-agent")

    driver.stop(vm, timeout_s=4)

    assert [verb for verb in _verbs(mac) if verb in ("exec", "stop")][:2] == ["exec", "stop"]
    assert driver.state(vm) == MachineState.STOPPED


def test_a_running_machine_is_not_removed(mac, driver, vm):
    driver.start(vm)

    with pytest.raises(UtmRefused, match="must be stopped"):
        driver.remove(vm)

    assert driver.state(vm) == MachineState.RUNNING


# -- the import --


def test_what_utm_does_not_load_is_refused_and_kept_here(mac, driver, staged):
    config = idle_config(port=1)
    del config["System"]["Target"]
    write_config(staged, config)

    with pytest.raises(ToolFailed, match="Cannot import this VM"):
        driver.add(staged)

    assert mac.entry(staged) is None
    assert (staged.bundle / "Data" / SEED).exists()


def test_a_machine_that_got_another_uuid_is_removed_again(mac, driver, staged):
    mac.sim.faults.set("other-uuid")

    with pytest.raises(ToolFailed, match="another UUID") as caught:
        driver.add(staged)

    assert staged.uuid in caught.value.detail
    assert list(mac.documents.iterdir()) == []
    assert (staged.bundle / "Data" / SEED).exists()


@pytest.mark.parametrize(
    ("altered", "named"),
    [
        ({"System.MemorySize": 512}, "System.MemorySize: 32 was rendered, 512 is in UTM"),
        ({"QEMU.RNGDevice": None}, "QEMU.RNGDevice"),
        ({"Network.0.IsolateFromHost": True}, "IsolateFromHost: False was rendered, True is in UTM"),
        ({"Network.0.PortForward.0.HostAddress": None}, "HostAddress"),
        ({"QEMU.AdditionalArguments": ["-vnc :0"]}, "AdditionalArguments"),
    ],
)
def test_a_machine_that_utm_made_something_else_of_is_removed_again(mac, driver, staged, altered, named):
    mac.sim.faults.set("alter-import", altered)

    with pytest.raises(ToolFailed, match="something else") as caught:
        driver.add(staged)

    assert named in caught.value.detail
    assert mac.entry(staged) is None
    assert (staged.bundle / "Data" / SEED).exists()


def test_a_full_disk_is_told_in_utms_words(mac, driver, staged):
    mac.sim.faults.set("no-space")

    with pytest.raises(ToolFailed, match="enough space"):
        driver.add(staged)

    assert (staged.bundle / "Data" / SEED).exists()


def test_an_import_that_broke_off_is_tried_again(mac, driver, staged):
    mac.sim.faults.set("connection-invalid", verbs=["import"], times=1)

    mac.driver().add(staged)

    assert mac.entry(staged)["uuid"] == staged.uuid
    assert not (staged.bundle / "Data" / SEED).exists()


def test_an_add_that_was_interrupted_is_finished_by_the_next(mac, driver, staged):
    (mac.home / "staged.utm").symlink_to(staged.bundle)
    subprocess.run(
        [mac.sim.osascript, Path("vmkit/drivers/scripts/import.applescript").resolve(), staged.bundle],
        env={**os.environ, **mac.session},
        check=True,
        capture_output=True,
    )

    driver.add(staged)

    assert [path.name for path in mac.documents.iterdir()] == ["idle.utm"]
    assert not (staged.bundle / "Data" / SEED).exists()


def test_a_utm_without_import_is_too_old(mac, driver, staged):
    sdef = mac.sim.app / "Contents/Resources/UTM.sdef"
    sdef.write_text(sdef.read_text().replace('<command name="import"', '<command name="inport"'))

    with pytest.raises(HostLacks, match="cannot import") as caught:
        driver.add(staged)

    assert "5.0.3" in caught.value.hint
    assert mac.entry(staged) is None


def test_a_machine_that_was_deleted_in_utm_is_broken_and_can_be_forgotten(mac, driver, vm):
    subprocess.run([mac.sim.utmctl, "delete", vm.uuid], env={**os.environ, **mac.session}, check=True)

    state = driver.state(vm)
    with pytest.raises(UtmUnknown) as caught:
        driver.start(vm)
    with pytest.raises(WrongState, match="nor are its disks here"):
        driver.add(vm)
    driver.remove(vm)

    assert state == MachineState.BROKEN
    assert (caught.value.exit_code, caught.value.message) == (3, 'UTM does not have machine "idle"')


# -- what is no answer --


def test_a_status_that_nobody_knows_is_told(mac, driver, vm):
    mac.sim.faults.set("unknown-status", "hibernating", verbs=["status"])

    with pytest.raises(ToolFailed, match='says that the machine is "hibernating"'):
        driver.state(vm)


def test_names_that_look_like_rows_change_nothing(mac, driver, vm):
    fake = f"x\n{vm.uuid} started  x\n\x1b[2J\x1b]0;owned\x07"
    mac.sim.faults.set("extra-names", [fake, "", " " * 40, "-rf", "\u202e\u2028"])

    state = driver.state(vm)
    rows = driver._utmctl.machines()

    assert state == MachineState.STOPPED
    assert not any(set(row.name) & {"\x1b", "\x07", "\u202e"} for row in rows)


@pytest.mark.parametrize("fault", ["huge-output", "garbage"])
def test_what_is_no_answer_is_refused_and_not_shown_raw(mac, driver, vm, fault):
    mac.sim.faults.set(fault, verbs=["status"])

    with pytest.raises(ToolFailed) as caught:
        driver.state(vm)

    said = f"{caught.value.message}{caught.value.detail}"
    assert len(said) < 1000
    assert "\x1b" not in said


def test_a_utmctl_that_crashes_is_explained(mac, driver, vm):
    mac.sim.faults.set("crash")

    with pytest.raises(ToolFailed, match="SIGSEGV") as caught:
        driver.state(vm)

    assert "before anybody has logged in" in caught.value.hint


def test_a_utmctl_that_is_too_old_for_a_verb_is_no_reason_to_fail(mac, driver, vm):
    mac.sim.set_version("4.6.5")

    facts = driver.facts(vm)

    assert "utm" not in facts
    assert facts["name in UTM"] == "idle"


# -- the port --


def test_a_port_that_utm_did_not_take_is_not_noted_here(mac, driver, vm):
    before = (vm.bundle / "config.plist").read_bytes()
    mac.sim.faults.set("refused", "The virtual machine must be stopped", verbs=["update_configuration"])

    with pytest.raises(UtmRefused, match="must be stopped"):
        driver.move_port(vm, 23456)

    assert (vm.bundle / "config.plist").read_bytes() == before
    assert _port_in_utm(mac, vm) != 23456


def test_a_port_is_moved_although_utm_breaks_off_while_it_saves(mac, driver, vm):
    mac.sim.faults.set("connection-invalid", verbs=["update_configuration"], times=1)

    driver.move_port(vm, 23456)

    assert _port_in_utm(mac, vm) == 23456
    assert b"<integer>23456</integer>" in (vm.bundle / "config.plist").read_bytes()


# -- the console, and the Apple backend --


def test_the_console_of_a_stopped_machine_cannot_be_reached(driver, vm):
    with pytest.raises(TransportFailed, match="console") as caught:
        driver.open_console(vm)

    assert caught.value.exit_code == 255


def test_recording_lasts_no_longer_than_it_should_when_utm_hangs(mac, driver, vm):
    driver.start(vm)
    mac.sim.faults.set("hang", verbs=["attach"])

    with driver.recording(vm):
        pass

    assert driver.console_log(vm).read_bytes() == b""


@pytest.fixture
def apple(mac, driver, tmp_path, request):
    """A Linux machine of the Apple backend that UTM has and that runs."""
    sample = Path(__file__).parents[1] / "data/utm-samples/apple-linux-uefi.plist"
    mac.sim.set_host(architecture="aarch64")
    config = plistlib.loads(sample.read_bytes())
    config["Drive"] = []
    vm = Vm(
        name="apple",
        uuid=config["Information"]["UUID"].upper(),
        bundle=tmp_path / "apple" / "apple.utm",
        home=tmp_path / "apple",
        sockets=tmp_path / "s",
        backend="apple",
    )
    (vm.bundle / "Data").mkdir(parents=True)
    vm.home.chmod(0o700)
    write_config(vm, config)
    (vm.bundle / "Data" / "disk.img").write_bytes(b"disk")
    driver.add(vm)
    driver.start(vm)
    yield vm
    mac.sim.faults.clear()
    driver.stop(vm, timeout_s=0, force=True)


def test_an_apple_machine_without_an_address_has_none_yet(mac, driver, apple):
    with pytest.raises(NoAddressYet) as caught:
        driver.address(apple)

    mac.sim.faults.set("apple-address", "192.168.64.7")
    assert caught.value.exit_code == 4
    assert driver.address(apple).host == "192.168.64.7"


def test_an_address_that_is_this_computers_is_not_a_guests(mac, driver, apple):
    mac.sim.faults.set("apple-address", "127.0.0.1")

    with pytest.raises(NoAddressYet):
        driver.address(apple)


def test_what_an_older_utm_does_not_know_is_asked_elsewhere(mac, driver, apple):
    mac.sim.set_version("5.0.2")

    with pytest.raises(NoAddressYet):
        driver.address(apple)


def test_the_variables_of_an_apple_machine_are_made_by_a_save(mac, apple):
    [bundle] = mac.documents.iterdir()

    assert [path.name for path in (bundle / "Data").iterdir()] == ["efi_vars.fd"]


def test_an_apple_machine_has_no_disposable_start(driver, apple):
    with pytest.raises(VmkitError, match="disposable") as caught:
        driver.start(apple, disposable=True)

    assert caught.value.exit_code == 2


# -- what the user of the command line sees --


@pytest.fixture
def vmkit(mac, driver, tmp_path):
    """Run vmkit as a program on the Mac; there is one machine, "idle", which UTM has."""
    machine = Machine(
        name="idle",
        uuid=UUID,
        driver="utm",
        template="debian",
        image="",
        image_digest="",
        arch="x86_64",
        cpus=1,
        memory_mib=32,
        disk_bytes=0,
        user="agent",
        recipes=(),
        egress="airgap",
        options={},
        created="2026-01-01T00:00:00+00:00",
        folder=tmp_path / "vmkit/machines/idle",
    )
    machine.folder.mkdir(parents=True, mode=0o700)
    vm = idle_machine(machine.folder, port=_free_port(), sockets=tmp_path / "s")
    (vm.bundle / "Data" / SEED).write_bytes(b"seed")
    driver.add(vm)
    (machine.folder / "machine.json").write_text(machine.to_json())

    def run(*words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "vmkit", *words],
            env={**os.environ, **mac.session, "VMKIT_HOME": str(tmp_path / "vmkit"), **extra},
            check=False,
            capture_output=True,
            text=True,
        )

    return run


def test_list_shows_what_is_wrong_with_a_hanging_utm_and_fails_not(mac, vmkit):
    mac.sim.faults.set("hang")

    listed = vmkit("list", "--json")

    [machine] = json.loads(listed.stdout)["machines"]
    assert listed.returncode == 0
    assert (machine["state"], machine["note"]) == ("broken", f'"{mac.sim.utmctl}" did not end within 2 s')


def test_start_without_permission_says_what_to_allow(mac, vmkit):
    mac.sim.faults.set("not-permitted")

    started = vmkit("start", "idle")

    assert started.returncode == 7
    assert "macOS does not let vmkit control UTM" in started.stderr
    assert "hint: System Settings" in started.stderr


def test_start_over_ssh_says_that_it_cannot(vmkit):
    started = vmkit("start", "idle", SSH_CONNECTION="192.0.2.1 50000 192.0.2.2 22")

    assert started.returncode == 7
    assert "hint: not over SSH, not before login" in started.stderr


def test_a_machine_that_utm_lost_can_be_deleted(mac, vmkit):
    subprocess.run([mac.sim.utmctl, "delete", UUID], env={**os.environ, **mac.session}, check=True)

    started = vmkit("start", "idle")
    deleted = vmkit("delete", "idle")

    assert started.returncode == 3
    assert 'UTM does not have machine "idle"' in started.stderr
    assert "vmkit delete idle" in started.stderr
    assert (deleted.returncode, vmkit("list", "--json").stdout.count("idle")) == (0, 0)
