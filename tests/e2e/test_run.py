"""`vmkit run` in a terminal: from an empty store of machines to Kiro at work in a folder, in one command."""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import demo
from tests.e2e.harness import SCRIPT, Lab, eventually
from tests.e2e.test_shell import Tmux

pytestmark = pytest.mark.vm

NAME = "my-project"


@dataclass(frozen=True)
class Day:
    """A home with a simulated Kiro that approves by itself, and a folder to work in."""

    lab: Lab
    folder: Path


@pytest.fixture(scope="module")
def day(lab: Lab) -> Iterator[Day]:
    with tempfile.TemporaryDirectory(prefix="vmkit-run-") as root, demo.kirosim() as kiro:
        made = Lab(Path(root) / "home", extra={"VMKIT_KIRO_RELEASES": kiro["releases"]})
        made.home.mkdir(mode=0o700)
        subprocess.run(["cp", "-a", "--reflink=auto", lab.home / "images", made.home / "images"], check=True)
        # the simulated Kiro is on this computer, which a closed machine does not reach
        for key, value in (("cpus", "2"), ("memory", "1G"), ("disk", "8G"), ("egress", "open")):
            made.run("config", "set", f"defaults.{key}", value)
        folder = Path(root) / "My Project"
        (folder / "src").mkdir(parents=True)
        (folder / "src" / "main.py").write_text("print('hello')\n")
        try:
            yield Day(made, folder)
        finally:
            made.run("delete", "--force", NAME, code=None)


@pytest.fixture
def terminal(day: Day) -> Iterator[Tmux]:
    tmux = Tmux(day.lab)
    tmux.types(f"cd '{day.folder}'; clear")
    try:
        yield tmux
    finally:
        tmux.close()


def ran(day: Day) -> bool:
    return day.lab.state(NAME) == "running"


def test_one_command_makes_logs_in_brings_the_folder_in_and_starts_kiro(day: Day, terminal: Tmux) -> None:
    terminal.types(f"{SCRIPT} run")
    eventually(
        lambda: "trust" in terminal.screen(), "Kiro's prompt", within_s=1200
    )  # what the simulated chat says of --trust-all-tools
    terminal("send-keys", "C-d")
    terminal.waits_for_prompt()

    inside = day.lab.exec(NAME, "cat", f"{day.folder}/src/main.py")

    assert inside == "print('hello')\n"
    assert day.lab.json("auth", "status", NAME)["method"] == "free"


def test_the_second_time_it_goes_on_where_it_was(day: Day, terminal: Tmux) -> None:
    assert ran(day)
    day.lab.exec(NAME, "sh", "-c", 'echo "# by Kiro" >>"$1"', "sh", f"{day.folder}/src/main.py")

    terminal.types(f"{SCRIPT} run")
    terminal.waits_for("trust")
    terminal("send-keys", "C-d")
    terminal.waits_for_prompt()

    assert "Open this page" not in terminal.screen()
    assert day.lab.exec(NAME, "cat", f"{day.folder}/src/main.py").endswith("# by Kiro\n")  # not copied over


def test_a_login_after_the_dashes_starts_no_session(day: Day, terminal: Tmux) -> None:
    assert ran(day)

    terminal.types(f"{SCRIPT} run {NAME} -- login --use-device-flow; echo code=$?=$((6*7))")
    terminal.waits_for("=42")

    assert "was logged in with Builder ID" in terminal.screen()
    assert "code=0=42" in terminal.screen()


def test_once_a_folder_is_in_a_new_login_wants_to_be_asked_for_twice(day: Day) -> None:
    assert ran(day)
    day.lab.run("auth", "logout", NAME)

    refused = day.lab.run("login", NAME, code=6).stderr.decode()
    day.lab.run("login", NAME, "--after-workspace")

    assert "--after-workspace" in refused


@pytest.mark.parametrize(("words", "code"), [(["whoami"], 0), (["no-such-command"], 2)])
def test_the_exit_code_is_kiros(day: Day, words: list[str], code: int) -> None:
    assert ran(day)

    day.lab.run("run", NAME, "--", *words, code=code)


def test_a_folder_that_is_named_goes_in_whatever_kiro_is_told(day: Day) -> None:
    assert ran(day)
    other = day.folder.parent / "other"
    other.mkdir()
    (other / "file").write_text("here\n")

    day.lab.run("run", NAME, str(other), "--", "--version")

    assert day.lab.exec(NAME, "cat", f"{other}/file") == "here\n"
