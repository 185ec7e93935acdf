"""What only real QEMU can show: modes, locks, suspended and busy processes. No guest is booted."""

import contextlib
import os
import plistlib
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vmkit.drivers.base import MachineState
from vmkit.drivers.lines import JsonLines
from vmkit.drivers.qemu import QemuDriver
from vmkit.drivers.qmp import Qmp
from vmkit.errors import HostLacks, Refused, TimedOut, ToolFailed, WrongState
from vmkit.host.computer import is_macos
from vmkit.host.files import is_locked
from vmkit.host.privileges import find_account
from vmkit.host.process import Runner
from vmkit.host.wait import Deadline
from vmkit.testing.bundle import idle_config, idle_machine, write_config

pytestmark = pytest.mark.skipif(
    Runner().find("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"
)


@pytest.fixture
def driver(tmp_path):
    return QemuDriver(runner=Runner(), cache=tmp_path / "cache", agent_s=0.2)


@pytest.fixture
def vm(driver, tmp_path):
    tmp_path.chmod(0o700)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="vmkit-test-") as folder:
        vm = idle_machine(tmp_path / "idle", port=port, sockets=Path(folder) / "s")
        (tmp_path / "idle").chmod(0o700)
        yield vm
        with contextlib.suppress(WrongState):
            driver.stop(vm, timeout_s=0, force=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def driver_port(vm) -> int:
    return plistlib.loads((vm.bundle / "config.plist").read_bytes())["Network"][0]["PortForward"][0]["HostPort"]


def pid_of(driver, vm) -> int:
    return int(driver.facts(vm)["process"])


def test_sockets_and_logs_are_the_users_alone_whatever_the_umask(driver, vm):
    before = os.umask(0)
    try:
        driver.start(vm)
    finally:
        os.umask(before)

    sockets = {path.name: mode(path) for path in vm.sockets.iterdir()}
    assert sockets == {"qmp.sock": 0o600, "qga.sock": 0o600, "console.sock": 0o600}
    assert mode(vm.sockets) == 0o700
    assert {mode(vm.home / name) for name in ("qemu.log", "qemu.lock", "console.log")} == {0o600}


def test_sockets_are_not_made_where_others_could_replace_them(driver, vm):
    vm.sockets.parent.chmod(0o777)

    with pytest.raises(Refused):
        driver.start(vm)

    assert driver.state(vm) == MachineState.STOPPED


ASKER = """
import sys
from pathlib import Path
from vmkit.host.files import is_locked
print("asking", flush=True)
while True:
    is_locked(Path(sys.argv[1]))
"""


def test_asking_at_the_same_moment_does_not_make_a_start_fail(driver, vm):
    lock = vm.home / "qemu.lock"
    lock.touch()
    asker = subprocess.Popen([sys.executable, "-c", ASKER, str(lock)], stdout=subprocess.PIPE)
    with asker:
        asker.stdout.readline()
        try:
            for _ in range(3):
                driver.start(vm)
                driver.stop(vm, timeout_s=0, force=True)
        finally:
            asker.kill()


@pytest.mark.skipif(is_macos(), reason="reads /proc")
def test_qemu_dumps_no_core_and_is_sandboxed(driver, vm):
    driver.start(vm)
    process = Path("/proc") / str(pid_of(driver, vm))

    limits = process.joinpath("limits").read_text()
    status = process.joinpath("status").read_text()

    assert next(line for line in limits.splitlines() if "core file" in line).split()[4:6] == ["0", "0"]
    assert "Seccomp:\t2" in status


def test_qemu_gets_none_of_this_process_s_environment(driver, vm, monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "https_proxy", "LD_PRELOAD_X", "KIRO_API_KEY", "DISPLAY"):
        monkeypatch.setenv(name, "canary")
    driver.start(vm)

    environment = Path(f"/proc/{pid_of(driver, vm)}/environ").read_bytes()

    assert b"PATH=" in environment
    assert b"canary" not in environment


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's QEMU is that user's")
@pytest.mark.parametrize("disposable", [False, True])
def test_roots_qemu_is_nobody_that_has_an_account_on_every_thread(driver, vm, disposable):
    driver.start(vm, disposable=disposable)
    number = str(find_account("qemu", vm.uuid))

    threads = [
        dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines())
        for thread in Path(f"/proc/{pid_of(driver, vm)}/task").iterdir()
    ]

    assert len(threads) > 1
    for status in threads:
        assert status["Uid"].split() == status["Gid"].split() == [number] * 4
        assert status["Groups"].split() == [number]
        assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"


