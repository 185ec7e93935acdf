"""`vmkit shell` in a real terminal emulator: full-screen programs, resizing, and a sane terminal after every end."""

import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from tests.e2e.harness import SCRIPT, Lab, eventually

pytestmark = pytest.mark.vm


class Tmux:
    """One tmux server of our own, 100 columns by 30 rows, running a shell in the lab's environment."""

    def __init__(self, lab: Lab) -> None:
        self.socket = f"vmkit-test-{uuid.uuid4().hex[:8]}"
        size = ("-x", "100", "-y", "30")
        argv = ("env", "PS1=host$ ", "bash", "--norc", "--noprofile")
        self("new-session", "-d", *size, *argv, env=lab.environment)

    def __call__(self, *words: str, env: dict[str, str] | None = None) -> str:
        argv = ["tmux", "-L", self.socket, "-f", "/dev/null", *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True, env=env).stdout

    def types(self, text: str, *, enter: bool = True) -> None:
        self("send-keys", "-l", text)
        if enter:
            self("send-keys", "Enter")

    def screen(self) -> str:
        return self("capture-pane", "-p")

    def waits_for(self, text: str) -> str:
        def seen() -> str | None:
            screen = self.screen()
            return screen if text in screen else None

        try:
            return str(eventually(seen, f"{text!r} on the screen", within_s=90))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen()}") from None

    def waits_for_prompt(self) -> None:
        eventually(lambda: self.screen().rstrip().endswith("host$"), "the prompt", within_s=90)

    def is_sane(self) -> bool:
        """Type a command blind and look: echo, line editing, cursor, the main screen, no mouse reports."""
        self.waits_for_prompt()
        self.types("clear; stty -a | grep -o ' echo \\| icanon' | tr -d ' \\n'; echo _$((6*7))_")
        self.waits_for("_42_")
        settings = self(
            "display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{bracket_paste_flag}"
        )
        return "icanonecho" in self.screen() and settings.split()[:3] == ["0", "1", "0"]

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def tmux(lab: Lab) -> Iterator[Tmux]:
    terminal = Tmux(lab)
    try:
        terminal.waits_for("host$")
        yield terminal
    finally:
        terminal.close()


def shell(machine: str, *words: str) -> str:
    return shlex.join([str(SCRIPT), "shell", machine, *words])


def test_a_login_shell_works_and_its_exit_code_is_ours(lab: Lab, machine: str, tmux: Tmux) -> None:
    tmux.types(shell(machine) + "; echo code=$?")
    tmux.waits_for(f"agent@{machine}")
    tmux.types("echo $TERM $((40+2)); exit 3")

    screen = tmux.waits_for("code=3")
    assert "42" in screen
    assert tmux.is_sane()


def test_top_fills_the_window_and_follows_its_size(lab: Lab, machine: str, tmux: Tmux) -> None:
    tmux.types(shell(machine, "--", "top", "-d", "1"))
    tmux.waits_for("load average")
    tmux("resize-window", "-x", "70", "-y", "20")
    eventually(lambda: _rows_used(tmux) >= 18, "top uses the smaller window")
    tmux("resize-window", "-x", "120", "-y", "40")
    eventually(lambda: _rows_used(tmux) >= 36, "top uses the larger window")
    tmux.types("q", enter=False)

    assert tmux.is_sane()


def test_vi_edits_a_file_and_leaves_the_screen_as_it_was(lab: Lab, machine: str, tmux: Tmux) -> None:
    tmux.types("echo before-vi; " + shell(machine, "--", "vi", "/tmp/edited"))
    tmux.waits_for('"/tmp/edited"')
    tmux.types("ihello from vi", enter=False)
    tmux("send-keys", "Escape")
    tmux.types(":wq")
    tmux.waits_for_prompt()

    assert lab.exec(machine, "cat", "/tmp/edited") == "hello from vi\n"
    assert "before-vi" in tmux.screen()
    assert tmux.is_sane()


def test_ctrl_c_goes_to_the_guest(lab: Lab, machine: str, tmux: Tmux) -> None:
    tmux.types(shell(machine))
    tmux.waits_for(f"agent@{machine}")
    tmux.types("sleep 4321; echo woken=$?")
    eventually(
        lambda: lab.run("exec", machine, "--", "pgrep", "-fx", "sleep 4321", code=None).returncode == 0, "sleep runs"
    )
    tmux("send-keys", "C-c")
    tmux.types("echo alive-$((1+1))")

    tmux.waits_for("alive-2")
    tmux.types("exit")
    assert tmux.is_sane()


@pytest.mark.parametrize("number", ["TERM", "HUP"])
def test_the_terminal_is_sane_after_vmkit_is_killed(lab: Lab, machine: str, tmux: Tmux, number: str) -> None:
    tmux.types(shell(machine, "--", "top"))
    tmux.waits_for("load average")
    pid = subprocess.run(
        ["pgrep", "-n", "-f", f"shell {machine} -- top"], check=True, capture_output=True, text=True
    ).stdout.split()[0]

    os.kill(int(pid), {"TERM": 15, "HUP": 1}[number])

    assert tmux.is_sane()


def test_the_terminal_is_sane_after_the_guest_dies(lab: Lab, tmux: Tmux) -> None:
    lab.run("create", "mortal", "-t", "debian", "--cpus", "1", "--memory", "512M")
    tmux.types(shell("mortal", "--", "top") + "; echo code=$?")
    tmux.waits_for("load average")

    os.kill(lab.pid_of("mortal"), 9)

    tmux.waits_for("code=255")
    assert tmux.is_sane()
    lab.run("delete", "mortal")


def test_what_a_guest_prints_cannot_reach_the_clipboard_or_the_title(lab: Lab, machine: str, tmux: Tmux) -> None:
    attack = r"printf '\033]0;owned\007\033]52;c;b3duZWQ=\007\033[21t\033[c\033]8;;https://evil.example\033\\link\033]8;;\033\\ done\n'"
    tmux("set-option", "-g", "set-clipboard", "on")
    tmux.types(shell(machine, "--", "sh", "-c", attack))
    tmux.waits_for("link done")

    assert "owned" not in tmux("display-message", "-p", "#{pane_title}")
    assert tmux("list-buffers") == ""
    assert tmux.is_sane()


def _rows_used(tmux: Tmux) -> int:
    return len(tmux.screen().rstrip("\n").splitlines())
