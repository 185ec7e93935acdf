"""`vmkit verify` in process: what is shown, in text and JSON, and the errors before anything is tried."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.unit.machines.test_model import MACHINE
from vmkit.cli import main
from vmkit.cli.verify import show
from vmkit.host.paths import Paths
from vmkit.machines.store import MachineStore
from vmkit.network.judged import Finding, Observed
from vmkit.network.policy import Mode
from vmkit.network.probes import Door, Probe
from vmkit.network.walls import Wall
from vmkit.workflows.verify import State, Verdict, state_of
from vmkit.workflows.verify_control import Control


def finding(wall: Wall, observed: Observed, *, proved: bool | None = True, expected: Door = Door.CLOSED) -> Finding:
    probe = Probe(id=f"{wall}-{observed}", wall=wall, tries="something", expected=expected)
    return Finding(probe=probe, observed=observed, evidence="seen \x1b[2J so", proved=proved)


def verdict(*findings: Finding, mode: Mode = Mode.STRICT, shown: bool = True) -> Verdict:
    control = Control(shown=shown, reason=None if shown else "no namespaces")
    return Verdict(machine="kiro-vm", mode=mode, findings=findings, control=control, seconds=3.2)


CLOSED = finding(Wall.CARD, Observed.CLOSED)
DOOR = finding(Wall.DOOR, Observed.OPEN, expected=Door.OPEN)
LEAK = finding(Wall.NAMES, Observed.OPEN)
UNKNOWN = finding(Wall.PORTS, Observed.UNKNOWN)
BLIND = finding(Wall.X11, Observed.CLOSED, proved=False)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        ([CLOSED, DOOR], State.HOLDS),
        ([CLOSED, UNKNOWN], State.NOT_SHOWN),
        ([UNKNOWN, BLIND], State.BLIND),
        ([UNKNOWN, BLIND, LEAK], State.LEAKS),
        ([finding(Wall.DOOR, Observed.CLOSED, expected=Door.OPEN)], State.LEAKS),
        ([finding(Wall.CARD, Observed.CLOSED, proved=None)], State.HOLDS),
    ],
)
def test_a_row_is_as_bad_as_the_worst_behind_it(found: list[Finding], state: State) -> None:
    assert state_of(found) is state


@pytest.mark.parametrize(
    ("found", "passed"),
    [([CLOSED, DOOR], True), ([CLOSED, LEAK], False), ([CLOSED, UNKNOWN], False), ([CLOSED, BLIND], False)],
)
def test_one_probe_that_did_not_pass_fails_the_run(found: list[Finding], *, passed: bool) -> None:
    assert verdict(*found).passed is passed


def test_a_closed_machine_is_a_row_for_each_wall(capsys: pytest.CaptureFixture[str]) -> None:
    show(verdict(CLOSED, DOOR), all_probes=False)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["✓", "network-card", "1", "seen"],
        ["✓", "door", "1", "seen"],
    ]


def test_what_did_not_pass_is_told_with_its_evidence_fit_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    show(verdict(CLOSED, LEAK, BLIND), all_probes=False)

    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ") and "/" in line]
    assert len(told) == 2
    assert "names/names-open: something: open, expected closed: seen ^[[2J so" in told[0]
    assert "blind" in told[1]


def test_every_probe_is_told_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    show(verdict(CLOSED, DOOR), all_probes=True)

    assert "network-card/network-card-closed: something: closed: seen" in capsys.readouterr().out


def test_a_proof_that_was_not_shown_is_never_silent(capsys: pytest.CaptureFixture[str]) -> None:
    unproved = verdict(dataclasses.replace(CLOSED, proved=None), shown=False)

    show(unproved, all_probes=False)

    assert "not shown" in capsys.readouterr().out.splitlines()[1]
    assert unproved.passed
    data = unproved.to_json()
    assert data["control"] == {"shown": False, "reason": "no namespaces", "broken": []}
    assert [probe["control"] for probe in data["probes"]] == ["not shown"]


def test_the_json_has_what_the_contract_says() -> None:
    data = json.loads(json.dumps(verdict(CLOSED, LEAK).to_json()))

    assert data["passed"] is False
    assert data["walls"] == [
        {"id": "network-card", "state": "holds", "probes": 1},
        {"id": "names", "state": "leaks", "probes": 1},
    ]
    assert data["probes"][0] == {
        "id": "network-card-closed",
        "wall": "network-card",
        "expected": "closed",
        "observed": "closed",
        "passed": True,
        "tries": "something",
        "evidence": "seen \x1b[2J so",
        "control": "open",
    }


@pytest.mark.parametrize(("words", "code"), [(("verify", "nobody"), 3), (("verify", "kiro-vm"), 4), (("verify",), 4)])
def test_a_machine_that_does_not_run_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int
) -> None:
    monkeypatch.setenv("VMKIT_HOME", str(tmp_path))
    monkeypatch.delenv("VMKIT_MACHINE", raising=False)
    machine = dataclasses.replace(MACHINE, name="kiro-vm", folder=tmp_path / "machines" / "kiro-vm")
    machine.folder.mkdir(parents=True)
    MachineStore(Paths(config=tmp_path, data=tmp_path, cache=tmp_path / "cache")).save(machine)

    with pytest.raises(SystemExit) as ended:
        main(list(words))

    assert ended.value.code == code
