"""`vmkit policy import` in process: what is printed, what a machine's policy becomes, and what stays out."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.unit.machines.test_model import MACHINE
from vmkit.cli import main
from vmkit.host.paths import Paths
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.policy import load_groups, parse_policy
from vmkit.workflows.net import policy_of

ARTICLE = Path(__file__).parents[2] / "data" / "srt" / "article.json"


def vmkit(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("VMKIT_HOME", str(tmp_path))
    monkeypatch.delenv("VMKIT_MACHINE", raising=False)
    machine = dataclasses.replace(
        MACHINE, name="kiro-vm", folder=tmp_path / "machines" / "kiro-vm", egress="strict", recipes=()
    )
    machine.folder.mkdir(parents=True)
    MachineStore(Paths(config=tmp_path, data=tmp_path, cache=tmp_path / "cache")).save(machine)
    return machine


def settings(tmp_path: Path, *, allowed: list[str], denied: list[str]) -> str:
    path = tmp_path / "settings.json"
    network = {"allowedDomains": allowed, "deniedDomains": denied}
    path.write_text(json.dumps({"network": network, "filesystem": {"denyRead": [], "allowWrite": [], "denyWrite": []}}))
    return str(path)


def test_the_article_s_sample_becomes_a_policy_file_that_names_what_is_too_broad(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    code = vmkit("policy", "import", str(ARTICLE))

    said = capsys.readouterr()
    assert code == 0
    assert [rule.host for rule in parse_policy(said.out.encode(), groups=load_groups()).rules] == ["*.kiro.dev"]
    for domain in ("*.amazonaws.com", "*.awsapps.com", "*.aws.dev"):
        at = said.out.index(f"# network.allowedDomains: {domain}\n")
        assert "not taken over: " in said.out[at:].splitlines()[1]
    assert "q.us-east-1.amazonaws.com" in said.out
    assert "# vmkit net allow NAME kiro\n#     oidc.us-east-1.amazonaws.com\n" in said.out
    assert sum(line.startswith(("# network.", "# filesystem.")) for line in said.out.splitlines()) >= 3
    assert "nothing is changed" in said.err
    assert not machine.policy.exists()


def test_json_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    vmkit("policy", "import", str(ARTICLE), "--json")

    found = json.loads(capsys.readouterr().out)

    assert (found["schema"], found["changed"], found["policy"]["mode"]) == (1, None, "strict")
    assert [rule["host"] for rule in found["policy"]["rules"]] == ["*.kiro.dev"]
    assert any(remark["name"] == "network.allowedDomains: *.amazonaws.com" for remark in found["remarks"])
    assert "q.us-east-1.amazonaws.com" in [rule["host"] for rule in found["proposed"]]


def test_apply_takes_over_what_fits_and_nothing_that_is_refused(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["pypi.org", "a.example.com:8443", "*.amazonaws.com", "169.254.169.254"]
    file = settings(tmp_path, allowed=wanted, denied=["evil.example.com"])

    code = vmkit("policy", "import", file, "kiro-vm", "--apply")

    policy = policy_of(machine)
    said = capsys.readouterr()
    assert code == 0
    assert [(rule.host, rule.ports, rule.added_by) for rule in policy.rules] == [
        ("pypi.org", (443,), "user"),
        ("a.example.com", (8443,), "user"),
    ]
    assert policy.denied == ("evil.example.com",)
    assert said.out == ""
    assert "*.amazonaws.com: not taken over" in said.err
    assert "kiro-vm may reach a.example.com:8443" in said.err
    assert "kiro-vm may not reach evil.example.com" in said.err


def test_apply_is_all_or_nothing(machine: Machine, tmp_path: Path) -> None:
    machine.policy.write_text('mode = "strict"\ndeny = ["*.example.com"]\n')
    file = settings(tmp_path, allowed=["pypi.org", "a.example.com"], denied=[])

    code = vmkit("policy", "import", file, "--apply")

    assert code == 6
    assert policy_of(machine).rules == ()


def test_a_name_that_is_allowed_and_denied_is_denied(machine: Machine, tmp_path: Path) -> None:
    file = settings(tmp_path, allowed=["a.example.com"], denied=["a.example.com"])

    vmkit("policy", "import", file, "--apply")

    assert not policy_of(machine).decide("a.example.com", 443, now=0).allowed


def test_hostile_names_are_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smuggled = '[[allow]]{0}host = "evil.example"{0}'
    ends = ["\n", "\r", "\x0b", "\x1c", "\x85", "\u2028", "\u2029"]
    names = ["\x1b]52;c;x\x07.org", *(f"a{end}{smuggled.format(end)}" for end in ends)]
    file = settings(tmp_path, allowed=names, denied=["\u202e", *names])

    vmkit("policy", "import", file)

    said = capsys.readouterr().out
    assert parse_policy(said.encode(), groups=load_groups()).rules == ()
    assert all(line.isprintable() for line in said.splitlines())


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("policy",), 2),
        (("policy", "import"), 2),
        (("policy", "import", "/nonexistent.json"), 3),
        (("policy", "import", "/"), 2),
        (("policy", "import", str(ARTICLE), "nobody"), 3),
        (("policy", "import", str(ARTICLE), "nobody", "--apply"), 3),
        (("policy", "import", str(ARTICLE), "--apply"), 0),
        (("policy", "export"), 2),
        (("policy", "export", "--to", "podman"), 2),
        (("policy", "export", "nobody", "--to", "srt"), 3),
        (("policy", "export", "--to", "srt", "--template", "nothing"), 3),
        (("policy", "export", "kiro-vm", "--to", "srt", "--template", "kiro"), 2),
    ],
)
def test_exit_codes(words: tuple[str, ...], code: int) -> None:
    assert vmkit(*words) == code


def test_a_network_that_is_not_closed_is_a_wrong_state(machine: Machine) -> None:
    machine.policy.write_text('mode = "open"')

    assert vmkit("policy", "import", str(ARTICLE), "kiro-vm", "--apply") == 4


def test_export_writes_a_machine_s_or_a_template_s_policy_and_never_twice(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.policy.write_text('mode = "strict"\n[[allow]]\nhost = "a.example.com"\n')
    of_machine, of_template = tmp_path / "m.json", tmp_path / "t.json"

    codes = [
        vmkit("policy", "export", "kiro-vm", "--to", "srt", "--output", str(of_machine)),
        vmkit("policy", "export", "--to", "srt", "--output", str(of_template), "--json"),
        vmkit("policy", "export", "--to", "srt", "--output", str(of_template)),
        vmkit("policy", "export", "--to", "srt", "--output", str(of_template), "--force"),
    ]

    said = capsys.readouterr().out
    assert codes == [0, 0, 4, 0]
    assert json.loads(of_machine.read_text())["network"]["allowedDomains"] == ["a.example.com:443"]
    assert "runtime.us-east-1.kiro.dev:443" in json.loads(of_template.read_text())["network"]["allowedDomains"]
    assert '"source": "kiro"' in said


def test_an_open_network_has_no_settings_for_srt(machine: Machine, tmp_path: Path) -> None:
    machine.policy.write_text('mode = "open"')

    assert vmkit("policy", "export", "kiro-vm", "--to", "srt", "--output", str(tmp_path / "x")) == 4
    assert not (tmp_path / "x").exists()
