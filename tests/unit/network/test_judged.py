"""Judging what probes brought back: the log counts, the guest's word only where it makes things worse."""

import json
from dataclasses import replace
from typing import Any

import pytest

from vmkit.errors import Refused
from vmkit.network.history import Entry
from vmkit.network.judged import (
    MAX_ANSWER_BYTES,
    Answer,
    Answers,
    Finding,
    Observed,
    in_control,
    judge,
    parse_answers,
    stage_of,
)
from vmkit.network.probes import Door, Probe, Stage, Target, at_door, inside, through_proxy
from vmkit.network.traces import Known
from vmkit.network.walls import Wall

TARGET = Target(token="t1", direct_port=40001, proxied_port=40002, ssh_ports=(20001,), lan=())
PROBES = {probe.id: probe for probe in [*inside(TARGET), at_door(TARGET), *through_proxy(TARGET)]}
KNOWN = Known(door_port=13128)


def answered(seen: str, said: str = "", *found: str, fault: str = "") -> Answers:
    answer = Answer(seen=seen, said=said, found=found)
    return Answers(fault=fault, by_id=dict.fromkeys(PROBES, answer))


def entry(probe: Probe, reason: str, *, kind: str = "refused") -> Entry:
    return Entry(
        time=0, kind=kind, host=probe.host, port=probe.port, allowed=kind != "refused", reason=reason, rule=None,
        bytes_up=0, bytes_down=0, seconds=0,
    )  # fmt: skip


def observed(name: str, answers: Answers, *entries: Entry) -> Observed:
    return judge(PROBES[name], answers, entries, KNOWN).observed


REASONS = {
    '"127.0.0.1" is no host name: it ends in a number': Stage.NAME,
    '"a.b" is not in the policy; the nearest name that is allowed: "TLS.b"': Stage.POLICY,
    '"a.b" is allowed on port 443 only': Stage.PORT,
    "the name has no address": Stage.LOOKUP,
    "the name leads to 127.0.0.1: this computer": Stage.ADDRESS,
    "the guest hung up before its request was whole": Stage.TUNNEL,
    "no TLS hello came in time": Stage.TUNNEL,
    "what follows CONNECT is not TLS": Stage.FIRST_WORDS,
    'the TLS hello names "b", not the host': Stage.FIRST_WORDS,
    "the server does not answer": Stage.CONNECT,
    "the proxy failed: ValueError": None,
}


@pytest.mark.parametrize(("reason", "stage"), REASONS.items())
def test_the_proxys_words_tell_its_checks_apart(reason: str, stage: Stage | None) -> None:
    assert stage_of(entry(PROBES["proxy"], reason)) == stage


def test_what_was_opened_passed_every_check() -> None:
    assert stage_of(entry(PROBES["proxy"], "", kind="opened")) == Stage.CONNECT


@pytest.mark.parametrize(
    ("reason", "seen"),
    [
        ("the name leads to 127.0.0.1: this computer", Observed.CLOSED),
        ("the server does not answer", Observed.OPEN),  # the address was connected to
        ('"a.b" is not in the policy', Observed.UNKNOWN),  # the address was never looked at
        ("the proxy failed: ValueError", Observed.UNKNOWN),
    ],
)
def test_the_check_that_a_wall_is_made_of_has_to_be_the_one_that_refused(reason: str, seen: Observed) -> None:
    probe = PROBES["leads-to-loopback"]

    assert observed(probe.id, answered("closed", "403"), entry(probe, reason)) is seen


def test_one_request_that_got_through_is_a_leak_however_many_were_refused() -> None:
    probe = PROBES["leads-to-loopback"]
    refused = entry(probe, "the name leads to 127.0.0.1: this computer")

    assert observed(probe.id, answered("closed"), refused, entry(probe, "", kind="opened"), refused) is Observed.OPEN


def test_a_guest_that_says_closed_is_not_believed_without_the_log() -> None:
    assert observed("leads-to-loopback", answered("closed", "403: forbidden")) is Observed.UNKNOWN


def test_a_guest_that_hangs_up_before_it_spoke_has_shown_nothing() -> None:
    probe = PROBES["plain-http"]
    hung_up = entry(probe, "the guest hung up before its request was whole")

    assert observed(probe.id, answered("closed"), hung_up) is Observed.UNKNOWN


def test_a_guest_that_says_open_is_believed() -> None:
    probe = PROBES["leads-to-loopback"]
    refused = entry(probe, "the name leads to 127.0.0.1: this computer")

    assert observed(probe.id, answered("open"), refused) is Observed.OPEN


def test_a_request_that_had_to_be_refused_unread_and_is_in_the_log_by_name_is_a_leak() -> None:
    probe = PROBES["request-two-hosts"]
    read = replace(entry(probe, '"public.…" is not in the policy'), host=f"public.{probe.host}")

    assert observed(probe.id, answered("closed", "400")) is Observed.CLOSED
    assert observed(probe.id, answered("closed", "400"), read) is Observed.OPEN