@pytest.fixture
def with_disk(vm):
    drive = {"Identifier": "d", "ImageName": "d.qcow2", "ImageType": "Disk", "Interface": "VirtIO", "ReadOnly": False}
    write_config(vm, idle_config(port=driver_port(vm)) | {"Drive": [drive | {"InterfaceVersion": 1}]})
    disk = vm.bundle / "Data/d.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "64M"], check=True)
    return vm


def state_of(vm) -> set[str]:
    return {path.name for path in vm.home.iterdir()} & {"disposable", "ready"}


def test_a_disposable_start_goes_on_from_the_ready_state_while_nothing_changes(driver, with_disk):
    vm = with_disk
    disk = next((vm.bundle / "Data").glob("*.qcow2"))
    before = disk.read_bytes()
    assert not driver.start(vm, disposable=True)
    assert driver.can_keep_ready(vm)
    assert driver.keep_ready(vm)
    driver.stop(vm, timeout_s=0, force=True)
    assert state_of(vm) == {"ready"}

    assert driver.start(vm, disposable=True)
    assert driver.state(vm) == MachineState.RUNNING
    driver.stop(vm, timeout_s=0, force=True)
    assert disk.read_bytes() == before

    disk.touch()
    assert not driver.start(vm, disposable=True)


def test_a_start_that_keeps_its_changes_forgets_the_ready_state(driver, with_disk):
    vm = with_disk
    driver.start(vm, disposable=True)
    assert driver.keep_ready(vm)
    driver.stop(vm, timeout_s=0, force=True)

    driver.start(vm)

    assert state_of(vm) == set()
    assert not driver.can_keep_ready(vm)
    assert not driver.keep_ready(vm)


def test_a_ready_state_that_was_changed_is_no_reason_to_hang(driver, with_disk):
    vm = with_disk
    driver.start(vm, disposable=True)
    assert driver.keep_ready(vm)
    driver.stop(vm, timeout_s=0, force=True)
    next((vm.home / "ready").glob("*.qcow2")).write_bytes(b"")

    with pytest.raises(ToolFailed):
        driver.start(vm, disposable=True)  # it says why, once
    assert not driver.start(vm, disposable=True)


@pytest.mark.skipif(is_macos(), reason="reads /proc")
def test_every_listener_of_a_machine_is_on_loopback(driver, vm):
    driver.start(vm)

    sockets = {os.readlink(entry) for entry in Path(f"/proc/{pid_of(driver, vm)}/fd").iterdir()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    rows += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]

    assert listening == [f"0100007F:{driver_port(vm):04X}"]


STARTER = """
import sys
from pathlib import Path
from vmkit.drivers.base import Vm
from vmkit.drivers.lines import JsonLines
from vmkit.drivers.qemu import QemuDriver
from vmkit.host.process import Runner
home, sockets = map(Path, sys.argv[1:])
vm = Vm(name="idle", uuid="x", bundle=home / "idle.utm", home=home, sockets=sockets)
QemuDriver(runner=Runner(), cache=home / "cache").start(vm)
print("started", flush=True)
sys.stdin.read()
"""


def test_a_machine_outlives_a_killed_vmkit_and_is_still_seen(driver, vm):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(vm.home), str(vm.sockets)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with starter:
        assert starter.stdout.readline() == b"started\n"
        starter.kill()
        starter.wait()

    assert driver.state(vm) == MachineState.RUNNING
    with pytest.raises(WrongState):
        driver.start(vm)
    assert driver.stop(vm, timeout_s=0, force=True)


