"""Where a login's disk lies: in one machine or in none; and its key, which is made once and seen by nobody."""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.machines.test_model import MACHINE
from vmkit.drivers.base import Vm
from vmkit.errors import Refused
from vmkit.host.paths import Paths
from vmkit.host.report import Silent
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.testing.bundle import idle_config, write_config
from vmkit.testing.driver import FakeDriver
from vmkit.workflows import login_store
from vmkit.workflows.delete import delete
from vmkit.workflows.start import boot

DRIVES = [
    {"Identifier": identifier, "ImageName": name, "ImageType": "Disk", "Interface": "VirtIO"}
    for identifier, name in (("D", "d.qcow2"), ("login", "login.qcow2"))
]


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


class Elsewhere(FakeDriver):
    """A hypervisor that has taken the disks to a folder of its own."""

    def __init__(self, bundle: Path | None) -> None:
        super().__init__(bundle_only=True)
        self.bundle = bundle

    def find_bundle(self, vm: Vm) -> Path | None:
        return self.bundle


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(config=tmp_path / "config", data=tmp_path / "data", cache=tmp_path / "cache")


@pytest.fixture
def machines(paths: Paths) -> MachineStore:
    paths.data.mkdir(mode=0o700)
    return MachineStore(paths)


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


def made(machines: MachineStore, name: str = "a", *, content: bytes = b"", with_login: bool = True) -> Machine:
    """Make a machine as `create` publishes it: with an empty login disk."""
    uuid = f"6F9619FF-8B86-4D01-B42D-{name.encode().hex().upper():0>12}"
    machine = dataclasses.replace(MACHINE, name=name, uuid=uuid, folder=machines.paths.machines / name)
    (machine.bundle / "Data").mkdir(parents=True)
    write_config(machine.vm(machine.folder), idle_config(name, port=22022) | {"Drive": DRIVES[: 1 + with_login]})
    (machine.bundle / "Data" / "d.qcow2").touch()
    if with_login:
        disk_of(machine).write_bytes(content)
    machines.save(machine)
    return machine


def disk_of(machine: Machine) -> Path:
    return machine.bundle / "Data" / "login.qcow2"


def kept(paths: Paths, name: str = "a") -> Path:
    return paths.logins / f"{name}.qcow2"


def opened(machine: Machine, paths: Paths) -> str:
    """Have the key made, as the first start does."""
    return login_store.take_key(machine.name, paths=paths)[0].value


def remove(machines: MachineStore, driver: FakeDriver, name: str = "a", **flags: bool) -> Notes:
    notes = Notes()
    delete(name, machines=machines, driver_for=lambda _: driver, report=notes, **flags)
    return notes


def test_a_login_goes_from_a_deleted_machine_to_the_next_of_its_name(
    machines: MachineStore, paths: Paths, driver: FakeDriver
) -> None:
    before = made(machines, content=b"login")
    key, inode = opened(before, paths), disk_of(before).stat().st_ino

    remove(machines, driver)
    between = kept(paths).stat().st_ino
    after = made(machines)
    login_store.attach(after, paths=paths)

    assert (between, disk_of(after).stat().st_ino) == (inode, inode)
    assert disk_of(after).read_bytes() == b"login"
    assert not kept(paths).exists()
    assert opened(after, paths) == key


def test_attaching_once_more_changes_nothing(machines: MachineStore, paths: Paths) -> None:
    machine = made(machines, content=b"login")

    login_store.attach(machine, paths=paths)

    assert disk_of(machine).read_bytes() == b"login"


def test_a_machine_of_another_name_gets_nothing(machines: MachineStore, paths: Paths, driver: FakeDriver) -> None:
    opened(made(machines, content=b"login"), paths)
    remove(machines, driver)
    other = made(machines, "b")

    login_store.attach(other, paths=paths)

    assert disk_of(other).read_bytes() == b""
    assert kept(paths).read_bytes() == b"login"
    assert opened(other, paths) != login_store.take_key("a", paths=paths)[0].value


