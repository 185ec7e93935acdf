"""Layers: what srt is told of the policy, and the words that run a program behind each."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.unit.machines.test_model import MACHINE
from vmkit.errors import WrongState
from vmkit.guest.base import Command, Outcome
from vmkit.machines.model import Machine
from vmkit.workflows.layer import Layer
from vmkit.workflows.layers import guest_settings, has_layer, in_layer, workspace_in
from vmkit.workflows.workspace import mark_workspace

WORKSPACE = Path("/w/my project")


class Guest:
    """Keeps what it is told, and answers with one code."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.told: list[tuple[str, bytes]] = []

    def run(self, command: Command, *, stdin: bytes = b"", **_: object) -> Outcome:
        self.told.append((str(command), stdin))
        return Outcome(command=str(command), code=self.code, stdout=b"", stderr=b"")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return dataclasses.replace(MACHINE, folder=tmp_path, egress="strict", recipes=("kiro-cli",))


def settings(machine: Machine, now: float = 0) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(guest_settings(machine, workspace=WORKSPACE, now=now))
    return found


def test_srt_in_a_closed_machine_goes_through_the_machine_s_own_way_out(machine: Machine) -> None:
    content = settings(machine)

    assert content["network"]["parentProxy"] == {"http": "http://127.0.0.1:13128", "https": "http://127.0.0.1:13128"}
    assert "runtime.us-east-1.kiro.dev:443" in content["network"]["allowedDomains"]
    assert content["filesystem"]["allowWrite"][0] == str(WORKSPACE)


def test_a_rule_for_a_time_counts_for_the_session_while_it_lives(machine: Machine) -> None:
    machine.policy.write_text('[[allow]]\nhost = "a.example.com"\nexpires = 2026-11-22T09:30:00Z\n')

    assert settings(machine, now=0)["network"]["allowedDomains"] == ["a.example.com:443"]
    assert settings(machine, now=2e9)["network"]["allowedDomains"] == []


def test_where_the_machine_is_open_srt_still_holds_to_what_its_recipes_need(machine: Machine) -> None:
    content = settings(dataclasses.replace(machine, egress="open"))

    assert "runtime.us-east-1.kiro.dev:443" in content["network"]["allowedDomains"]
    assert "parentProxy" not in content["network"]


def test_the_words_of_each_layer(machine: Machine) -> None:
    def laid(layer: Layer) -> list[str]:
        return in_layer(layer, ["kiro-cli", "chat"], machine=machine, guest=guest, workspace=WORKSPACE)

    guest = Guest()

    assert laid(Layer.NONE) == ["kiro-cli", "chat"]
    assert laid(Layer.CONTAINER) == ["sh", "/usr/local/lib/vmkit/container/run.sh", "kiro-cli", "chat"]
    assert guest.told == []
    assert laid(Layer.SRT)[0] == "/usr/local/bin/srt"
    assert laid(Layer.SRT)[-3:] == ["--", "kiro-cli", "chat"]
    assert json.loads(guest.told[0][1])["network"]["strictAllowlist"] is True


@pytest.mark.parametrize(("code", "there"), [(0, True), (1, False)])
def test_a_layer_is_there_when_its_last_step_is_stamped(code: int, there: bool) -> None:
    guest = Guest(code)

    assert has_layer(Layer.CONTAINER, guest) is there
    assert guest.told[0][0] == "test -f /var/lib/vmkit/steps/container.image"


def test_a_layer_is_laid_around_a_workspace(machine: Machine) -> None:
    with pytest.raises(WrongState, match="workspace"):
        workspace_in(machine)

    mark_workspace(machine, WORKSPACE)

    assert workspace_in(machine) == WORKSPACE
