"""The command line in process, against an empty home: exit code, stdout, stderr."""

import json
from pathlib import Path

import pytest

from vmkit.cli import main
from vmkit.cli.commands import ALIASES, COMMANDS


def vmkit(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VMKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VMKIT_MACHINE", raising=False)
    return tmp_path / "home"


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert vmkit("--version") == 0
    assert capsys.readouterr().out.startswith("vmkit ")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert vmkit("--help") == 0

    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("name", [*COMMANDS, *ALIASES])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert vmkit(name, "--help") == 0
    assert "Usage: vmkit" in capsys.readouterr().out


def test_an_empty_list_is_an_empty_array_and_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert vmkit("list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "machines": []}


def test_list_writes_nothing(home: Path) -> None:
    vmkit("list")

    assert not home.exists()


def test_an_unknown_command_is_usage_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert vmkit("craete", "a") == 2
    assert "create" in capsys.readouterr().err


def test_an_unknown_option_is_usage_and_speaks_json_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert vmkit("list", "--colour", "--json") == 2

    error = json.loads(capsys.readouterr().err)
    assert error["schema"] == 1
    assert error["error"]["code"] == 2
    assert "--colour" in error["error"]["message"]


@pytest.mark.parametrize(
    "words", [("info", "ghost"), ("exec", "ghost", "--", "true"), ("stop", "ghost"), ("delete", "ghost", "--yes")]
)
def test_a_missing_machine_is_not_found(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert vmkit(*words) == 3
    assert 'there is no machine "ghost"' in capsys.readouterr().err


@pytest.mark.parametrize("name", ["A", "1a", "-a", "a_b", "a" * 42, "a/b", "é", "a\n"])
def test_a_bad_name_is_usage(name: str) -> None:
    assert vmkit("create", "--no-start", "--", name) == 2


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--memory", "12Q"), 2),
        (("--memory", "1M"), 2),
        (("--memory", "-4G"), 2),
        (("--cpus", "0"), 2),
        (("--cpus", "many"), 2),
        (("--disk", "0"), 2),
        (("--disk", "9999T"), 2),
        (("--template", "kiroo"), 3),
        (("--image", "nothing-like-it"), 3),
        (("--image", "../x"), 2),
        (("--recipe", "nope"), 3),
        (("--set", "colour=blue"), 2),
        (("--set", "novalue"), 2),
        (("--egress", "wide"), 2),
        (("--driver", "vmware"), 2),
    ],
)
def test_bad_input_to_create_is_refused_with_a_hint_before_anything_is_written(
    flags: tuple[str, ...], code: int, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vmkit("create", "a", *flags) == code

    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "hint: " in err
    assert not home.exists()


def test_dry_run_writes_nothing_and_shows_the_plan(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vmkit("create", "a", "--cpus", "3", "--memory", "3072M", "--disk", "9", "--dry-run", "--json") == 0

    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["cpus"], plan["memory_mib"], plan["disk_gib"]) == (3, 3072, 9)
    assert not home.exists()


def test_settings_fill_in_what_flags_do_not_say(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('[defaults]\ncpus = 5\ntemplate = "debian"\nmemory = "2G"\n')

    assert vmkit("create", "a", "--memory", "1G", "--dry-run", "--json") == 0

    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["template"], plan["cpus"], plan["memory_mib"]) == ("debian", 5, 1024)


def test_an_unknown_setting_is_refused_with_the_nearest_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("[defaults]\nmemroy = 4\n")

    assert vmkit("create", "a", "--dry-run") == 2
    assert "defaults.memory" in capsys.readouterr().err


def test_config_set_keeps_comments_and_get_reads_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text("# mine\n[defaults]\ncpus = 2\n")

    assert vmkit("config", "set", "defaults.memory", "6G") == 0
    assert vmkit("config", "get", "defaults.memory") == 0

    assert capsys.readouterr().out == "6G\n"
    assert "# mine" in (home / "config.toml").read_text()


def test_a_broken_machine_is_listed_and_harms_no_other(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "machines" / "sick").mkdir(parents=True, mode=0o700)
    (home / "machines" / "sick" / "machine.json").write_text('{"schema": 1, "name": "\x1b[31m')

    assert vmkit("list", "--json") == 0

    machines = json.loads(capsys.readouterr().out)["machines"]
    assert [(machine["name"], machine["state"]) for machine in machines] == [("sick", "broken")]
    assert "\x1b" not in json.dumps(machines)


def test_a_broken_machine_is_deleted_by_force_only(home: Path) -> None:
    (home / "machines" / "sick").mkdir(parents=True, mode=0o700)

    assert vmkit("delete", "sick", "--yes") == 1
    assert vmkit("delete", "sick", "--force") == 0
    assert not (home / "machines" / "sick").exists()


def test_an_option_after_the_machine_s_name_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert vmkit("exec", "kiro-vm", "--layer", "srt", "--", "true") == 2
    assert "before the machine's name" in capsys.readouterr().err
