import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios

import pytest

from tests.sshd import PROGRAM, ROOT, running_sshd, until

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="sshd is not installed")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running_sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


class Screen:
    """A terminal with a program in it."""

    def __init__(self, argv, *, environment):
        self.ours, self.theirs = pty.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(self.theirs)
        self.seen = b""
        self.process = subprocess.Popen(
            argv, stdin=self.theirs, stdout=self.theirs, stderr=self.theirs, cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environment},
        )  # fmt: skip

    def resize(self, columns, rows):
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.ours, text.encode())

    def read(self, seconds=0.05):
        while select.select([self.ours], [], [], seconds)[0]:
            self.seen += os.read(self.ours, 65536)
        return self.seen

    def expect(self, text):
        until(lambda: text in self.read())

    def wait(self):
        until(lambda: (self.read(), self.process.poll() is not None)[1], seconds=30)
        self.read()
        return self.process.returncode

    @property
    def restored(self):
        return termios.tcgetattr(self.theirs) == self.before

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def screen(sshd):
    screens = []

    def start(*argv, server=sshd, **environment):
        environment = {"TERM": "xterm", "LANG": "C.UTF-8", "SECRET_TOKEN": "canary", **environment}
        screens.append(Screen(server.client("shell", list(argv) or None), environment=environment))
        return screens[-1]

    yield start
    for one in screens:
        one.close()


def test_a_program_has_a_terminal_of_our_size_and_follows_it(screen):
    shell = screen("sh", "-c", "stty size; trap 'stty size; exit 5' WINCH; while :; do sleep 0.1; done")
    shell.expect(b"24 80")

    shell.resize(132, 50)
    shell.process.send_signal(signal.SIGWINCH)

    shell.expect(b"50 132")
    assert shell.wait() == 5
    assert shell.restored


def test_typing_reaches_the_login_shell_even_when_it_was_too_early(screen):
    shell = screen()

    shell.type("echo $((6*7))x; exit 7\r")

    shell.expect(b"42x")
    assert shell.wait() == 7
    assert shell.restored


def test_interrupt_is_typed_not_signalled(screen):
    shell = screen("sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done")
    shell.expect(b"ready")

    shell.type("\x03")

    assert shell.wait() == 9
    assert b"caught" in shell.seen


def test_nothing_of_the_environment_but_term_and_lang_goes_over(screen):
    shell = screen("sh", "-c", "env; echo end", TERM="evil", LC_ALL="C", LANG="de_DE.UTF-8")
    shell.wait()

    assert b"TERM=xterm-256color\r\n" in shell.seen
    assert b"LANG=de_DE.UTF-8\r\n" in shell.seen
    assert b"canary" not in shell.seen
    assert b"LC_ALL" not in shell.seen


def test_a_language_of_another_form_stays_here(screen):
    shell = screen("sh", "-c", "echo lang=$LANG", LANG="$(evil)")
    shell.wait()

    assert b"evil" not in shell.seen


def test_attacks_do_not_reach_the_terminal(screen):
    shell = screen("printf", "%b", r"a\033]52;c;ZXZpbA==\007b\033[6nc\033[31md")
    shell.wait()

    assert b"abc\x1b[31md" in shell.seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_restores_the_terminal(screen, number):
    shell = screen("sh", "-c", r"printf '\033[?1049hready'; sleep 60")
    shell.expect(b"ready")

    shell.process.send_signal(number)

    assert shell.wait() == 128 + number
    assert shell.restored
    assert b"\x1b[?1049l" in shell.seen


def test_a_dying_guest_restores_the_terminal(screen, tmp_path_factory):
    with running_sshd(tmp_path_factory.mktemp("dying")) as server:
        shell = screen("sh", "-c", r"printf '\033[?1049h\033[?25lready'; sleep 60", server=server)
        shell.expect(b"ready")

        server.drop_connections()

        assert shell.wait() == 255
    assert shell.restored
    assert shell.seen.index(b"\x1b[?1049l") < shell.seen.index(b"error: ")
    assert b"\x1b[?25h" in shell.seen


def test_what_was_typed_ahead_does_not_reach_our_shell(screen):
    shell = screen("sh", "-c", "echo ready; sleep 1")
    shell.expect(b"ready")

    shell.type("rm -rf /\r")
    shell.wait()

    os.set_blocking(shell.theirs, False)
    with pytest.raises(BlockingIOError):
        os.read(shell.theirs, 100)


def test_without_a_terminal_it_is_exec(sshd):
    done = subprocess.run(
        sshd.client("shell", None), cwd=ROOT, input=b"tty; exit 3\n", capture_output=True, check=False, timeout=60
    )

    assert (done.returncode, b"not a tty" in done.stdout) == (3, True)


@pytest.mark.skipif(not os.path.exists("/usr/bin/vi"), reason="vi is not installed")
def test_vi_draws_and_redraws_after_a_resize(screen, tmp_path):
    (tmp_path / "file").write_text("first line\n")
    shell = screen("vi", str(tmp_path / "file"))
    shell.expect(b"first line")

    shell.resize(100, 40)
    shell.process.send_signal(signal.SIGWINCH)
    shell.expect(b"\x1b[40;")
    shell.type(":q!\r")

    assert shell.wait() == 0
    assert shell.restored
