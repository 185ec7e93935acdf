"""Judge what the probes brought back: the guest's word, the proxy's log and this computer's listeners, all three.

What a guest answers is hostile data. It can make things look worse, never better than the log and the listeners say.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vmkit.errors import Refused
from vmkit.host.text import printable
from vmkit.network.audit import Kind
from vmkit.network.history import Entry
from vmkit.network.probes import Probe, Stage
from vmkit.network.traces import Known, is_listed, what_shows
from vmkit.network.walls import Wall

MAX_ANSWER_BYTES = 2 << 20
_MAX_SAID = 300
_MAX_LIST = 2000
_SEEN = ("open", "closed", "failed", "listed")

# How the proxy words its refusals. An unknown wording is no proof of anything.
_WORDS: tuple[tuple[str, Stage], ...] = (
    ("is no host name", Stage.NAME),
    ("is allowed on port", Stage.PORT),
    ("is not in the policy", Stage.POLICY),
    ("is denied", Stage.POLICY),
    ("was allowed until", Stage.POLICY),
    ("this machine has no network", Stage.POLICY),
    ("the name has no address", Stage.LOOKUP),
    ("looking the name up took too long", Stage.LOOKUP),
    ("the name leads to", Stage.ADDRESS),
    ("the guest hung up", Stage.TUNNEL),
    ("no TLS hello came in time", Stage.TUNNEL),
    ("TLS", Stage.FIRST_WORDS),
    ("the server does not answer", Stage.CONNECT),
)


class Observed(StrEnum):
    """What was seen."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"  # nothing was shown either way


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One probe's answer: checked for form, believed for nothing."""

    seen: str
    said: str
    found: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the probe program printed. `fault`: why it could not give the guest a way to send."""

    fault: str
    by_id: Mapping[str, Answer]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One probe's result."""

    probe: Probe
    observed: Observed
    evidence: str
    proved: bool | None = None  # whether it saw the control's open door; None: there was no control

    @property
    def passed(self) -> bool:
        """Whether it saw what was expected, by a probe that can see."""
        return self.observed == self.probe.expected.value and self.proved is not False

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        shown = {None: "not shown", True: "open", False: "closed"}[self.proved]
        return {
            "id": self.probe.id,
            "wall": self.probe.wall.value,
            "expected": self.probe.expected.value,
            "observed": self.observed.value,
            "passed": self.passed,
            "tries": self.probe.tries,
            "evidence": self.evidence,
            "control": shown,
        }


def parse_answers(content: bytes, *, asked: Collection[str]) -> Answers:
    """Read what the probe program printed. Raises Refused when it is not an answer to what was asked."""
    try:
        data: Any = json.loads(content) if len(content) <= MAX_ANSWER_BYTES else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or data.get("schema") != 1 or not isinstance(data.get("answers"), dict):
        raise Refused("the guest's answer to the probes is no answer", detail=printable(content, max_chars=200))
    found = {name: one for name in asked if (one := _answer(data["answers"].get(name)))}
    fault = data.get("fault")
    return Answers(fault=_text(fault) if isinstance(fault, str) else "no word of its routes", by_id=found)


def _answer(data: Any) -> Answer | None:
    if not isinstance(data, dict) or data.get("seen") not in _SEEN or not isinstance(data.get("said"), str):
        return None
    found = data.get("list", [])
    if not isinstance(found, list) or len(found) > _MAX_LIST or not all(isinstance(text, str) for text in found):
        return None
    return Answer(seen=data["seen"], said=_text(data["said"]), found=tuple(_text(text) for text in found))


def _text(text: str) -> str:
    return printable(text, max_chars=_MAX_SAID)


