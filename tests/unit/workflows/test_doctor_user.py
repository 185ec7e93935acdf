"""What doctor says of who the machines' processes are."""

import dataclasses
from pathlib import Path

from tests.unit.machines.test_model import MACHINE
from vmkit.errors import HostLacks
from vmkit.machines.store import BrokenMachine
from vmkit.workflows.doctor import user_checks

MACHINES = [
    dataclasses.replace(MACHINE, name="a", driver="qemu"),
    BrokenMachine(name="b", folder=Path("/nowhere"), reason="torn"),
    dataclasses.replace(MACHINE, name="c", driver="utm"),
]


def test_an_ordinary_user_is_no_finding() -> None:
    assert list(user_checks(MACHINES, account=lambda _role, _uuid: None)) == []


def test_root_is_told_who_each_qemu_is() -> None:
    [check] = user_checks(MACHINES, account=lambda role, uuid: len(role + uuid))

    assert check.status == "warn"
    assert check.detail == f"vmkit itself runs as root; a's QEMU drops to {len('qemu' + MACHINE.uuid)}"
    assert check.fix


def test_root_without_machines_is_told_that_they_will_be_others() -> None:
    [check] = user_checks([], account=lambda _role, _uuid: 1)

    assert "a user of its own that has no account" in check.detail


def test_a_root_that_cannot_drop_is_a_failure_with_its_fix() -> None:
    def account(_role: str, _uuid: str) -> int:
        raise HostLacks("no number", detail="too few")

    [check] = user_checks(MACHINES, account=account)

    assert (check.status, check.detail) == ("fail", "no number: too few")
    assert check.fix
