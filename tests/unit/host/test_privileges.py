"""Which numbers machines get when root runs vmkit, and that root cannot be had back."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vmkit.errors import HostLacks
from vmkit.host.privileges import drop_to, find_account

ONE, OTHER = "6F9619FF-8B86-4D01-B42D-00CF4FC964FF", "6F9619FF-8B86-4D01-B42D-00CF4FC964FE"
ALL = [range(2**32 - 1)]
CONTAINER = [range(65_536)]


def account(role: str = "qemu", machine: str = ONE, **changes: object) -> int | None:
    given: dict[str, object] = {"root": True, "mapped": ALL, "is_taken": lambda _number: False}
    return find_account(role, machine, **(given | changes))  # type: ignore[arg-type]  # as above


def test_an_ordinary_user_keeps_being_that_user() -> None:
    assert account(root=False) is None


def test_each_process_of_each_machine_has_a_number_of_its_own_and_keeps_it() -> None:
    numbers = [account(role, machine) for role in ("qemu", "keeper") for machine in (ONE, OTHER)]

    assert len({*numbers}) == 4
    assert account(machine=ONE.lower()) == account(machine=ONE)


def test_the_number_is_of_a_range_that_nobody_gives_out() -> None:
    assert account() in range(0x7000_0000, 0x8000_0000)
    assert account(mapped=CONTAINER) in range(30_000, 60_000)


def test_the_number_belongs_to_no_account() -> None:
    first = account()

    second = account(is_taken=lambda number: number == first)

    assert second not in (None, 0, first)


@pytest.mark.parametrize("changes", [{"mapped": [range(1)]}, {"mapped": []}, {"is_taken": lambda _number: True}])
def test_a_root_without_other_numbers_is_told_what_to_do(changes: dict[str, object]) -> None:
    with pytest.raises(HostLacks) as caught:
        account(**changes)

    assert caught.value.hint == "run vmkit as an ordinary user"


def in_a_child(act: Callable[[], object]) -> object:
    """Return what `act` returns in a process of its own, as JSON carries it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = act()
        except BaseException as error:
            said = repr(error)
        os.write(writer, json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = json.loads(pipe.read())
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop to another user")
def test_who_has_dropped_is_nobody_else_any_more_and_cannot_go_back(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    number = account()
    assert number is not None

    def drop() -> object:
        os.setgroups([0, 4])
        drop_to(number, number)
        status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
        try:
            os.setgid(0)
        except PermissionError:
            back = False
        else:
            back = True
        return {
            "ids": [*os.getresuid(), *os.getresgid()],
            "groups": os.getgroups(),
            "capabilities": {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {0},
            "no_new_privileges": status["NoNewPrivs"],
            "reads": os.access(secret, os.R_OK),
            "back": back,
        }

    assert in_a_child(drop) == {
        "ids": [number] * 6,
        "groups": [],
        "capabilities": True,
        "no_new_privileges": "1",
        "reads": False,
        "back": False,
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user first")
def test_an_ordinary_user_cannot_drop_to_another() -> None:
    def drop() -> object:
        drop_to(40_000, 40_000)
        drop_to(40_001, 40_001)

    assert "PermissionError" in str(in_a_child(drop))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stay root")
def test_staying_root_is_no_drop() -> None:
    assert "root could be had back" in str(in_a_child(lambda: drop_to(0, 0)))
