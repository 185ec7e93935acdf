"""Run programs of this computer on a terminal of a fixed size, type at them, and see what a terminal would show."""

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyte

COLUMNS, ROWS = 80, 24
_DEADLINE_S = 30.0
# What pyte does not know and so draws, or takes for colours: keyboard reports, and strings other than OSC.
_UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[>?][0-9;]*m|\x1b[P_^X][^\x1b]*\x1b\\")

Steps = Sequence[tuple[str, str]]  # a text to wait for on the screen, and what is typed then


class Emulator:
    """A terminal that keeps what it shows."""

    def __init__(self, *, columns: int = COLUMNS, rows: int = ROWS) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)

    def feed(self, output: bytes) -> None:
        self._stream.feed(_UNKNOWN_TO_PYTE.sub(b"", output))

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    @property
    def state(self) -> dict[str, object]:
        """Every cell with its attributes, the cursor, and the modes."""
        screen, cursor = self.screen, self.screen.cursor
        return {
            "cells": [[screen.buffer[y][x] for x in range(screen.columns)] for y in range(screen.lines)],
            "cursor": (cursor.x, cursor.y, cursor.hidden, cursor.attrs),
            "modes": set(screen.mode),
            "margins": screen.margins,
        }


def programs(folder: Path) -> dict[str, tuple[list[str], Steps]]:
    """Return what to run and what to type, for those programs that are installed; `folder` is for their files."""
    lines = "".join(f"line {number}: \x1b[3{number % 8};1mcolour {number}\x1b[0m grün │\n" for number in range(1, 200))
    (folder / "coloured").write_text(lines)
    (folder / "plain").write_text(re.sub(r"\x1b\[[0-9;]*m", "", lines))
    tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null", "new-session", "env", "PS1=$ ", "sh"]
    every: dict[str, tuple[list[str], Steps]] = {
        "vi": (
            ["vi", "-u", "NONE", "-i", "NONE", "-n", str(folder / "plain")],
            [("line 23", "ihello \x1b"), ("hello line 1", "\x06"), ("line 44", "dd5x"), ("line 45", ":set nu\r"), ("44 line", "G")],
        ),
        "top": (["top", "-d", "1"], [("load average", "1"), ("PID", "z"), ("PID", "x"), ("PID", "h"), ("Help", "q")]),
        "less": (
            ["less", "-R", str(folder / "coloured")],
            [("line 23", " "), ("line 46", "/line 99\r"), ("line 99", "b"), ("line 76", "G"), ("(END)", "y")],
        ),
        "tmux": (tmux, [("[0] 0:", "echo o''ne\r"), ("one", "\x02%"), ("│", '\x02"'), ("─", "ls --color /\r"), ("usr", "\x02z")]),
    }  # fmt: skip
    return {name: how for name, how in every.items() if shutil.which(name)}


def record(argv: list[str], steps: Steps, *, home: Path) -> list[bytes]:
    """Return what a program writes before each thing that is typed, and after the last."""
    recorded: list[bytes] = []
    emulator = Emulator()
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    try:
        with on_terminal(argv, env=env) as (terminal, _):
            for awaited, typed in steps:
                recorded.append(b"".join(_until(terminal, emulator, awaited)))
                os.write(terminal, typed.encode())
            recorded.append(b"".join(_read(terminal, emulator, 1.0)))
    finally:
        if argv[0] == "tmux":
            subprocess.run([*argv[:3], "kill-server"], check=False, capture_output=True)
    return recorded


@contextlib.contextmanager
def on_terminal(
    argv: Sequence[str], *, env: Mapping[str, str], columns: int = COLUMNS, rows: int = ROWS
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a program; give our end of its terminal, and the process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    os.close(theirs)
    try:
        yield ours, child
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def blocks(terminal: int) -> Iterator[bytes]:
    """Yield what is written, to the end."""
    with contextlib.suppress(OSError):  # EIO: nobody holds the other end any more
        while select.select([terminal], [], [], _DEADLINE_S)[0]:
            yield os.read(terminal, 65536)


def _until(terminal: int, emulator: Emulator, awaited: str) -> Iterator[bytes]:
    end = time.monotonic() + _DEADLINE_S
    while awaited not in emulator.text:
        assert time.monotonic() < end, f"{awaited!r} was never shown:\n{emulator.text}"
        yield from _read(terminal, emulator, 0.1)
    yield from _read(terminal, emulator, 0.1)


def _read(terminal: int, emulator: Emulator, seconds: float) -> Iterator[bytes]:
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):  # EIO: the program has ended
        while (left := end - time.monotonic()) > 0 and select.select([terminal], [], [], left)[0]:
            block = os.read(terminal, 65536)
            emulator.feed(block)
            yield block
