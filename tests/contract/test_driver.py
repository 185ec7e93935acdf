"""What every driver promises, asked of the fake, of real QEMU, and of a simulated UTM with real QEMU inside.

The machine has nothing to boot.
"""

import contextlib
import os
import plistlib
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mac import Mac
from vmkit.drivers.base import Address, MachineState, PortTaken, Vm
from vmkit.drivers.qemu import QemuDriver
from vmkit.errors import ToolFailed, UsageError, WrongState
from vmkit.host.process import Runner
from vmkit.testing.bundle import idle_config, idle_machine, write_config
from vmkit.testing.driver import FakeDriver


class FakeRig:
    """The fake, and what can befall its machines."""

    says = "process"

    def __init__(self) -> None:
        self.driver = FakeDriver()
        self.driver.guests_hear = False

    def kill(self, vm: Vm) -> None:
        self.driver.die(vm)

    def suspend(self, vm: Vm) -> None:
        self.driver.deafen(vm)

    def spoil(self, vm: Vm) -> None:
        self.driver.spoil(vm, "-nonsense: invalid option")

    @contextlib.contextmanager
    def taken(self, port: int) -> Iterator[None]:
        self.driver.taken_ports.add(port)
        yield
        self.driver.taken_ports.clear()


class QemuRig:
    """Real QEMU, and what can befall its process."""

    says = "process"

    def __init__(self, cache: Path) -> None:
        self.driver = QemuDriver(runner=Runner(), cache=cache)

    def kill(self, vm: Vm) -> None:
        pid = int(self.driver.facts(vm)["process"])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def suspend(self, vm: Vm) -> None:
        os.kill(int(self.driver.facts(vm)["process"]), signal.SIGSTOP)

    def spoil(self, vm: Vm) -> None:
        config = idle_config(port=_free_port())
        config["QEMU"]["AdditionalArguments"] = ["-nonsense"]
        write_config(vm, config)

    @contextlib.contextmanager
    def taken(self, port: int) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", port)):
            yield


class UtmRig:
    """A simulated UTM, and what can befall it and the QEMU inside."""

    says = "utm"

    def __init__(self, folder: Path) -> None:
        self.mac = Mac(folder)
        self.driver = self.mac.driver()

    def kill(self, vm: Vm) -> None:
        self.mac.signal(vm, signal.SIGKILL)

    def suspend(self, vm: Vm) -> None:
        self.mac.signal(vm, signal.SIGSTOP)

    def spoil(self, vm: Vm) -> None:
        config = idle_config(port=_free_port())
        config["QEMU"]["AdditionalArguments"] = ["-nonsense"]
        self.driver.remove(vm)
        write_config(vm, config)
        (vm.bundle / "Data" / "seed.iso").touch()
        self.driver.add(vm)

    @contextlib.contextmanager
    def taken(self, port: int) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", port)):
            yield


