"""Real full-screen programs look the same behind the terminal filter: every cell, the cursor and the modes."""

from pathlib import Path

import pytest

from tests.fullscreen import Emulator, programs, record
from tests.kirosim.cli import Cli
from tests.kirosim.server import Server
from tests.kirosim.service import Service
from vmkit.guest.terminal import TerminalFilter


def looks_the_same(recorded: list[bytes]) -> Emulator:
    plain, filtered, screen = Emulator(), Emulator(), TerminalFilter()
    for number, output in enumerate(recorded):
        plain.feed(output)
        for start in range(0, len(output), 7):
            filtered.feed(screen.feed(output[start : start + 7]))
        assert filtered.text == plain.text, f"after {number} steps"
        assert filtered.state == plain.state, f"after {number} steps"
    return filtered


@pytest.mark.parametrize("name", ["vi", "top", "less", "tmux"])
def test_a_program_looks_the_same_behind_the_filter(name: str, tmp_path: Path) -> None:
    available = programs(tmp_path)
    if name not in available:
        pytest.skip(f"{name} is not installed")
    argv, steps = available[name]

    recorded = record(argv, steps, home=tmp_path)

    assert len(b"".join(recorded)) > 1000
    looks_the_same(recorded)


def test_kiros_menu_and_spinner_look_the_same_behind_the_filter(tmp_path: Path) -> None:
    with Server(service=Service(interval_s=0.15, new_code=lambda: "ABCD-EFGH")) as server:
        cli = Cli(tmp_path, service=server.address)
        with cli.terminal("login", "--use-device-flow") as terminal:
            menu = terminal.wait_for("Use with Your Organization")
            terminal.type("\r")
            login = terminal.wait_for("Logging in")

    shown = looks_the_same([menu, login[len(menu) :]])

    assert "ABCD-EFGH" in shown.text


def test_a_filter_that_ate_a_sequence_would_be_noticed(tmp_path: Path) -> None:
    plain, other = Emulator(), Emulator()

    plain.feed(b"\x1b[5;5H\x1b[31mred")
    other.feed(b"\x1b[5;5Hred")

    assert plain.text == other.text
    assert plain.state != other.state
