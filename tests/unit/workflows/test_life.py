"""The verbs against a fake driver: what they refuse, what they leave behind."""

import dataclasses
from pathlib import Path

import pytest

from tests.unit.machines.test_model import MACHINE
from vmkit.drivers.base import MachineState
from vmkit.errors import Busy, NotFound, Refused, WrongState
from vmkit.host.paths import Paths
from vmkit.host.report import Silent
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore, Unfinished, write_journal
from vmkit.testing.bundle import idle_config, write_config
from vmkit.testing.driver import FakeDriver
from vmkit.workflows.delete import delete
from vmkit.workflows.restart import restart
from vmkit.workflows.start import boot
from vmkit.workflows.status import status, status_of_all
from vmkit.workflows.stop import stop
from vmkit.workflows.suspend import suspend

PORT = 22022


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def machines(tmp_path: Path) -> MachineStore:
    return MachineStore(Paths(config=tmp_path, data=tmp_path, cache=tmp_path / "cache"))


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


def made(machines: MachineStore, name: str = "a", **changes: object) -> Machine:
    machine = dataclasses.replace(MACHINE, name=name, folder=machines.paths.machines / name, **changes)
    (machine.bundle / "Data").mkdir(parents=True)
    write_config(machine.vm(machine.folder), idle_config(name, port=PORT))
    machines.save(machine)
    return machine


def begin(machine: Machine, machines: MachineStore, driver: FakeDriver, report: Notes | None = None) -> None:
    boot(machine, machines=machines, driver=driver, report=report or Notes())


def test_every_start_of_an_open_machine_says_so(machines: MachineStore, driver: FakeDriver) -> None:
    notes = Notes()

    begin(made(machines), machines, driver, notes)

    assert any("is open" in said for said in notes.said)


def test_a_machine_without_egress_starts_without_that_warning(machines: MachineStore, driver: FakeDriver) -> None:
    notes = Notes()

    begin(made(machines, egress="airgap"), machines, driver, notes)

    assert notes.said == []


@pytest.mark.parametrize("address", ["0.0.0.0", "", None, "192.168.1.5", "::", "example.com"])
def test_a_forward_that_other_computers_reach_is_started_only_when_asked_for(
    machines: MachineStore, driver: FakeDriver, address: str | None
) -> None:
    machine, notes = made(machines, egress="airgap"), Notes()
    config = idle_config(port=PORT)
    config["Network"][0]["PortForward"][0] |= {"HostAddress": address}
    if address is None:
        del config["Network"][0]["PortForward"][0]["HostAddress"]
    write_config(machine.vm(machine.folder), config)

    with pytest.raises(Refused) as caught:
        begin(machine, machines, driver)
    refused = driver.state(machine.vm(machine.folder))
    boot(machine, machines=machines, driver=driver, report=notes, exposed=True)

    assert caught.value.detail is not None
    assert caught.value.detail.startswith(f"Network[0].PortForward[0].HostAddress: port {PORT} on ")
    assert "--exposed a" in str(caught.value.hint)
    assert refused == MachineState.STOPPED
    assert [line for line in notes.said if str(PORT) in line]
    assert driver.state(machine.vm(machine.folder)) == MachineState.RUNNING


def test_a_machine_that_could_not_start_again_is_not_stopped(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines, egress="airgap")
    begin(machine, machines, driver)
    config = idle_config(port=PORT)
    config["Network"][0]["PortForward"][0] |= {"HostAddress": "0.0.0.0"}
    write_config(machine.vm(machine.folder), config)

    with pytest.raises(Refused, match="other computers"):
        restart(machine, machines=machines, driver=driver, report=Notes(), force=True)

    assert driver.state(machine.vm(machine.folder)) == MachineState.RUNNING


def test_a_serial_port_that_other_computers_reach_is_refused_too(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines)
    config = idle_config(port=PORT)
    config["Serial"] += [
        {"Mode": "TcpServer", "Target": "Auto", "TcpPort": 4444, "RemoteConnectionAllowed": remote}
        for remote in (False, True)
    ]
    write_config(machine.vm(machine.folder), config)

    with pytest.raises(Refused, match="other computers") as caught:
        begin(machine, machines, driver)

    assert caught.value.detail == "Serial[2].RemoteConnectionAllowed: port 4444 on every address"


def test_a_taken_port_moves_the_bundle_to_another(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines)
    driver.taken_ports = {PORT}

    begin(machine, machines, driver)

    assert driver.address(machine.vm(machine.folder)).port != PORT


def test_starting_what_runs_is_a_wrong_state(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines)
    begin(machine, machines, driver)

    with pytest.raises(WrongState, match="is running"):
        begin(machine, machines, driver)


