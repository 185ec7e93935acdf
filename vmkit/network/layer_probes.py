"""What is tried behind each wall a program can be put behind, what it should come to, and the judgement of what came.

Pure. The walls: none, srt and a container inside a guest protect the guest; the machine protects this computer. So
every wall is asked the same of "the computer": the one outside it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vmkit.errors import Refused
from vmkit.host.text import printable

MAX_ANSWER_BYTES = 256 << 10
_MAX_SAID = 200


class Side(StrEnum):
    """A wall, seen from the program that is behind it."""

    NONE = "none"
    SRT = "srt"
    CONTAINER = "container"
    MACHINE = "machine"


class Dimension(StrEnum):
    """What a question is about; the rows of `vmkit compare`."""

    FILES = "file system"
    PROCESSES = "processes"
    KERNEL = "kernel"
    NETWORK = "network"
    CREDENTIALS = "credentials"
    FRICTION = "friction"


class Seen(StrEnum):
    """What was seen. OPEN: the program could."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Question:
    """Whether a program can do something. `open_at`, `closed_at`: where it should be so; elsewhere it is only told."""

    id: str
    dimension: Dimension
    text: str
    open_at: frozenset[Side]
    closed_at: frozenset[Side]


def _ask(name: str, dimension: Dimension, text: str, *, opens: str = "", closes: str = "") -> Question:
    def sides(letters: str) -> frozenset[Side]:
        return frozenset(side for side in Side if side[0] in letters)

    return Question(id=name, dimension=dimension, text=text, open_at=sides(opens), closed_at=sides(closes))


# By their first letters: none, srt, container, machine.
QUESTIONS = (
    _ask("write-workspace", Dimension.FILES, "write in the workspace", opens="nscm"),
    _ask("write-outside", Dimension.FILES, "write beside the workspace", opens="n", closes="scm"),
    _ask("read-key", Dimension.FILES, "read an SSH key", opens="n", closes="scm"),
    _ask("read-other", Dimension.FILES, "read other files of the user", opens="ns", closes="cm"),
    _ask("see-process", Dimension.PROCESSES, "see the user's processes", opens="n", closes="scm"),
    _ask("signal-process", Dimension.PROCESSES, "end the user's processes", opens="n", closes="scm"),
    _ask("same-kernel", Dimension.KERNEL, "use the computer's own kernel", opens="nsc", closes="m"),
    _ask("root", Dimension.KERNEL, "become root of the computer", opens="n", closes="scm"),
    _ask("kernel-module", Dimension.KERNEL, "load a module into its kernel", opens="n", closes="scm"),
    _ask("kernel-bpf", Dimension.KERNEL, "use bpf in its kernel", opens="n", closes="scm"),
    _ask("kernel-ptrace", Dimension.KERNEL, "trace its own children in that kernel", opens="n", closes="m"),
    _ask("kernel-namespace", Dimension.KERNEL, "make namespaces in that kernel", opens="n", closes="scm"),
    _ask("net-direct", Dimension.NETWORK, "connect to a service of the computer", opens="n", closes="scm"),
    _ask("net-proxy", Dimension.NETWORK, "reach that by the proxy", closes="sm"),
    _ask("net-unlisted", Dimension.NETWORK, "open a tunnel to a name off the list", closes="sm"),
    _ask("variable", Dimension.CREDENTIALS, "read a token in the environment", opens="n", closes="scm"),
    _ask("kiro-login", Dimension.CREDENTIALS, "read Kiro's own login"),
    _ask("works-git", Dimension.FRICTION, "commit with git in the workspace", opens="nscm"),
    _ask("works-cache", Dimension.FRICTION, "write in ~/.cache"),
    _ask("works-unix-socket", Dimension.FRICTION, "make a Unix socket"),
)
# These mean nothing where the kernel is another one.
_OF_THE_KERNEL = ("root", "kernel-module", "kernel-bpf", "kernel-ptrace", "kernel-namespace")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of one question behind one wall."""

    question: Question
    side: Side
    seen: Seen
    evidence: str

    @property
    def passed(self) -> bool:
        """Whether it is as it should be, or nothing is asked of it."""
        if self.side in self.question.open_at:
            return self.seen is Seen.OPEN
        return self.side not in self.question.closed_at or self.seen is Seen.CLOSED

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        question = self.question
        expected = "open" if self.side in question.open_at else "closed" if self.side in question.closed_at else None
        return {
            "id": question.id,
            "dimension": question.dimension.value,
            "question": question.text,
            "expected": expected,
            "observed": self.seen.value,
            "evidence": self.evidence,
            "passed": self.passed,
        }


def read_reply(content: bytes, *, what: str) -> Mapping[str, Any]:
    """Return what a program of ours printed in the guest, a JSON object. Raises Refused."""
    try:
        data: Any = json.loads(content) if len(content) <= MAX_ANSWER_BYTES else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or data.get("schema") != 1:
        raise Refused(f"{what}: the guest's answer is no answer", detail=printable(content, max_chars=200))
    return data


def judge_side(side: Side, reply: Mapping[str, Any], witness: Mapping[str, Any], *, token: str) -> list[Answer]:
    """Return the answers of one wall: the program's own word, and where somebody else saw it, the witness's."""
    said = reply.get("answers")
    answers = said if isinstance(said, dict) else {}
    kernel = _seen(answers.get("same-kernel"))[0]
    return [_judge(question, side, answers, witness, kernel=kernel, token=token) for question in QUESTIONS]


def _judge(
    question: Question,
    side: Side,
    answers: Mapping[str, Any],
    witness: Mapping[str, Any],
    *,
    kernel: Seen,
    token: str,
) -> Answer:
    seen, said = _seen(answers.get(question.id))
    came = witness.get("arrivals")
    arrivals = [word for word in came if isinstance(word, str)] if isinstance(came, list) else []
    match question.id:
        case "write-outside" if isinstance(witness.get("written"), bool):
            seen = Seen.OPEN if witness["written"] else Seen.CLOSED
        case "net-direct" if isinstance(came, list):
            seen = Seen.OPEN if any(word.startswith(f"direct-{token}") for word in arrivals) else Seen.CLOSED
        case "net-proxy" if isinstance(came, list):
            seen = Seen.OPEN if any(word.startswith(f"proxied-{token}") for word in arrivals) else Seen.CLOSED
        case name if name in _OF_THE_KERNEL and seen is Seen.OPEN and kernel is Seen.CLOSED:
            seen, said = Seen.CLOSED, f"only in a kernel of its own ({said})"
        case _:
            pass
    return Answer(question=question, side=side, seen=seen, evidence=said)


def _seen(value: Any) -> tuple[Seen, str]:
    if not isinstance(value, dict) or not isinstance(value.get("said"), str):
        return Seen.UNKNOWN, "no answer"
    said = printable(value["said"], max_chars=_MAX_SAID)
    return {"open": Seen.OPEN, "closed": Seen.CLOSED}.get(str(value.get("seen")), Seen.UNKNOWN), said