def judge(probe: Probe, answers: Answers, entries: Sequence[Entry], known: Known) -> Finding:
    """Return what one probe of the guest shows, beside the entries of the proxy's log since it began."""
    answer = answers.by_id.get(probe.id)
    if answer is None:
        return _finding(probe, Observed.UNKNOWN, "the guest gave no answer")
    if is_listed(probe.wall) or answer.seen == "listed":
        return _finding(probe, *_traces(probe, answer, known))
    if probe.task.get("do") == "proxy":
        return _finding(probe, *_proxied(probe, answer, entries))
    if answer.seen == "failed" or (answer.seen == "closed" and answers.fault and probe.wall is Wall.CARD):
        return _finding(probe, Observed.UNKNOWN, answer.said if answer.seen == "failed" else answers.fault)
    return _finding(probe, Observed(answer.seen), answer.said)


def in_control(probe: Probe, answers: Answers, known: Known) -> bool:
    """Tell whether a probe saw the control's open door."""
    answer = answers.by_id.get(probe.id)
    if answer is not None and answer.seen == "listed":
        return _traces(probe, answer, known)[0] is Observed.OPEN
    return answer is not None and answer.seen == "open"


def _finding(probe: Probe, observed: Observed, evidence: str) -> Finding:
    return Finding(probe=probe, observed=observed, evidence=evidence)


def _traces(probe: Probe, answer: Answer, known: Known) -> tuple[Observed, str]:
    shown = what_shows(probe.wall, answer.found, known)
    if shown is None or answer.seen != "listed":
        return Observed.UNKNOWN, answer.said or "not what was asked for"
    return (Observed.OPEN, "; ".join(shown[:5])) if shown else (Observed.CLOSED, "nothing")


def _proxied(probe: Probe, answer: Answer, entries: Sequence[Entry]) -> tuple[Observed, str]:
    """Judge by the log, which says at which check a request ended. A guest that saw an open door is believed."""
    logged = _logged(probe, entries)
    if probe.wall is Wall.DOOR:
        return _door(answer, logged)
    if answer.seen == "open":
        return Observed.OPEN, answer.said
    if probe.stage is Stage.HEAD:
        if logged:
            return Observed.OPEN, f"the proxy read it as a request: {logged[-1].reason or logged[-1].kind}"
        return (Observed.CLOSED if answer.seen == "closed" else Observed.UNKNOWN), answer.said
    if not logged:
        return Observed.UNKNOWN, f"the proxy's log does not have it: {answer.said}"
    return _by_stage(probe, logged)


def _door(answer: Answer, logged: Sequence[Entry]) -> tuple[Observed, str]:
    """Judge whether the guest reaches the proxy: both have to say so."""
    if answer.seen == "open" and logged:
        return Observed.OPEN, f"the log has the request: {logged[-1].reason}"
    if answer.seen != "open" and not logged:
        return Observed.CLOSED, answer.said
    return Observed.UNKNOWN, f"{answer.said}; the log {'has' if logged else 'does not have'} the request"


def _by_stage(probe: Probe, logged: Sequence[Entry]) -> tuple[Observed, str]:
    """Judge by the check that ended a request: the probe's own, none before it, none after it."""
    stages = [(stage_of(entry), entry.reason or entry.kind) for entry in logged]
    for stage, reason in stages:
        if stage is None or probe.stage is None or stage < probe.stage:
            return Observed.UNKNOWN, f"it never came so far: {reason}"
        if stage > probe.stage:
            return Observed.OPEN, f"let through; then: {reason}"
    return Observed.CLOSED, stages[-1][1]


def _logged(probe: Probe, entries: Sequence[Entry]) -> list[Entry]:
    if probe.stage is Stage.HEAD:
        return [entry for entry in entries if probe.host in entry.host]
    return [entry for entry in entries if (entry.host, entry.port) == (probe.host, probe.port)]


def stage_of(entry: Entry) -> Stage | None:
    """Return which check ended a request; None when the log says nothing that is known here."""
    if entry.kind != Kind.REFUSED:
        return Stage.CONNECT
    return next((stage for words, stage in _WORDS if words in entry.reason), None)
