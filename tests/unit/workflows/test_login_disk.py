"""Opening a login's disk in the guest: what is sent there, and what each of its answers means."""

from pathlib import Path

import pytest

from tests.unit.workflows.test_login_store import made
from vmkit.errors import ToolFailed, WrongState
from vmkit.guest.base import Outcome
from vmkit.host.paths import Paths
from vmkit.host.report import Silent
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.testing.guest import FakeGuest, Response
from vmkit.workflows.login_disk import DiskState, _script, disk_state, unlock, wipe
from vmkit.workflows.login_store import take_key

MOUNTED = """sh -c 'mountpoint -q "$HOME/.local/share/kiro-cli"'"""


@pytest.fixture
def machines(tmp_path: Path) -> MachineStore:
    tmp_path.chmod(0o700)
    return MachineStore(Paths(config=tmp_path / "config", data=tmp_path, cache=tmp_path / "cache"))


def guest_that(response: Response) -> FakeGuest:
    """Answer the opening of a disk, whether its key is new or not."""
    commands = [str(_script("unlock.sh", "agent", word)) for word in ("new", "")]
    return FakeGuest(dict.fromkeys(commands, response))


def open_it(machine: Machine, guest: FakeGuest, machines: MachineStore) -> bool:
    return unlock(guest, machine, machines=machines, report=Silent())


def test_the_key_goes_in_on_standard_input_and_nowhere_else(machines: MachineStore) -> None:
    machine, guest = made(machines), guest_that(b"")

    opened = open_it(machine, guest, machines)

    key = take_key("a", paths=machines.paths)[0].value
    assert opened
    assert guest.inputs == [f"{key}\n".encode()]
    assert key not in "".join(guest.ran)


def test_only_a_key_that_was_made_just_now_lets_the_guest_make_the_disk_anew(machines: MachineStore) -> None:
    machine, guest = made(machines), guest_that(b"")

    open_it(machine, guest, machines)
    open_it(machine, guest, machines)

    assert [command.endswith(" new") for command in guest.ran] == [True, False]


def test_a_machine_without_such_a_disk_is_asked_nothing(machines: MachineStore) -> None:
    guest = FakeGuest()

    assert open_it(made(machines, with_login=False), guest, machines)
    assert guest.ran == []
    assert not machines.paths.login_keys.exists()


def test_a_guest_without_cryptsetup_is_no_error_yet(machines: MachineStore) -> None:
    assert not open_it(made(machines), guest_that(45), machines)


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        (44, "serial number login", "vmkit restart a"),
        (46, "another key", "vmkit auth logout a"),
        (47, "in use", "vmkit restart a"),
        (1, "could not be unlocked", "vmkit login a"),
    ],
)
def test_every_failure_has_its_words_and_its_next_command(
    machines: MachineStore, code: int, words: str, hint: str
) -> None:
    said = Outcome(command="", code=code, stdout=b"", stderr=b"what \x1b[2J it said")

    with pytest.raises(ToolFailed) as caught:
        open_it(made(machines), guest_that(said), machines)

    assert words in caught.value.message
    assert (caught.value.hint or "").startswith(hint)
    assert "it said" in (caught.value.detail or "")
    assert (caught.value.detail or "").isprintable()


def test_a_disk_that_a_program_still_uses_is_said_to_be(machines: MachineStore) -> None:
    guest = FakeGuest({str(_script("wipe.sh", "agent")): 47})

    with pytest.raises(WrongState) as caught:
        wipe(guest, made(machines))

    assert caught.value.hint == "vmkit restart a"


@pytest.mark.parametrize(("code", "state"), [(0, DiskState.UNLOCKED), (32, DiskState.LOCKED)])
def test_the_guest_says_whether_the_disk_is_open(machines: MachineStore, code: int, state: DiskState) -> None:
    assert disk_state(FakeGuest({MOUNTED: code}), made(machines)) is state


def test_a_machine_without_such_a_disk_has_none(machines: MachineStore) -> None:
    assert disk_state(FakeGuest(), made(machines, with_login=False)) is DiskState.NONE
