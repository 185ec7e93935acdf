"""`verify` around a guest that cannot be trusted: nothing stays allowed, and no silence counts as closed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.closedguest import At, Place, made, sshd_port
from vmkit.errors import HostLacks, Refused, TransportFailed, WrongState
from vmkit.guest.base import Command, CommandFailed, Outcome
from vmkit.host.process import Completed, Runner
from vmkit.host.report import Silent
from vmkit.network.door import DOOR_PORT
from vmkit.network.judged import Observed
from vmkit.network.policy import Mode
from vmkit.network.walls import Wall
from vmkit.workflows.net import policy_of
from vmkit.workflows.verify import State, Verdict, state_of, verify
from vmkit.workflows.verify_control import run_control


class NoNamespaces(Runner):
    def run(self, argv: Any, **_: Any) -> Completed:
        raise HostLacks('"unshare" is not installed')


class Says(Runner):
    """A control that prints what it is given."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def run(self, argv: Any, **_: Any) -> Completed:
        return Completed(argv=tuple(argv), code=0, stdout=self.content, stderr=b"")


class Guest:
    """Answers with `said`, and looks what is allowed meanwhile."""

    def __init__(self, place: Place, said: bytes | BaseException) -> None:
        self.place, self.said = place, said
        self.allowed: list[str] = []
        self.given = b""

    def run(self, command: Command, *, stdin: bytes = b"", **_: object) -> Outcome:
        self.given = stdin
        self.allowed = [rule.host for rule in policy_of(self.place.machine).rules]
        if isinstance(self.said, BaseException):
            raise self.said
        return Outcome(command=str(command), code=0, stdout=self.said, stderr=b"")


NOTHING = json.dumps({"schema": 1, "fault": "", "answers": {}}).encode()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return made(tmp_path)


def run(place: Place, guest: Any, *, runner: Runner | None = None) -> Verdict:
    with sshd_port() as port:
        return verify(
            place.machine,
            guest=guest,
            machines=place.machines,
            driver=At(port),
            runner=runner or NoNamespaces(),
            report=Silent(),
            door=DOOR_PORT,
            environment={},
            logged_within_s=0.1,
        )


def test_a_guest_that_answers_nothing_passes_nothing(place: Place) -> None:
    verdict = run(place, Guest(place, NOTHING))

    inside = [one for one in verdict.findings if one.probe.task]
    assert inside
    assert {one.observed for one in inside} == {Observed.UNKNOWN}
    assert not verdict.passed


def test_a_guest_that_says_closed_to_everything_does_not_pass_the_proxys_walls(place: Place) -> None:
    class Yes(Guest):
        def run(self, command: Command, *, stdin: bytes = b"", **rest: object) -> Outcome:
            plan = json.loads(stdin.decode().splitlines()[0].removeprefix("PLAN = ").strip("'"))
            closed = {"seen": "closed", "said": "", "list": []}
            answers = {task["id"]: closed for task in plan["tasks"]}
            self.said = json.dumps({"schema": 1, "fault": "", "answers": answers}).encode()
            return super().run(command, stdin=stdin, **rest)

    verdict = run(place, Yes(place, b""))

    states = {wall: state_of(found) for wall, found in verdict.rows.items()}
    assert states[Wall.ADDRESSES] is State.NOT_SHOWN
    assert states[Wall.DOOR] is State.LEAKS
    assert not verdict.passed


def test_names_of_the_run_are_allowed_for_its_time_only(place: Place) -> None:
    before = policy_of(place.machine)
    guest = Guest(place, NOTHING)

    run(place, guest)

    assert any(host.endswith(".selftest.vmkit.invalid") for host in guest.allowed)
    assert policy_of(place.machine) == before


@pytest.mark.parametrize(
    "said",
    [
        b"garbage",
        TransportFailed("the connection was lost"),
        CommandFailed(Outcome(command="x", code=127, stdout=b"", stderr=b"python3: not found")),
        KeyboardInterrupt(),
    ],
)
def test_what_was_allowed_is_taken_back_whatever_goes_wrong(place: Place, said: Any) -> None:
    before = policy_of(place.machine)

    with pytest.raises((Refused, TransportFailed, CommandFailed, KeyboardInterrupt)):
        run(place, Guest(place, said))

    assert policy_of(place.machine) == before


def test_the_guest_is_told_nothing_of_this_computers_folders(place: Place) -> None:
    guest = Guest(place, NOTHING)

    run(place, guest)

    assert str(place.home).encode() not in guest.given
    assert str(Path.home() / ".").encode() not in guest.given.splitlines()[0]


def test_a_machine_of_macos_is_refused(place: Place) -> None:
    place.machine = replace(place.machine, system="macos")

    with pytest.raises(WrongState, match="not a Linux guest"):
        run(place, Guest(place, NOTHING))


@pytest.mark.parametrize("egress", ["open", "airgap"])
def test_without_a_closed_network_nothing_is_allowed_and_the_proxy_is_not_asked(place: Place, egress: str) -> None:
    place.machine = replace(place.machine, egress=egress)
    place.machine.policy.unlink()
    guest = Guest(place, NOTHING)

    verdict = run(place, guest)

    assert not any("selftest" in host for host in guest.allowed)
    assert verdict.mode is Mode(egress)
    assert not any(one.probe.stage is not None for one in verdict.findings)


def test_a_control_that_cannot_be_had_says_why_and_proves_nothing(place: Place) -> None:
    verdict = run(place, Guest(place, NOTHING))

    assert not verdict.control.shown
    assert "unshare" in (verdict.control.reason or "")
    assert {one.proved for one in verdict.findings if one.probe.task} == {None}


@pytest.mark.parametrize("said", [b"", b"garbage", b"{}", b'{"schema": 1, "fault": "", "answers": {}, "unable": []}'])
def test_a_control_that_talks_nonsense_was_not_shown(said: bytes) -> None:
    control = run_control([], plan={"door": 1, "tasks": []}, runner=Says(said))

    assert not control.shown
    assert control.reason


def test_a_control_in_which_a_probe_sees_nothing_makes_it_blind(place: Place) -> None:
    said = json.dumps({"schema": 1, "fault": "", "answers": {}, "unable": {"ping6": "no IPv6 here"}}).encode()

    verdict = run(place, Guest(place, NOTHING), runner=Says(said))

    proved = {one.probe.id: one.proved for one in verdict.findings}
    assert proved["internet"] is False
    assert proved["ping6"] is None
    assert "internet" in verdict.control.broken