@pytest.fixture(params=["fake", "qemu", pytest.param("utm", marks=pytest.mark.utm)])
def rig(request, tmp_path):
    if request.param == "fake":
        return FakeRig()
    if Runner().find("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    return QemuRig(tmp_path / "cache") if request.param == "qemu" else UtmRig(tmp_path)


@pytest.fixture
def vm(rig, tmp_path):
    tmp_path.chmod(0o700)
    with tempfile.TemporaryDirectory(prefix="vmkit-test-") as sockets:
        vm = idle_machine(tmp_path / "idle", port=_free_port(), sockets=Path(sockets) / "s")
        (tmp_path / "idle").chmod(0o700)
        (vm.bundle / "Data" / "seed.iso").touch()
        rig.driver.add(vm)
        yield vm
        with contextlib.suppress(WrongState):
            rig.driver.stop(vm, timeout_s=0, force=True)
        rig.driver.remove(vm)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _forwarded(vm: Vm) -> int:
    config = plistlib.loads((vm.bundle / "config.plist").read_bytes())
    return config["Network"][0]["PortForward"][0]["HostPort"]


def test_a_machine_is_stopped_then_running_then_stopped(rig, vm):
    before = rig.driver.state(vm)
    rig.driver.start(vm)
    during = rig.driver.state(vm)
    forced = rig.driver.stop(vm, timeout_s=60, force=True)

    assert (before, during, rig.driver.state(vm)) == (
        MachineState.STOPPED,
        MachineState.RUNNING,
        MachineState.STOPPED,
    )
    assert forced


def test_the_bundle_that_has_the_disks_is_found(rig, vm):
    found = rig.driver.find_bundle(vm)

    assert found is not None
    assert plistlib.loads((found / "config.plist").read_bytes())["Information"]["UUID"] == vm.uuid


def test_a_running_machine_cannot_be_started(rig, vm):
    rig.driver.start(vm)

    with pytest.raises(WrongState, match='"idle" is running'):
        rig.driver.start(vm)

    assert rig.driver.state(vm) == MachineState.RUNNING


def test_of_two_starters_one_wins(rig, vm):
    outcomes = []

    def start() -> None:
        try:
            rig.driver.start(vm)
            outcomes.append("won")
        except WrongState:
            outcomes.append("lost")

    starters = [threading.Thread(target=start) for _ in range(2)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()

    assert sorted(outcomes) == ["lost", "won"]
    assert rig.driver.state(vm) == MachineState.RUNNING


def test_a_machine_whose_process_was_killed_is_stopped_and_starts_again(rig, vm):
    rig.driver.start(vm)

    rig.kill(vm)
    after = rig.driver.state(vm)
    rig.driver.start(vm)

    assert after == MachineState.STOPPED
    assert rig.driver.state(vm) == MachineState.RUNNING


def test_a_suspended_process_is_seen_and_can_be_forced(rig, vm):
    rig.driver.start(vm)
    rig.suspend(vm)

    seen = {rig.driver.state(vm) for _ in range(4)}
    forced = rig.driver.stop(vm, timeout_s=60, force=True)

    assert seen == {MachineState.RUNNING}
    assert forced
    assert rig.driver.state(vm) == MachineState.STOPPED


def test_a_machine_that_does_not_hear_is_forced_at_the_deadline(rig, vm):
    rig.driver.start(vm)

    forced = rig.driver.stop(vm, timeout_s=0.5)

    assert forced
    assert rig.driver.state(vm) == MachineState.STOPPED


@pytest.mark.parametrize("force", [False, True])
def test_a_stopped_machine_cannot_be_stopped(rig, vm, force):
    with pytest.raises(WrongState, match='"idle" is not running') as caught:
        rig.driver.stop(vm, timeout_s=1, force=force)

    assert caught.value.hint == "vmkit start idle"


def test_only_a_running_machine_has_an_address(rig, vm):
    with pytest.raises(WrongState):
        rig.driver.address(vm)

    rig.driver.start(vm)

    assert rig.driver.address(vm) == Address(host="127.0.0.1", port=_forwarded(vm))


def test_a_taken_port_is_told_apart_and_another_start_works_when_it_is_free(rig, vm):
    with rig.taken(_forwarded(vm)):
        with pytest.raises(PortTaken):
            rig.driver.start(vm)
        after = rig.driver.state(vm)

    rig.driver.start(vm)

    assert after == MachineState.STOPPED
    assert rig.driver.state(vm) == MachineState.RUNNING


def test_a_hypervisor_that_dies_at_once_is_quoted(rig, vm):
    rig.spoil(vm)

    with pytest.raises(ToolFailed) as caught:
        rig.driver.start(vm)

    assert not isinstance(caught.value, PortTaken)
    assert "-nonsense: invalid option" in caught.value.detail
    assert rig.driver.state(vm) == MachineState.STOPPED


def test_a_machine_without_its_bundle_is_broken(rig, vm):
    (vm.bundle / "config.plist").unlink()

    assert rig.driver.state(vm) == MachineState.BROKEN


def test_the_console_is_kept_after_the_machine_has_stopped(rig, vm):
    rig.driver.start(vm)
    rig.driver.stop(vm, timeout_s=0, force=True)

    assert rig.driver.console_log(vm).is_file()


def test_the_facts_of_a_running_machine_say_how_it_runs(rig, vm):
    rig.driver.start(vm)

    facts = rig.driver.facts(vm)

    assert ": " in facts["accelerator"]
    assert facts[rig.says]


def test_a_machine_is_added_once(rig, vm):
    rig.driver.add(vm)
    rig.driver.add(vm)

    assert rig.driver.state(vm) == MachineState.STOPPED


def test_a_removed_machine_is_removed_again_without_complaint(rig, vm):
    rig.driver.remove(vm)
    rig.driver.remove(vm)


def test_a_suspended_machine_goes_on_where_it_was(rig, vm):
    rig.driver.start(vm)

    rig.driver.suspend(vm)
    paused = rig.driver.state(vm)
    rig.driver.start(vm)

    assert paused == MachineState.PAUSED
    assert rig.driver.state(vm) == MachineState.RUNNING


def test_a_paused_machine_can_be_forced(rig, vm):
    rig.driver.start(vm)
    rig.driver.suspend(vm)

    forced = rig.driver.stop(vm, timeout_s=60, force=True)

    assert forced
    assert rig.driver.state(vm) == MachineState.STOPPED


def test_only_a_running_machine_can_be_suspended(rig, vm):
    with pytest.raises(WrongState, match='"idle" is not running'):
        rig.driver.suspend(vm)


def test_a_linux_guest_has_no_recovery_system(rig, vm):
    with pytest.raises(UsageError, match="recovery"):
        rig.driver.start(vm, recovery=True)

    assert rig.driver.state(vm) == MachineState.STOPPED


def test_the_port_of_a_stopped_machine_can_be_moved(rig, vm):
    port = _free_port()

    rig.driver.move_port(vm, port)
    rig.driver.start(vm)

    assert rig.driver.address(vm) == Address(host="127.0.0.1", port=port)


def test_a_guest_is_asked_in_one_more_way_unless_it_is_forced(rig, vm):
    asked = []
    rig.driver.start(vm)
    rig.driver.stop(vm, timeout_s=4, ask=lambda: asked.append("gently"))
    rig.driver.start(vm)
    rig.driver.stop(vm, timeout_s=0.5, force=True, ask=lambda: asked.append("never"))

    assert asked == ["gently"]


def test_a_disposable_start_runs(rig, vm):
    rig.driver.start(vm, disposable=True)

    assert rig.driver.state(vm) == MachineState.RUNNING
