import contextlib
import hashlib
import os
import signal
import subprocess
import threading

import pytest

from tests.sshd import PROGRAM, ROOT, running_sshd, until
from vmkit.errors import TransportFailed
from vmkit.guest.base import Command
from vmkit.guest.streams import execute

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="sshd is not installed")

MIB = 1 << 20


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running_sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def guest(sshd):
    with sshd.connect() as connected:
        yield connected


def relay(guest, argv, *, stdin=None, stdout, stderr=None):
    with contextlib.ExitStack() as files:
        null = files.enter_context(open(os.devnull, "w+b"))
        source = files.enter_context(open(stdin, "rb")).fileno() if stdin else None
        out = files.enter_context(open(stdout, "wb")).fileno()
        err = files.enter_context(open(stderr, "wb")).fileno() if stderr else null.fileno()
        return execute(guest, argv, stdin=source, stdout=out, stderr=err)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def processes(marker: str) -> bool:
    return subprocess.run(["pgrep", "-f", f"^sleep {marker}"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["sh", "-c", "exit 37"], 37),
        (["true"], 0),
        (["no-such-program"], 127),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -KILL $$"], 137),
    ],
)
def test_the_exit_code_is_the_programs(guest, tmp_path, argv, code):
    assert relay(guest, argv, stdout=tmp_path / "out") == code


def test_arguments_arrive_as_they_are(guest, tmp_path):
    words = ["it's", "a  b", "$HOME", "*", "", "\n", "\\", "é", "-n"]

    relay(guest, ["printf", "%s|", *words], stdout=tmp_path / "out")

    assert (tmp_path / "out").read_text() == "|".join(words) + "|"


def test_100_mib_go_through_and_back_unchanged(guest, tmp_path):
    (tmp_path / "in").write_bytes(os.urandom(100 * MIB))

    code = relay(guest, ["cat"], stdin=tmp_path / "in", stdout=tmp_path / "out")

    assert code == 0
    assert digest(tmp_path / "in") == digest(tmp_path / "out")


def test_50_mib_on_both_streams_at_once_do_not_deadlock(guest, tmp_path):
    script = "head -c 52428800 /dev/zero & head -c 52428800 /dev/zero >&2; wait"

    code = relay(guest, ["sh", "-c", script], stdout=tmp_path / "out", stderr=tmp_path / "err")

    assert code == 0
    assert [(tmp_path / name).stat().st_size for name in ("out", "err")] == [50 * MIB, 50 * MIB]


def test_a_program_that_reads_no_input_still_ends(guest, tmp_path):
    (tmp_path / "in").write_bytes(bytes(20 * MIB))

    assert relay(guest, ["true"], stdin=tmp_path / "in", stdout=tmp_path / "out") == 0


def test_a_slow_reader_holds_the_guest_back(guest):
    reader, writer = os.pipe()
    done = []
    relaying = threading.Thread(
        target=lambda: done.append(
            execute(guest, ["head", "-c", str(64 * MIB), "/dev/zero"], stdin=None, stdout=writer, stderr=writer)
        )
    )
    relaying.start()
    channel_holds = until(
        lambda: [c.in_buffer for c in guest.connection._transport._channels.values() if len(c.in_buffer)]
    )

    assert len(channel_holds[0]) <= 2 * MIB
    received = 0
    while received < 64 * MIB:
        received += len(os.read(reader, MIB))
    relaying.join(20)
    assert done == [0]
    os.close(reader)
    os.close(writer)


def test_input_that_nobody_read_stays_for_the_next_program(guest, tmp_path):
    reader, writer = os.pipe()
    with open(tmp_path / "out", "wb") as out:
        execute(guest, ["true"], stdin=reader, stdout=out.fileno(), stderr=out.fileno())
        os.write(writer, b"second")
        os.close(writer)
        execute(guest, ["cat"], stdin=reader, stdout=out.fileno(), stderr=out.fileno())
    os.close(reader)

    assert (tmp_path / "out").read_bytes() == b"second"


@pytest.mark.parametrize(
    ("number", "script"),
    [
        (signal.SIGINT, "sleep 4{0}1 & exec sleep 4{0}2"),
        (signal.SIGTERM, "sleep 4{0}1; true"),
        (signal.SIGHUP, "sleep 4{0}1; true"),
        (signal.SIGINT, "trap '' INT; sleep 4{0}1; true"),
    ],
    ids=["interrupted", "terminated", "hung up", "interrupt ignored"],
)
def test_a_signal_ends_the_program_and_its_children(sshd, number, script):
    marker = f"{os.getpid()}{int(number)}{len(script)}"
    client = subprocess.Popen(sshd.client("exec", ["sh", "-c", script.format(marker)]), cwd=ROOT)
    until(lambda: processes(f"4{marker}"))

    client.send_signal(number)

    assert client.wait(30) == 128 + number
    until(lambda: not processes(f"4{marker}"))


def test_a_closed_output_ends_it_quietly(sshd):
    client = subprocess.Popen(sshd.client("exec", ["yes"]), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    client.stdout.read(10)
    client.stdout.close()

    assert client.wait(30) == 141
    assert client.stderr.read() == b""
    client.stderr.close()


def test_a_lost_connection_is_said(tmp_path_factory):
    with running_sshd(tmp_path_factory.mktemp("lost")) as sshd, sshd.connect() as guest:
        threading.Timer(1, sshd.drop_connections).start()

        with pytest.raises(TransportFailed):
            guest.run(Command("sleep", "60"))
