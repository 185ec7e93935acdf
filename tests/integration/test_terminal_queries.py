"""A guest that asks the terminal questions and dies: no answer is left for the user's shell, and the tty is as before."""

import contextlib
import os
import re
import select
import signal
import subprocess
import termios
import threading
import time

import pytest

from tests.integration.test_ssh_shell import Screen
from tests.sshd import PROGRAM, ROOT, running_sshd, until

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="sshd is not installed")

ANSWERS = {
    b"\x1b[5n": b"\x1b[0n",
    b"\x1b[6n": b"\x1b[24;80R",
    b"\x1b[c": b"\x1b[?62;22c",
    b"\x1b]52;c;?\x07": b"\x1b]52;c;cm0gLXJmIC8K\x07",
    b"\x1bP$qm\x1b\\": b"\x1bP1$r0m\x1b\\",
}
QUERY = re.compile(b"|".join(re.escape(query) for query in ANSWERS))
QUERIES = r"printf '.\033[6n\033[c\033]52;c;?\007\033P$qm\033\\'"
FLOOD = f"while :; do {QUERIES}; done"
BURST = f"for i in $(seq 300); do {QUERIES}; done; sleep 60"  # Ctrl-C would wait behind the answers to a flood


class AnsweringScreen(Screen):
    """A terminal that answers as it reads, and keeps the answers that are not taken yet."""

    def __init__(self, *args, **options):
        self.unread, self.answers, self.asked, self.silent, self.done = b"", b"", set(), False, False
        super().__init__(*args, **options)
        os.set_blocking(self.ours, False)
        self.settings = self.stty()
        self.thread = threading.Thread(target=self.live)
        self.thread.start()

    def stty(self):
        return subprocess.run(["stty", "-a"], stdin=self.theirs, capture_output=True, check=True).stdout

    def live(self):
        while not self.done:
            readable, writable, _ = select.select([self.ours], [self.ours] if self.answers else [], [], 0.05)
            if readable:
                block = os.read(self.ours, 4096)
                self.unread += block
                self.answer()
                self.seen += block
            if writable:
                with contextlib.suppress(BlockingIOError):
                    self.answers = self.answers[os.write(self.ours, self.answers[:4096]) :]

    def answer(self):
        end = 0
        for match in QUERY.finditer(self.unread):
            self.asked.add(match.group())
            self.answers += b"" if self.silent else ANSWERS[match.group()]
            end = match.end()
        self.unread = self.unread[end:][-64:]

    def read(self, seconds=0.05):
        time.sleep(seconds)
        return self.seen

    def close(self):
        self.done = True
        self.thread.join()
        super().close()

    def left_behind(self):
        """What the user's shell would read."""
        self.read(0.3)
        os.set_blocking(self.theirs, False)
        attributes = termios.tcgetattr(self.theirs)
        attributes[3] &= ~termios.ICANON
        termios.tcsetattr(self.theirs, termios.TCSANOW, attributes)
        try:
            return os.read(self.theirs, 65536)
        except BlockingIOError:
            return b""


@pytest.fixture
def sshd(tmp_path):
    with running_sshd(tmp_path) as running:
        yield running


@pytest.fixture
def start(sshd):
    screens = []

    def one(how, script):
        argv = sshd.client(how, ["sh", "-c", script])
        screens.append(AnsweringScreen(argv, environment={"TERM": "xterm", "LANG": "C.UTF-8"}))
        return screens[-1]

    yield one
    for screen in screens:
        screen.close()


def end_by_death(screen, sshd):
    sshd.drop_connections()
    return 255


def end_by_signal(screen, sshd):
    screen.process.send_signal(signal.SIGTERM)
    return 143


def end_by_ctrl_c(screen, sshd):
    screen.type("\x03")
    return 130


@pytest.mark.parametrize("end", [end_by_death, end_by_signal, end_by_ctrl_c])
@pytest.mark.parametrize("how", ["shell", "raw"])
def test_a_flood_of_queries_leaves_nothing_to_read(start, sshd, end, how):
    screen = start(how, FLOOD if how == "shell" else BURST)
    if how == "shell":
        screen.expect(b"." * 100)
    else:
        until(lambda: len(screen.asked) == len(ANSWERS) - 1)

    code = end(screen, sshd)

    assert screen.wait() == code
    assert screen.stty() == screen.settings
    assert screen.left_behind() == b""
    assert screen.asked == ({b"\x1b[5n"} if how == "shell" else ANSWERS.keys())


def test_a_terminal_that_does_not_answer_gets_its_settings_back_too(start, sshd):
    screen = start("shell", "echo ready; sleep 60")
    screen.silent = True
    screen.expect(b"ready")

    sshd.drop_connections()

    assert screen.wait() == 255
    assert screen.stty() == screen.settings
    assert screen.asked == {b"\x1b[5n"}


def test_without_the_filter_everything_passes_and_what_may_be_left_on_is_undone(start):
    screen = start("raw", r"printf '\033[?2004h\033[>1u\033]0;left open'")

    assert screen.wait() == 0

    after = screen.seen.partition(b"\x1b]0;left open")[2]
    assert after.startswith(b"\x1b\\")
    assert b"\x1b[<u" in after
    assert b"\x1b[?2004l" in after


def test_without_a_terminal_to_type_at_what_is_shown_on_one_is_filtered_all_the_same(sshd):
    screen = AnsweringScreen(["true"], environment={})
    try:
        script = rb"printf 'before\033]52;c;eA==\007\033[6n\033[?1049hafter'; printf 'error\033[5i' >&2"
        subprocess.run(
            sshd.client("shell", None), cwd=ROOT, input=script, stdout=screen.theirs, stderr=screen.theirs,
            check=True, timeout=60,
        )  # fmt: skip
        screen.read()
    finally:
        screen.close()

    assert b"before\x1b[?1049hafter" in screen.seen
    assert b"\x1b[?1049l" in screen.seen
    assert b"5i" not in screen.seen
    assert screen.asked == set()