@pytest.mark.parametrize("delay_ms", [0, 60, 120, 180, 240, 300, 400, 600])
def test_a_vmkit_killed_at_any_moment_leaves_no_qemu_that_nobody_sees(driver, vm, delay_ms):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(vm.home), str(vm.sockets)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    with starter:
        with contextlib.suppress(subprocess.TimeoutExpired):
            starter.wait(delay_ms / 1000)
        starter.kill()

    if is_locked(vm.home / "qemu.lock"):
        assert driver.stop(vm, timeout_s=0, force=True)
    driver.start(vm)
    assert driver.state(vm) == MachineState.RUNNING


def test_a_busy_monitor_means_running(driver, vm):
    driver.start(vm)

    with Qmp(vm.sockets / "qmp.sock", timeout_s=5):
        assert driver.state(vm) == MachineState.RUNNING


def test_a_paused_machine_is_seen_and_stopped(driver, vm):
    driver.start(vm)
    with Qmp(vm.sockets / "qmp.sock", timeout_s=5) as qmp:
        qmp.execute("stop")

    seen = driver.state(vm)
    driver.stop(vm, timeout_s=0.5)

    assert seen == MachineState.PAUSED
    assert driver.state(vm) == MachineState.STOPPED


def test_stop_presses_the_power_button_of_a_guest_without_an_agent(driver, vm):
    observer = vm.sockets / "observer.sock"
    config = idle_config(port=driver_port(vm))
    config["QEMU"]["AdditionalArguments"] = ["-qmp", f"unix:{observer},server=on,wait=off"]
    write_config(vm, config)
    driver.start(vm)

    with JsonLines(observer, deadline=Deadline(20)) as events:
        events.send({"execute": "qmp_capabilities"})
        driver.stop(vm, timeout_s=0.5)
        seen = [events.receive().get("event") for _ in range(3)]

    assert seen == [None, None, "POWERDOWN"]  # the greeting, the answer, the button


def test_a_suspended_qemu_is_ended_although_nobody_can_connect_any_more(driver, vm):
    driver.start(vm)
    pid = pid_of(driver, vm)
    os.kill(pid, signal.SIGSTOP)
    for _ in range(5):
        driver.facts(vm)
        driver.state(vm)

    assert driver.stop(vm, timeout_s=0, force=True)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_a_machine_whose_sockets_were_swept_away_says_how_to_end_it(driver, vm):
    driver.start(vm)
    pid = pid_of(driver, vm)
    for path in vm.sockets.iterdir():
        path.unlink()

    try:
        assert driver.state(vm) == MachineState.STARTING
        with pytest.raises(Exception, match="was not found") as caught:
            driver.stop(vm, timeout_s=0, force=True)
        assert str(vm.home / "qemu.lock") in caught.value.hint
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_start_that_is_given_up_leaves_no_process(vm, tmp_path):
    impatient = QemuDriver(runner=Runner(), cache=tmp_path / "cache", start_s=0)

    with pytest.raises(TimedOut):
        impatient.start(vm)

    assert impatient.state(vm) == MachineState.STOPPED


def test_the_facts_name_qemus_version_and_why_it_emulates(driver, vm):
    driver.start(vm)

    facts = driver.facts(vm)

    assert facts["accelerator"] == "tcg: the bundle asks for no hypervisor"
    assert facts["qemu"][0].isdigit()
    assert facts["process"].isdigit()


def test_a_missing_emulator_says_how_to_get_it(driver, vm):
    config = idle_config(port=1)
    config["System"] |= {"Architecture": "avr", "Target": "uno"}
    write_config(vm, config)
    if Runner().find("qemu-system-avr"):
        pytest.skip("qemu-system-avr is installed")

    with pytest.raises(HostLacks, match="qemu-system-avr") as caught:
        driver.start(vm)

    assert "install" in caught.value.hint
    assert driver.state(vm) == MachineState.STOPPED


def test_the_console_of_an_earlier_start_is_not_taken_for_this_one(driver, vm):
    driver.console_log(vm).write_text("vmkit: ready long ago\n")

    driver.start(vm)

    assert "long ago" not in driver.console_log(vm).read_text()
