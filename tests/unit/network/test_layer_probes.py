"""Judging what a program could do behind a wall: by its word, and where somebody else saw it, by theirs."""

import pytest

from vmkit.errors import Refused
from vmkit.network.layer_probes import QUESTIONS, Answer, Seen, Side, judge_side, read_reply

TOKEN = "v1"


def judged(side: Side, seen: dict[str, str], **witness: object) -> dict[str, Answer]:
    answers = {name: {"seen": word, "said": "so"} for name, word in seen.items()}
    return {one.question.id: one for one in judge_side(side, {"answers": answers}, witness, token=TOKEN)}


def test_whether_a_file_arrived_the_computer_says() -> None:
    assert judged(Side.SRT, {"write-outside": "witness"}, written=True)["write-outside"].seen is Seen.OPEN
    assert judged(Side.SRT, {"write-outside": "open"}, written=False)["write-outside"].seen is Seen.CLOSED
    assert judged(Side.SRT, {"write-outside": "witness"})["write-outside"].seen is Seen.UNKNOWN


def test_who_came_is_told_apart_by_way_and_by_run() -> None:
    found = judged(Side.MACHINE, {}, arrivals=["direct-v0 x", f"proxied-{TOKEN}"])

    assert found["net-direct"].seen is Seen.CLOSED
    assert found["net-proxy"].seen is Seen.OPEN
    assert not found["net-proxy"].passed


def test_root_of_another_kernel_is_not_root_of_the_computer() -> None:
    own = judged(Side.MACHINE, {"root": "open", "kernel-module": "open", "same-kernel": "closed"})
    shared = judged(Side.CONTAINER, {"root": "open", "kernel-module": "open", "same-kernel": "open"})

    assert own["root"].passed
    assert "its own" in own["kernel-module"].evidence
    assert not shared["root"].passed


@pytest.mark.parametrize("side", Side)
def test_what_gave_no_answer_passes_nothing_that_is_asked_of_it(side: Side) -> None:
    for one in judged(side, {}).values():
        assert one.seen is Seen.UNKNOWN
        assert one.passed == (side not in one.question.open_at | one.question.closed_at)


def test_every_question_can_be_seen_open_by_someone_or_is_only_told() -> None:
    for question in QUESTIONS:
        assert not question.open_at & question.closed_at
        if question.closed_at and question.id not in ("net-proxy", "net-unlisted"):  # the machine's proxy closes these
            assert Side.NONE in question.open_at


def test_evidence_is_shown_as_text() -> None:
    answers = {"root": {"seen": "open", "said": "\x1b[2J"}, "git": 3, "read-key": {"seen": "open", "said": 1}}

    found = judge_side(Side.NONE, {"answers": answers}, {}, token=TOKEN)

    assert all(one.evidence.isprintable() for one in found)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema":2}', b"{" * 9999, b"x" * (300 << 10)])
def test_what_is_no_reply_is_refused(content: bytes) -> None:
    with pytest.raises(Refused):
        read_reply(content, what="the probes")
