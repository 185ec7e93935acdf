"""The log as it is read: what the proxy writes comes back, what does not fit is dropped."""

import json
from pathlib import Path

import pytest

from vmkit.network.audit import REFUSALS_PER_S, AuditLog, Event, Kind
from vmkit.network.history import last_refusal, parse_entries, read_entries, refused_names

NOW = 1_800_000_000.0


def refused(host: str, *, port: int = 443, reason: str = "not in the policy") -> Event:
    return Event(kind=Kind.REFUSED, host=host, port=port, reason=reason)


def line(**changes: object) -> bytes:
    entry = {
        "time": "2027-01-15T08:00:00.000+00:00",
        "kind": "refused",
        "host": "a.example",
        "port": 443,
        "allowed": False,
    }
    return json.dumps(entry | changes).encode()


def test_what_the_proxy_wrote_is_read_back(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "network.jsonl", clock=lambda: NOW)
    log(refused("a.example"))
    log(Event(kind=Kind.CLOSED, host="b.example", port=80, rule="*.b.example", bytes_up=1, bytes_down=2, seconds=0.5))
    log.close()

    first, second = read_entries(tmp_path / "network.jsonl")

    assert (first.kind, first.target, first.allowed, first.time) == ("refused", "a.example", False, NOW)
    assert (second.target, second.allowed, second.rule, second.bytes_down) == ("b.example:80", True, "*.b.example", 2)
    assert "2 B down" in second.line()


def test_the_log_before_this_one_comes_first(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "network.jsonl", max_bytes=300, clock=lambda: NOW)
    log(refused("a.example"))
    log(refused("b.example"))
    log.close()

    assert (tmp_path / "network.jsonl.1").exists()
    assert [entry.host for entry in read_entries(tmp_path / "network.jsonl")] == ["a.example", "b.example"]


def test_refusals_that_came_too_fast_are_said(tmp_path: Path) -> None:
    moments = [NOW] * (REFUSALS_PER_S + 7) + [NOW + 2]
    log = AuditLog(tmp_path / "network.jsonl", clock=lambda: moments.pop(0))
    for _ in range(REFUSALS_PER_S + 7):
        log(refused("a.example"))
    log(refused("b.example"))
    log.close()

    assert any("7 more" in entry.reason for entry in read_entries(tmp_path / "network.jsonl"))


def test_no_log_yet_is_empty(tmp_path: Path) -> None:
    assert read_entries(tmp_path / "network.jsonl") == []


def test_only_what_is_since_then_is_read(tmp_path: Path) -> None:
    (tmp_path / "n").write_bytes(line(time="2027-01-15T07:59:59Z", host="old.example") + b"\n" + line() + b"\n")

    assert [entry.host for entry in read_entries(tmp_path / "n", since=NOW)] == ["a.example"]


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"{", b"[]", b"null", b"\xff", line()[:-5], line(kind="other"), line(kind=[]), line(time=5), line(time="soon"),
        line(port="443"), line(port=-1), line(port=True), line(bytes_up=1 << 70), line(seconds="x"), line(seconds=[]),
        line(host="x" * 5000), b"[" * 4000, line(kind="unwritten"), line(time="9999-12-31T23:59:59-23:00"),
    ],
)  # fmt: skip
def test_a_line_that_does_not_fit_is_dropped_and_the_next_is_read(bad: bytes) -> None:
    assert [entry.host for entry in parse_entries([bad, line(host="next.example")])] == ["next.example"]


def test_nothing_in_a_line_reaches_the_terminal_as_a_command() -> None:
    [entry] = parse_entries([line(host="\x1b]52;c;x\x07", reason="\x1b[2J\u202e\r", rule="\x9b1m")])

    assert entry.line().isprintable()
    assert all(str(value).isprintable() for value in entry.to_json().values())


def test_refusals_are_counted_by_name_and_port_and_only_names_that_can_be_allowed() -> None:
    hosts = ["a.example", "a.example", "A.example", "127.0.0.1", "a.example.", "x", "a\x1bb.example", ""]
    lines = [line(host=host) for host in hosts] + [line(port=80), line(port=0), line(kind="opened", host="b.example")]

    assert refused_names(parse_entries(lines)) == {("a.example", 443): 3, ("a.example", 80): 1}


def test_the_last_refusal_of_a_name_is_found() -> None:
    entries = list(parse_entries([line(reason="first"), line(reason="second"), line(host="b.example"), line(port=80)]))

    found = last_refusal(entries, "a.example", 443)

    assert found
    assert found.reason == "second"
    assert last_refusal(entries, "c.example", 443) is None
