import base64
import queue
import threading

import pytest

from vmkit.drivers.agent import Agent, ask_to_shut_down
from vmkit.drivers.lines import Silent


def synchronise(peer):
    number = peer.hear()["arguments"]["id"]
    peer.say({"return": number}, prefix=b"\xff")


def test_an_agent_that_answers_is_asked_to_power_off(serve):
    heard = {}
    done = threading.Event()

    def part(peer):
        synchronise(peer)
        assert peer.hear() == {"execute": "guest-ping"}
        peer.say({"return": {}})
        heard.update(peer.hear())
        done.set()

    asked = ask_to_shut_down(serve(part), timeout_s=5)

    assert asked
    assert done.wait(5)
    assert heard == {"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}}


def test_what_an_earlier_client_left_behind_is_skipped(serve):
    def part(peer):
        number = peer.hear()["arguments"]["id"]
        peer.connection.sendall(b'{"return": {}}\n{"half')
        peer.say({"return": number + 1}, prefix=b"\xff")
        peer.say({"return": number})
        peer.hear()
        peer.say({"return": {}})
        peer.hear()

    with Agent(serve(part), timeout_s=5) as agent:
        agent.ping()


def test_a_command_begins_with_the_sentinel_that_ends_a_half_said_one(serve):
    heard = queue.Queue()

    def part(peer):
        synchronise(peer)
        heard.put(peer.heard[0])

    Agent(serve(part), timeout_s=5).close()

    assert heard.get(timeout=30).startswith(b"\xff{")


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(lambda peer: peer.hear(), id="hangs up"),
        pytest.param(lambda peer: peer.connection.sendall(b"a" * (1 << 20)), id="floods before the sentinel"),
        pytest.param(lambda peer: peer.connection.sendall(b"\xff" + b"a" * (1 << 20)), id="floods a line"),
        pytest.param(lambda peer: peer.connection.sendall(b"\xff[[]]\n"), id="says something else"),
        pytest.param(lambda peer: [peer.say({"return": 0}, prefix=b"\xff") for _ in range(10**9)], id="never agrees"),
    ],
)
def test_a_hostile_guest_is_no_more_than_absent(serve, part):
    assert not ask_to_shut_down(serve(part), timeout_s=0.5)


def test_without_an_agent_nobody_is_asked(tmp_path):
    assert not ask_to_shut_down(tmp_path / "no.sock", timeout_s=1)


def test_a_silent_agent_is_given_up(serve):
    with pytest.raises(Silent):
        Agent(serve(lambda peer: (peer.hear(), peer.hear())), timeout_s=0.1)


@pytest.mark.parametrize("last", [{"return": {"exited": True, "exitcode": 1}}, {"error": {"desc": "x"}}, {"return": 5}])
def test_the_end_of_the_boot_is_waited_for_as_long_as_the_agent_says_so(serve, last):
    asked = []

    def part(peer):
        synchronise(peer)
        asked.append(peer.hear()["arguments"]["arg"])
        peer.say({"return": {"pid": 7}})
        for answer in ({"return": {"exited": False}}, last):
            asked.append(peer.hear()["arguments"])
            peer.say(answer)

    with Agent(serve(part), timeout_s=10) as agent:
        agent.wait_until_booted()

    assert asked == [["is-system-running", "--wait"], {"pid": 7}, {"pid": 7}]


def test_a_guest_is_idle_when_its_processors_had_nothing_to_do_for_a_second(serve, monkeypatch):
    monkeypatch.setattr("vmkit.drivers.agent.time.sleep", lambda _s: None)
    asked = []

    def part(peer):
        synchronise(peer)
        for ticks in ("10 0 10 100 0 0 0", "60 0 10 110 0 0 0", "61 0 10 190 9 0 0"):  # 17 %, then 99 % without work
            answers = (
                {"return": 3},
                {"return": {"buf-b64": base64.b64encode(f"cpu  {ticks}\ncpu0 1".encode()).decode()}},
                {"return": {}},
            )
            for answer in answers:
                asked.append(peer.hear()["execute"])
                peer.say(answer)

    with Agent(serve(part), timeout_s=10) as agent:
        agent.wait_until_idle()

    assert asked.count("guest-file-read") == 3


def test_a_guest_that_does_not_tell_its_ticks_counts_as_idle(serve):
    def part(peer):
        synchronise(peer)
        peer.hear()
        peer.say({"error": {"class": "GenericError", "desc": "no such file"}})

    with Agent(serve(part), timeout_s=10) as agent:
        agent.wait_until_idle()


def test_a_guest_that_starts_no_programs_is_not_waited_for(serve):
    def part(peer):
        synchronise(peer)
        peer.hear()
        peer.say({"error": {"class": "CommandNotFound", "desc": "disabled"}})

    with Agent(serve(part), timeout_s=10) as agent:
        agent.wait_until_booted()
