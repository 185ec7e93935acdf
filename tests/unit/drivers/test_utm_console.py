import contextlib
import os
import socket
import termios
import tty

import pytest

from vmkit.drivers import utm_console
from vmkit.drivers.utm_console import MAX_LOG, open_serial, recording
from vmkit.errors import ToolFailed, TransportFailed
from vmkit.host.wait import Deadline, until


@pytest.fixture
def pair():
    """A pseudo terminal: what QEMU holds, and where the other end is."""
    ours, theirs = os.openpty()
    place = os.ttyname(theirs)
    yield ours, place
    for descriptor in (ours, theirs):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def holds(log, words: bytes) -> bool:
    return until(lambda _left_s: words in log.read_bytes(), deadline=Deadline(20), what="the log", every_s=0.02)


def test_a_terminal_is_opened_raw_and_does_not_answer_for_us(pair):
    ours, place = pair

    console = open_serial(place)
    os.write(ours, b"a\n")
    heard = os.read(console, 10)
    os.write(console, b"b\n")
    answered = os.read(ours, 10)
    modes = termios.tcgetattr(console)
    os.close(console)

    assert (heard, answered) == (b"a\n", b"b\n")
    assert not modes[tty.LFLAG] & termios.ECHO


def test_a_tcp_port_of_this_computer_is_connected_to():
    with socket.create_server(("127.0.0.1", 0)) as server:
        console = open_serial(f"127.0.0.1:{server.getsockname()[1]}")
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"hello")
            heard = os.read(console, 10)
        os.close(console)

    assert heard == b"hello"


@pytest.mark.parametrize(
    "place",
    [
        None,
        "",
        "/etc/passwd",
        "/dev/null",
        "/dev/pts/../../etc/passwd",
        "/dev/ttys99999",
        "example.org:80",
        "127.0.0.1:99999999",
        "127.0.0.1:1",
        "\x1b[2J",
    ],
)
def test_another_place_is_no_console(place):
    with pytest.raises(TransportFailed, match="console could not be reached") as caught:
        open_serial(place)

    assert "\x1b" not in str(caught.value.detail)


def test_what_the_port_says_is_appended_to_the_log(pair, tmp_path):
    ours, place = pair
    log = tmp_path / "console.log"
    log.write_bytes(b"before\n")

    with recording(lambda: place, log):
        os.write(ours, b"vmkit: ready")
        held = holds(log, b"before\nvmkit: ready")

    assert held


def test_a_port_that_comes_later_is_recorded_too(pair, tmp_path):
    ours, place = pair
    log = tmp_path / "console.log"
    log.touch()
    answers = iter([ToolFailed("not running"), None])

    def attach():
        answer = next(answers, place)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with recording(attach, log):
        os.write(ours, b"late")
        held = holds(log, b"late")

    assert held


def test_a_port_that_ends_is_no_error(tmp_path):
    ours, theirs = os.openpty()
    place, log = os.ttyname(theirs), tmp_path / "console.log"
    log.touch()

    with recording(lambda: place, log):
        os.write(ours, b"the end")
        held = holds(log, b"the end")
        os.close(theirs)
        os.close(ours)

    assert held


def test_a_log_that_grows_too_long_keeps_its_end(pair, tmp_path):
    ours, place = pair
    log = tmp_path / "console.log"
    log.write_bytes(b"x" * MAX_LOG)

    with recording(lambda: place, log):
        os.write(ours, b"newest")
        held = holds(log, b"newest")
        until(lambda _left_s: log.stat().st_size <= MAX_LOG, deadline=Deadline(20), what="the cut", every_s=0.02)
        size = log.stat().st_size

    assert held
    assert size == utm_console.MAX_LOG // 2