def test_of_many_attempts_to_take_a_kept_login_one_succeeds(machines: MachineStore, paths: Paths) -> None:
    machine = made(machines)
    paths.logins.mkdir(mode=0o700)
    kept(paths).write_bytes(b"login")
    inode = kept(paths).stat().st_ino

    run_at_once(lambda: login_store.attach(machine, paths=paths), times=8)

    assert (disk_of(machine).stat().st_ino, disk_of(machine).stat().st_nlink) == (inode, 1)
    assert not kept(paths).exists()


def test_a_machine_without_such_a_drive_leaves_the_login_where_it_is(
    machines: MachineStore, paths: Paths, driver: FakeDriver
) -> None:
    opened(made(machines, content=b"login"), paths)
    remove(machines, driver)

    boot(made(machines, with_login=False), machines=machines, driver=driver, report=Silent())
    remove(machines, driver, force=True)

    assert kept(paths).read_bytes() == b"login"


def test_a_disk_that_was_never_opened_is_not_kept(machines: MachineStore, paths: Paths, driver: FakeDriver) -> None:
    made(machines, content=b"blank")

    remove(machines, driver)

    assert not kept(paths).exists()


def test_delete_says_what_becomes_of_a_login(machines: MachineStore, paths: Paths, driver: FakeDriver) -> None:
    machine = made(machines)
    opened(machine, paths)
    login_store.record_login(machine, paths=paths)

    said = remove(machines, driver).said

    assert any("vmkit auth logout a" in line for line in said)


def test_a_forgotten_login_leaves_neither_disk_nor_key_nor_record(
    machines: MachineStore, paths: Paths, driver: FakeDriver
) -> None:
    machine = made(machines, content=b"login")
    opened(machine, paths)
    login_store.record_login(machine, paths=paths)

    remove(machines, driver, forget_login=True)

    assert list(paths.logins.iterdir()) == []
    assert list(paths.login_keys.iterdir()) == []


def test_the_login_of_a_machine_with_a_broken_record_is_kept(
    machines: MachineStore, paths: Paths, driver: FakeDriver
) -> None:
    machine = made(machines, content=b"login")
    opened(machine, paths)
    (machine.folder / "machine.json").write_text("{")

    remove(machines, driver, force=True)

    assert kept(paths).read_bytes() == b"login"


def test_a_create_that_was_cut_off_before_the_login_came_in_gets_it_at_the_next_start(
    machines: MachineStore, paths: Paths, driver: FakeDriver
) -> None:
    opened(made(machines, content=b"login"), paths)
    remove(machines, driver)
    machine = made(machines)  # published, and then killed

    boot(machine, machines=machines, driver=driver, report=Silent())

    assert disk_of(machine).read_bytes() == b"login"


def test_a_delete_that_was_cut_off_after_the_login_went_out_can_be_taken_back(
    machines: MachineStore, paths: Paths, driver: FakeDriver
) -> None:
    machine = made(machines, content=b"login")
    opened(machine, paths)
    login_store.detach(machine, machines=machines, driver=driver)
    gone = disk_of(machine).exists()

    boot(machine, machines=machines, driver=driver, report=Silent())

    assert not gone
    assert disk_of(machine).read_bytes() == b"login"


def test_a_running_machine_is_not_given_another_disk(machines: MachineStore, paths: Paths, driver: FakeDriver) -> None:
    machine = made(machines, content=b"in use")
    boot(machine, machines=machines, driver=driver, report=Silent())
    driver.suspend(machines.vm(machine))
    paths.logins.mkdir(mode=0o700)
    kept(paths).write_bytes(b"other")

    boot(machine, machines=machines, driver=driver, report=Silent())

    assert disk_of(machine).read_bytes() == b"in use"


def test_a_login_is_copied_out_of_a_hypervisor_that_has_the_disks(
    machines: MachineStore, paths: Paths, tmp_path: Path
) -> None:
    machine = made(machines)
    opened(machine, paths)
    theirs = tmp_path / "theirs.utm"
    (theirs / "Data").mkdir(parents=True)
    disk_of(machine).rename(theirs / "Data" / "login.qcow2")
    (theirs / "Data" / "login.qcow2").write_bytes(b"login")

    remove(machines, Elsewhere(theirs))

    assert kept(paths).read_bytes() == b"login"


