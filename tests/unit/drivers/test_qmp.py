import os
from pathlib import Path

import pytest

from vmkit.drivers.lines import JsonLines, Silent
from vmkit.drivers.qmp import Qmp
from vmkit.errors import ToolFailed
from vmkit.host.wait import Deadline

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": []}}


def greet(peer):
    peer.say(GREETING)
    assert peer.hear()["execute"] == "qmp_capabilities"
    peer.say({"return": {}})


def test_a_command_gets_its_answer_and_events_are_skipped(serve):
    def part(peer):
        greet(peer)
        peer.say({"event": "POWERDOWN", "data": {}})
        command = peer.hear()
        peer.say({"event": "SHUTDOWN"})
        peer.say({"return": command})

    with Qmp(serve(part), timeout_s=5) as qmp:
        answer = qmp.execute("set_link", name="net0", up=False)

    assert qmp.version == (7, 2, 22)
    assert answer == {"execute": "set_link", "arguments": {"name": "net0", "up": False}}


def test_a_refused_command_says_why(serve):
    def part(peer):
        greet(peer)
        peer.hear()
        peer.say({"error": {"class": "CommandNotFound", "desc": "no \x1b[31mfly"}})

    with Qmp(serve(part), timeout_s=5) as qmp, pytest.raises(ToolFailed, match='refused "fly"') as caught:
        qmp.execute("fly")

    assert "CommandNotFound" in caught.value.detail
    assert "\x1b" not in caught.value.detail


def test_a_monitor_that_says_nothing_is_silent(serve):
    with pytest.raises(Silent) as caught:
        Qmp(serve(lambda peer: peer.hear()), timeout_s=0.1)

    assert not caught.value.missing


def test_events_without_end_do_not_outlast_the_deadline(serve):
    def part(peer):
        greet(peer)
        while True:
            peer.say({"event": "TICK"})

    with Qmp(serve(part), timeout_s=0.3) as qmp, pytest.raises(Silent):
        qmp.execute("query-status")


def test_a_missing_socket_is_told_apart_from_a_silent_one(tmp_path):
    with pytest.raises(Silent) as caught:
        Qmp(tmp_path / "no.sock", timeout_s=1)

    assert caught.value.missing


def test_a_path_longer_than_a_socket_may_have_is_silent():
    with pytest.raises(Silent):
        Qmp(Path("/" + "a" * 200), timeout_s=1)


@pytest.mark.parametrize(
    "greeting", [{}, {"QMP": None}, {"QMP": {"version": {"qemu": {"major": "x", "minor": 1, "micro": 1}}}}]
)
def test_something_that_is_not_a_monitor_is_refused(serve, greeting):
    with pytest.raises(ToolFailed, match="not QEMU's monitor"):
        Qmp(serve(lambda peer: (peer.say(greeting), peer.hear())), timeout_s=5)


@pytest.mark.parametrize(
    "noise", [b"not json\n", b"[1]\n", b"[" * 100_000 + b"\n", b"a" * (2 << 20), b"\xff\xfe\n", b""]
)
def test_noise_is_silence(serve, noise):
    with pytest.raises(Silent):
        Qmp(serve(lambda peer: peer.connection.sendall(noise)), timeout_s=5)


def test_the_process_at_the_other_end_is_known_without_its_help(serve):
    with JsonLines(serve(lambda peer: peer.hear()), deadline=Deadline(5)) as lines:
        assert lines.peer_pid == os.getpid()
