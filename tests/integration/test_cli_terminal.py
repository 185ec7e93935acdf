"""The command line on a terminal, with a hostile guest behind it: what reaches the terminal, byte by byte."""

import os
import re
import select
import socket
from pathlib import Path

import pytest

from tests.cliclient import command_line, environment, place_machine
from tests.fullscreen import blocks, on_terminal
from tests.sshd import PROGRAM, running_sshd, until
from tests.unit.kiro.test_login import CODE, HOSTILE_OUTPUT, URL
from vmkit.host.paths import Paths
from vmkit.machines.store import MachineStore

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs sshd")

CONTROL = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
SHOWN_TO_USERS = (
    "url 0", "url 10", "url 24", "url 29", "carriage return over the host", "two codes", "bidi in the code",
    "link with another target", "a megabyte in a line",
)  # fmt: skip
QUERIES = b"\x1b[6n\x1b[c\x1b]52;c;?\x07"


@pytest.fixture
def home(tmp_path: Path):
    tmp_path.chmod(0o700)
    guest = tmp_path / "guest"
    (guest / ".local" / "bin").mkdir(parents=True)
    with running_sshd(tmp_path, extra=f"SetEnv HOME={guest}\n") as sshd:
        place_machine(MachineStore(Paths(config=tmp_path, data=tmp_path, cache=tmp_path / "cache")), sshd, name="a")
        yield tmp_path


def prints(home: Path, output: bytes, *, then: str) -> None:
    (home / "printed").write_bytes(output)
    kiro = home / "guest" / ".local" / "bin" / "kiro-cli"
    kiro.write_text(f'#!/bin/sh\n[ "$1" = whoami ] && exit 1\ncat "{home}/printed"; {then}\n')
    kiro.chmod(0o755)


def run(home: Path, *words: str, **more: str) -> tuple[int, bytes]:
    with on_terminal(command_line(*words), env=environment(home, **more)) as (terminal, child):
        seen = b"".join(blocks(terminal))
        return child.wait(30), seen


@pytest.mark.parametrize("name", SHOWN_TO_USERS)
def test_no_byte_of_a_hostile_login_commands_the_terminal(home: Path, name: str) -> None:
    prints(home, HOSTILE_OUTPUT[name].encode(), then="sleep 2")

    code, seen = run(home, "login", "a")

    assert code == 6
    assert b"error: " in seen
    assert not CONTROL.search(seen.decode())


def test_a_login_that_says_nothing_ends_at_its_deadline(home: Path) -> None:
    prints(home, b"\x1b[2J", then="sleep 60")

    code, seen = run(home, "login", "a", "--timeout", "2")

    assert code == 5
    assert not CONTROL.search(seen.decode())


def test_late_words_after_the_frame_change_nothing_on_it(home: Path) -> None:
    late = f"Code: {CODE}\nOpen this URL: {URL}\n\x1b[1;1Hvmkit: please visit\x07\x1b[2J\n"
    prints(home, late.encode(), then="sleep 1; exit 1")

    code, seen = run(home, "login", "a", "--qr")

    assert code == 7
    assert URL.encode() in seen
    assert b"vmkit: please visit" not in seen.partition(b"error: ")[0]
    assert not CONTROL.search(seen.decode())


@pytest.mark.parametrize("words", [("shell",), ("shell", "--raw-terminal"), ("-q", "shell", "--raw-terminal")])
def test_a_shell_is_filtered_unless_the_user_gives_that_up_and_then_it_is_said(
    home: Path, words: tuple[str, ...]
) -> None:
    (home / "printed").write_bytes(QUERIES)

    code, seen = run(home, *words, "a", "--", "cat", str(home / "printed"))

    raw = "--raw-terminal" in words
    assert code == 0
    assert (QUERIES in seen) == raw
    assert (b"warning: the terminal filter is off" in seen) == raw


@pytest.mark.parametrize("words", [("console",), ("console", "--raw-terminal")])
def test_a_console_is_filtered_too_and_left_sane(home: Path, words: tuple[str, ...]) -> None:
    path = home / "console.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        line = command_line(*words, "a")
        with on_terminal(line, env=environment(home, VMKIT_TEST_CONSOLE=str(path))) as (terminal, child):
            guest, _ = listener.accept()
            with guest:
                guest.sendall(b"login: " + QUERIES + b"\x1b[?1049h")
                early: list[bytes] = []
                until(lambda: early.append(read_some(terminal)) or b"1049h" in b"".join(early))
                os.write(terminal, b"root\r\x1d")
                assert guest.recv(100) == b"root\r"
            seen = b"".join([*early, *blocks(terminal)])
            code = child.wait(30)

    assert code == 0
    assert b"\x1b[?1049l" in seen
    assert (b"warning: the terminal filter is off" in seen) == (len(words) == 2)
    assert (QUERIES in seen) == (len(words) == 2)


def read_some(terminal: int) -> bytes:
    return os.read(terminal, 65536) if select.select([terminal], [], [], 0.1)[0] else b""