def test_a_login_that_cannot_be_read_is_said_to_be_lost(machines: MachineStore, paths: Paths) -> None:
    machine = made(machines)
    opened(machine, paths)
    login_store.record_login(machine, paths=paths)

    said = remove(machines, Elsewhere(None)).said

    assert any("goes with it" in line for line in said)
    assert not kept(paths).exists()


def test_a_machine_that_a_hypervisor_has_taken_over_is_left_alone(machines: MachineStore, paths: Paths) -> None:
    machine = made(machines)
    for file in (machine.bundle / "Data").iterdir():
        file.unlink()
    paths.logins.mkdir(mode=0o700)
    kept(paths).write_bytes(b"login")

    login_store.attach(machine, paths=paths)

    assert kept(paths).read_bytes() == b"login"


def test_a_key_is_made_once_and_nobody_else_can_read_it(paths: Paths) -> None:
    first, made_first = login_store.take_key("a", paths=paths)
    again, made_again = login_store.take_key("a", paths=paths)

    assert (made_first, made_again) == (True, False)
    assert first.value == again.value
    assert len(bytes.fromhex(first.value)) == 64
    assert paths.login_keys.stat().st_mode & 0o777 == 0o700
    assert [(file.name, file.stat().st_mode & 0o777) for file in paths.login_keys.iterdir()] == [("a.key", 0o600)]
    assert not paths.login_keys.is_relative_to(paths.data)


def test_of_many_processes_that_make_a_key_one_wins_and_all_take_it(paths: Paths) -> None:
    taken = list[tuple[str, bool]]()

    def take() -> None:
        key, is_new = login_store.take_key("a", paths=paths)
        taken.append((key.value, is_new))

    run_at_once(take, times=8)

    assert len({key for key, _ in taken}) == 1
    assert sum(is_new for _, is_new in taken) == 1
    assert len(list(paths.login_keys.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_can_read_is_refused(paths: Paths, mode: int) -> None:
    login_store.take_key("a", paths=paths)
    (paths.login_keys / "a.key").chmod(mode)

    with pytest.raises(Refused, match="nobody else"):
        login_store.take_key("a", paths=paths)


@pytest.mark.parametrize("content", [b"", b"00\n", b"\xff" * 128, b"x" * 400])
def test_what_is_no_key_is_refused(paths: Paths, content: bytes) -> None:
    login_store.take_key("a", paths=paths)
    (paths.login_keys / "a.key").write_bytes(content)

    with pytest.raises(Refused):
        login_store.take_key("a", paths=paths)


def test_since_when_a_login_is_outlives_its_machine(machines: MachineStore, paths: Paths, driver: FakeDriver) -> None:
    machine = made(machines)
    opened(machine, paths)
    login_store.record_login(machine, paths=paths)
    since = login_store.logged_in_since(machine, paths=paths)
    remove(machines, driver)

    assert since
    assert login_store.logged_in_since(made(machines), paths=paths) == since


def test_a_machine_without_such_a_disk_remembers_in_its_own_folder(machines: MachineStore, paths: Paths) -> None:
    machine = made(machines, with_login=False)

    login_store.record_login(machine, paths=paths)

    assert (machine.folder / "login.json").exists()
    assert not paths.logins.exists()


@pytest.mark.parametrize("changes", [{"image": ""}, {"backend": "apple"}])
def test_adopted_and_apple_machines_have_no_login_disk(machines: MachineStore, changes: dict[str, str]) -> None:
    machine = made(machines)

    assert login_store.has_login_disk(machine)
    assert not login_store.has_login_disk(dataclasses.replace(machine, **changes))


def run_at_once(work: Callable[[], None], *, times: int) -> None:
    gate = threading.Barrier(times)
    failed = list[BaseException]()

    def begin() -> None:
        gate.wait()
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=begin) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