@pytest.mark.parametrize(
    ("seen", "logged", "result"),
    [
        ("open", True, Observed.OPEN),
        ("failed", False, Observed.CLOSED),
        ("open", False, Observed.UNKNOWN),  # something answers, and it is not our proxy
        ("closed", True, Observed.UNKNOWN),
    ],
)
def test_the_door_is_open_when_guest_and_log_say_so(seen: str, *, logged: bool, result: Observed) -> None:
    probe = PROBES["proxy"]
    entries = [entry(probe, '"door" is not in the policy')] if logged else []

    assert observed("proxy", answered(seen), *entries) is result


def test_a_guest_without_routes_shows_nothing_of_its_network_card() -> None:
    assert observed("internet", answered("closed")) is Observed.CLOSED
    assert observed("internet", answered("closed", fault="eth0: ip: not found")) is Observed.UNKNOWN
    assert observed("internet", answered("open", fault="eth0: ip: not found")) is Observed.OPEN
    assert observed("resolver", answered("closed", fault="eth0: ip: not found")) is Observed.CLOSED


def test_a_probe_without_an_answer_shows_nothing() -> None:
    assert observed("internet", Answers(fault="", by_id={})) is Observed.UNKNOWN


def test_a_list_where_none_was_asked_for_shows_nothing() -> None:
    assert observed("internet", answered("listed")) is Observed.UNKNOWN


@pytest.mark.parametrize("seen", ["open", "closed", "failed"])
def test_a_probe_that_asks_for_a_list_shows_nothing_by_a_word(seen: str) -> None:
    assert observed("mounts", answered(seen)) is not Observed.CLOSED


def test_a_probe_passes_when_it_saw_what_was_expected_and_is_not_blind() -> None:
    closed = Finding(probe=PROBES["internet"], observed=Observed.CLOSED, evidence="")

    assert closed.passed
    assert replace(closed, proved=True).passed
    assert not replace(closed, proved=False).passed
    assert not replace(closed, observed=Observed.OPEN).passed
    assert not replace(closed, observed=Observed.UNKNOWN).passed
    assert not replace(closed, probe=at_door(TARGET)).passed
    assert replace(closed, probe=at_door(TARGET, expected=Door.CLOSED)).passed


def test_the_json_says_when_the_control_was_not_shown() -> None:
    finding = Finding(probe=PROBES["internet"], observed=Observed.CLOSED, evidence="nothing")

    shown = [replace(finding, proved=proved).to_json()["control"] for proved in (None, True, False)]

    assert shown == ["not shown", "open", "closed"]


def test_in_the_control_an_open_door_has_to_be_seen() -> None:
    known = Known(environment={"A_NAME": "a value of some length"}, door_port=13128)

    assert in_control(PROBES["internet"], answered("open"), known)
    assert not in_control(PROBES["internet"], answered("closed"), known)
    assert in_control(PROBES["x11-display"], answered("listed", "", "tcp 127.0.0.1 6010"), known)
    assert not in_control(PROBES["x11-display"], answered("listed"), known)


GOOD: dict[str, Any] = {"schema": 1, "fault": "", "answers": {"internet": {"seen": "closed", "said": "x", "list": []}}}


def test_an_answer_is_read() -> None:
    answers = parse_answers(json.dumps(GOOD).encode(), asked={"internet"})

    assert answers.by_id == {"internet": Answer(seen="closed", said="x")}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"[]",
        b"null",
        b'{"schema": 2, "answers": {}}',
        b'{"schema": 1, "answers": []}',
        b"[" * 100_000,
        b'"\xff"',
        b" " * (MAX_ANSWER_BYTES + 1),
    ],
)
def test_what_is_no_answer_is_refused(content: bytes) -> None:
    with pytest.raises(Refused):
        parse_answers(content, asked={"internet"})


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {"seen": "ajar", "said": ""},
        {"seen": ["open"], "said": ""},
        {"seen": "closed"},
        {"seen": "closed", "said": 1},
        {"seen": "listed", "said": "", "list": "abc"},
        {"seen": "listed", "said": "", "list": [1]},
        {"seen": "listed", "said": "", "list": ["x"] * 2001},
    ],
)
def test_an_answer_of_another_form_is_none(answer: object) -> None:
    content = json.dumps(GOOD | {"answers": {"internet": answer}}).encode()

    assert parse_answers(content, asked={"internet"}).by_id == {}


def test_what_was_not_asked_is_dropped_and_texts_are_made_fit_to_show() -> None:
    said = {"seen": "listed", "said": "\x1b[2J" + "x" * 1000, "list": ["\x1b]52;c;AAAA\x07"]}
    content = json.dumps({"schema": 1, "fault": "\x1b", "answers": {"internet": said, "other": said}}).encode()

    answers = parse_answers(content, asked={"internet"})

    assert set(answers.by_id) == {"internet"}
    texts = [answers.fault, answers.by_id["internet"].said, *answers.by_id["internet"].found]
    assert all(text.isprintable() and len(text) <= 300 for text in texts)


def test_a_fault_that_is_no_text_counts_as_one() -> None:
    assert parse_answers(json.dumps(GOOD | {"fault": None}).encode(), asked={"internet"}).fault


def test_walls_that_are_judged_by_lists_have_only_such_probes() -> None:
    lists = {Wall.LISTENERS, Wall.AGENT, Wall.X11, Wall.ENVIRONMENT, Wall.SHARES, Wall.CHANNELS, Wall.SMBIOS}

    assert {probe.wall for probe in PROBES.values() if probe.stage is None and probe.wall in lists} == lists
