"""`vmkit verify` in namespaces: it sees every open door, and each control that is removed turns its own row red alone."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import closedguest
from tests.closedguest import At, NamespaceGuest, Place
from tests.removed import REMOVED, without
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.network.door import DOOR_PORT
from vmkit.network.policy import Policy
from vmkit.network.walls import Wall
from vmkit.workflows.verify import State, Verdict, state_of, verify

WHY_NOT = closedguest.why_no_namespaces()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"no namespaces here: {WHY_NOT}")

CANARY = {"VMKIT_TEST_CANARY": "a value that only this computer has"}


@pytest.fixture
def place() -> Iterator[Place]:
    home = Path(tempfile.mkdtemp(prefix="vmkit-verify-"))
    yield closedguest.made(home)
    shutil.rmtree(home)


def run(place: Place, *removed: str, listens_at: str = "127.0.0.1", env: dict[str, str] | None = None) -> Verdict:
    with closedguest.sshd_port(listens_at) as port:
        return verify(
            place.machine,
            guest=NamespaceGuest(place.door, *removed, env=env),
            machines=place.machines,
            driver=At(port),
            runner=Runner(),
            report=Silent(),
            door=DOOR_PORT,
            environment=CANARY,
        )


def fallen(verdict: Verdict) -> dict[Wall, State]:
    """Return the rows that are not green."""
    return {wall: state for wall, found in verdict.rows.items() if (state := state_of(found)) is not State.HOLDS}


def told(verdict: Verdict) -> str:
    """Return what each probe saw, for a test that fails."""
    return "\n".join(
        f"{one.probe.wall} {one.probe.id} {one.observed} control: {one.proved} {one.evidence}"
        for one in verdict.findings
        if not one.passed
    )


def test_every_wall_of_a_closed_guest_holds_and_the_control_shows_every_door_open(place: Place) -> None:
    with place.proxy():
        verdict = run(place)

    assert fallen(verdict) == {}, told(verdict)
    assert verdict.passed
    assert verdict.control.shown, verdict.control.reason
    assert {one.proved for one in verdict.findings} == {True}
    assert set(verdict.rows) == set(Wall)


def test_what_was_allowed_for_the_run_is_taken_back(place: Place) -> None:
    before = place.policy()

    with place.proxy():
        run(place)

    assert place.policy() == before


@pytest.mark.parametrize(
    ("removed", "wall"),
    [
        ("card", Wall.CARD),
        ("resolver", Wall.RESOLVER),
        ("agent", Wall.AGENT),
        ("x11", Wall.X11),
        ("forwards", Wall.LISTENERS),
        ("shares", Wall.SHARES),
        ("webdav", Wall.SHARES),
        ("clipboard", Wall.CHANNELS),
        ("smbios", Wall.SMBIOS),
        ("door", Wall.DOOR),
    ],
)
def test_a_control_that_the_guest_lacks_turns_its_own_row_red(place: Place, removed: str, wall: Wall) -> None:
    with place.proxy():
        verdict = run(place, removed)

    leaking = {wall for wall, state in fallen(verdict).items() if state is State.LEAKS}
    assert leaking == {wall}, told(verdict)
    assert removed == "door" or set(fallen(verdict)) == {wall}
    assert not verdict.passed


def test_a_variable_of_this_computer_in_the_guest_turns_its_own_row_red(place: Place) -> None:
    with place.proxy():
        verdict = run(place, env=CANARY)

    assert fallen(verdict) == {Wall.ENVIRONMENT: State.LEAKS}, told(verdict)
    assert not any(value in told(verdict) for value in CANARY.values())


def test_a_forward_that_everybody_reaches_turns_its_own_row_red(place: Place) -> None:
    with place.proxy():
        verdict = run(place, listens_at="0.0.0.0")

    assert fallen(verdict) == {Wall.FORWARD: State.LEAKS}, told(verdict)


def test_a_folder_of_sockets_that_others_may_enter_turns_its_own_row_red(place: Place) -> None:
    place.machines.paths.sockets(place.machine.uuid).chmod(0o755)

    with place.proxy():
        verdict = run(place)

    assert fallen(verdict) == {Wall.FILES: State.LEAKS}, told(verdict)


@pytest.mark.parametrize("name", REMOVED)
def test_a_control_that_the_proxy_lacks_turns_its_own_row_red(place: Place, name: str) -> None:
    removed = REMOVED[name]
    strict = place.policy
    place.policy = lambda: removed.policy(strict())

    with without(removed), place.proxy():
        verdict = run(place)

    assert fallen(verdict) == {removed.wall: State.LEAKS}, told(verdict)


def test_a_policy_file_with_a_wildcard_over_everything_is_a_leak_of_its_own_row(place: Place) -> None:
    with (place.machine.folder / "policy.toml").open("a") as file:
        file.write('\n[[allow]]\nhost = "*.amazonaws.com"\n')
    strict = Policy(mode=place.machine.egress, rules=())
    place.policy = lambda: strict

    with place.proxy():
        verdict = run(place)

    assert [wall for wall, state in fallen(verdict).items() if state is State.LEAKS] == [Wall.BROAD], told(verdict)


def test_a_policy_that_is_open_is_a_leak_of_a_closed_machine(place: Place) -> None:
    (place.machine.folder / "policy.toml").write_text('mode = "open"')

    with place.proxy():
        verdict = run(place)

    assert {wall for wall, state in fallen(verdict).items() if state is State.LEAKS} >= {Wall.NAMES, Wall.BROAD}
    assert not verdict.passed


def test_an_airgapped_guest_has_no_door(place: Place) -> None:
    place.machine = replace(place.machine, egress="airgap")
    (place.machine.folder / "policy.toml").unlink()

    verdict = run(place, "door")

    assert fallen(verdict) == {}, told(verdict)
    assert verdict.mode == "airgap"


def test_an_open_network_is_told_by_its_leaks(place: Place) -> None:
    place.machine = replace(place.machine, egress="open")
    (place.machine.folder / "policy.toml").unlink()

    verdict = run(place, "card", "resolver", "door")

    assert set(fallen(verdict)) == {Wall.CARD, Wall.RESOLVER}, told(verdict)


def test_the_listeners_of_this_computer_tell_on_a_guest_that_lies(place: Place) -> None:
    class Liar(NamespaceGuest):
        def run(self, command: Any, *, stdin: bytes = b"", check: bool = True, **rest: object) -> Any:
            plan = stdin.decode()
            port = int(plan.split('"id": "host-tcp"', 1)[1].split('"port": ', 1)[1].split(",", 1)[0])
            socket.create_connection(("127.0.0.1", port)).close()
            return super().run(command, stdin=stdin, check=check)

    with place.proxy(), closedguest.sshd_port() as port:
        verdict = verify(
            place.machine,
            guest=Liar(place.door),
            machines=place.machines,
            driver=At(port),
            runner=Runner(),
            report=Silent(),
            door=DOOR_PORT,
            environment=CANARY,
        )

    assert fallen(verdict) == {Wall.CARD: State.LEAKS}, told(verdict)
    [leak] = [one for one in verdict.findings if not one.passed]
    assert leak.probe.id == "host-listeners"