def test_a_stop_that_had_to_be_forced_says_so(machines: MachineStore, driver: FakeDriver) -> None:
    machine, notes = made(machines), Notes()
    driver.guests_hear = False
    begin(machine, machines, driver)

    forced = stop(machine, machines=machines, driver=driver, report=notes)

    assert forced
    assert any("forced" in said for said in notes.said)


def test_stopping_what_is_stopped_is_a_wrong_state_with_the_next_command(
    machines: MachineStore, driver: FakeDriver
) -> None:
    with pytest.raises(WrongState) as raised:
        stop(made(machines), machines=machines, driver=driver, report=Silent())

    assert raised.value.hint == "vmkit start a"


def test_a_busy_machine_is_left_alone(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines)

    with machines.lock("a", "start"), pytest.raises(Busy, match="start"):
        delete("a", machines=machines, driver_for=lambda _: driver, report=Silent())

    assert machine.folder.is_dir()


def test_a_running_machine_is_deleted_by_force_only(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines)
    begin(machine, machines, driver)

    with pytest.raises(WrongState):
        delete("a", machines=machines, driver_for=lambda _: driver, report=Silent())
    assert machine.folder.is_dir()
    delete("a", machines=machines, driver_for=lambda _: driver, report=Silent(), force=True)

    assert not machine.folder.exists()
    assert driver.running == {}


def test_a_running_machine_whose_create_never_ended_is_deleted_without_force(
    machines: MachineStore, driver: FakeDriver
) -> None:
    machine = made(machines)
    write_journal(machine.folder, Unfinished(operation="create", phase="boot"))
    begin(machine, machines, driver)

    delete("a", machines=machines, driver_for=lambda _: driver, report=Silent())

    assert driver.running == {}


def test_deleting_what_is_not_there_is_not_found(machines: MachineStore, driver: FakeDriver) -> None:
    with pytest.raises(NotFound):
        delete("a", machines=machines, driver_for=lambda _: driver, report=Silent())


def test_an_interrupted_create_is_creating_until_its_guest_runs(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines)
    write_journal(machine.folder, Unfinished(operation="create", phase="made"))
    before = status(machine, machines=machines, driver=driver)
    begin(machine, machines, driver)
    after = status(machine, machines=machines, driver=driver)

    assert before.state is MachineState.CREATING
    assert after.state is MachineState.RUNNING
    assert "create interrupted" in str(after.note)


def test_what_a_living_vmkit_does_is_the_state(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines)

    with machines.lock("a", "start"):
        assert status(machine, machines=machines, driver=driver).state is MachineState.STARTING


def test_a_machine_of_a_driver_that_is_not_here_is_broken_and_harms_no_other(
    machines: MachineStore, driver: FakeDriver
) -> None:
    made(machines, "a")
    made(machines, "b", driver="utm")

    def driver_for(name: str) -> FakeDriver:
        if name != "qemu":
            raise NotFound("no such driver")
        return driver

    states = {one.name: one.state for one in status_of_all(machines=machines, driver_for=driver_for)}

    assert states == {"a": MachineState.STOPPED, "b": MachineState.BROKEN}


def test_a_paused_machine_is_let_go_on_by_start(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines)
    begin(machine, machines, driver)
    suspend(machine, machines=machines, driver=driver)
    paused = status(machine, machines=machines, driver=driver).state

    begin(machine, machines, driver)

    assert (paused, status(machine, machines=machines, driver=driver).state) == (
        MachineState.PAUSED,
        MachineState.RUNNING,
    )


def test_a_stopped_machine_cannot_be_suspended(machines: MachineStore, driver: FakeDriver) -> None:
    with pytest.raises(WrongState, match="not running"):
        suspend(made(machines), machines=machines, driver=driver)


def test_a_deleted_machine_is_taken_out_of_its_hypervisor(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines)
    driver.add(machines.vm(machine))

    delete(machine.name, machines=machines, driver_for=lambda _: driver, report=Notes())

    assert driver.added == set()


def test_only_an_apple_machine_is_asked_to_stop_over_ssh_too(machines: MachineStore, driver: FakeDriver) -> None:
    for name, backend in (("a", "qemu"), ("b", "apple")):
        machine = made(machines, name, uuid=MACHINE.uuid[:-1] + name.upper(), backend=backend)
        begin(machine, machines, driver)
        stop(machine, machines=machines, driver=driver, report=Notes())

    assert driver.asked == ["b"]


def test_a_machine_that_has_no_address_yet_runs_all_the_same(machines: MachineStore, driver: FakeDriver) -> None:
    machine = made(machines)
    begin(machine, machines, driver)
    driver.lost_addresses.add(machine.uuid)

    shown = status(machine, machines=machines, driver=driver)

    assert (shown.state, shown.address, shown.note) == (MachineState.RUNNING, None, None)
