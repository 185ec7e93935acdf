"""`vmkit net` in process: exit code, stdout, stderr."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.unit.machines.test_model import MACHINE
from vmkit.cli import main
from vmkit.host.paths import Paths
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.net import log_path


def vmkit(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("VMKIT_HOME", str(tmp_path))
    monkeypatch.delenv("VMKIT_MACHINE", raising=False)
    machine = dataclasses.replace(
        MACHINE, name="kiro-vm", folder=tmp_path / "machines" / "kiro-vm", egress="strict", recipes=("kiro-cli",)
    )
    machine.folder.mkdir(parents=True)
    MachineStore(Paths(config=tmp_path, data=tmp_path, cache=tmp_path / "cache")).save(machine)
    return machine


def logged(machine: Machine, **changes: object) -> None:
    entry = {"time": "2027-01-15T08:00:00Z", "kind": "refused", "host": "a.example.com", "port": 443, "allowed": False}
    with log_path(machine).open("a") as log:
        log.write(json.dumps(entry | changes) + "\n")


CODES = [
    (("net", "show"), 0),
    (("net", "show", "nobody"), 3),
    (("net", "allow", "kiro-vm", "pypi.org"), 0),
    (("net", "allow", "pypi.org"), 0),
    (("net", "allow", "nobody", "pypi.org"), 3),
    (("net", "allow", "kiro-vm", "pypi", "npm", "--for", "30m"), 0),
    (("net", "allow", "kiro-vm", "pypi.org", "--for", "soon"), 2),
    (("net", "allow", "kiro-vm", "pipy"), 2),
    (("net", "allow", "kiro-vm", "pypi.org:99999"), 2),
    (("net", "allow", "kiro-vm", "https://pypi.org"), 2),
    (("net", "allow", "kiro-vm", "*.amazonaws.com"), 6),
    (("net", "allow", "kiro-vm", "127.0.0.1"), 6),
    (("net", "allow"), 2),
    (("net", "deny", "kiro-vm", "pypi.org"), 0),
    (("net", "deny", "kiro-vm", "pypi.org:443"), 2),
    (("net", "why", "kiro-vm", "deb.debian.org"), 0),
    (("net", "why", "deb.debian.org:80"), 0),
    (("net", "why", "kiro-vm", "evil.example"), 6),
    (("net", "why", "kiro-vm", "a.b", "c.d"), 2),
    (("net", "log"), 0),
    (("net", "learn"), 0),
    (("net", "learn", "--propose"), 0),
    (("net", "learn", "--propose", "--stop"), 2),
    (("net",), 2),
]


@pytest.mark.parametrize(("words", "code"), CODES, ids=[" ".join(words) for words, _ in CODES])
def test_exit_codes(words: tuple[str, ...], code: int) -> None:
    assert vmkit(*words) == code


@pytest.mark.parametrize("egress", ["open", "airgap"])
def test_a_network_that_is_not_closed_is_a_wrong_state(egress: str, machine: Machine) -> None:
    (machine.folder / "policy.toml").write_text(f'mode = "{egress}"')

    assert vmkit("net", "allow", "kiro-vm", "pypi.org") == 4


def test_show_is_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    vmkit("net", "allow", "kiro-vm", "a.example.com:8443", "--for", "2h")
    capsys.readouterr()

    vmkit("net", "show")
    text = capsys.readouterr().out
    vmkit("net", "show", "--json")
    shown = json.loads(capsys.readouterr().out)

    [row] = [line for line in text.splitlines() if line.startswith("a.example.com")]
    assert row.split()[:5] == ["a.example.com", "8443", "-", "user", "in"]
    assert (shown["schema"], shown["mode"], shown["denied"]) == (1, "strict", [])
    assert {rule["group"] for rule in shown["rules"]} == {"kiro", "debian", None}


def test_a_change_speaks_on_stderr_and_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    vmkit("net", "allow", "kiro-vm", "github.com")
    said = capsys.readouterr()
    vmkit("net", "deny", "kiro-vm", "github.com", "--json")
    changed = json.loads(capsys.readouterr().out)

    assert said.out == ""
    assert "may reach github.com" in said.err
    assert "push" in said.err
    assert [rule["host"] for rule in changed["removed"]] == ["github.com"]


def test_why_names_the_nearest_the_group_and_the_last_refusal(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    logged(machine, host="pypi.org", reason='"pypi.org" is not in the policy')

    vmkit("net", "why", "pypi.org")
    text = capsys.readouterr().out
    vmkit("net", "why", "pypi.org", "--json")
    said = json.loads(capsys.readouterr().out)

    assert "vmkit net allow kiro-vm pypi" in text
    assert 'last refused 2027-01-15T08:00:00Z: "pypi.org" is not in the policy' in text
    assert (said["allowed"], said["groups"], said["last_refusal"]["host"]) == (False, ["pypi"], "pypi.org")


def test_the_log_goes_through_the_line_filter(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    logged(machine, host="\x1b]52;c;x\x07.example", reason="\x1b[2J")
    logged(machine, kind="opened", allowed=True, host="deb.debian.org")

    vmkit("net", "log")
    both = capsys.readouterr().out
    vmkit("net", "log", "--refused", "--json")
    entries = json.loads(capsys.readouterr().out)["entries"]

    assert "\x1b" not in both
    assert len(both.splitlines()) == 2
    assert [entry["kind"] for entry in entries] == ["refused"]


def test_a_proposal_is_toml_on_stdout(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    logged(machine)

    vmkit("net", "learn", "--propose")

    said = capsys.readouterr()
    assert '[[allow]]\nhost = "a.example.com"' in said.out
    assert "policy.toml" in said.err
