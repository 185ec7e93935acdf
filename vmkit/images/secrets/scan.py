"""Look for secrets in the raw bytes of a disk: live files, free blocks, swap and journals alike, across every border.

What is found is told by rule and place; the secret itself is in no result, repr, error or log.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmkit.images.secrets.rules import HARMLESS, MAX_MATCH_BYTES, RULES, Rule, decode_around

MAX_FINDINGS = 200

_BLOCK_BYTES = 4 << 20
_OVERLAP_BYTES = 2 * MAX_MATCH_BYTES  # what one match may reach over


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Finding:
    """Where something lies that looks like a secret. `offset`: in the disk."""

    offset: int
    length: int
    rule: str
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What a disk holds. `scanned_bytes` leaves out holes; `complete` is off when there were too many findings."""

    findings: tuple[Finding, ...]
    scanned_bytes: int
    complete: bool = True


def scan(
    disk: Path,
    *,
    known: Sequence[Rule] = (),
    harmless: frozenset[str] = HARMLESS,
    on_bytes: Callable[[int], None] = lambda _done: None,
) -> Scan:
    """Scan a raw disk for what the rules describe and for `known`, the secrets that somebody knows.

    `harmless`: SHA-256 of matches that are none. `on_bytes`: how much of the disk is done. Memory is bounded.
    """
    searches = _searches((*RULES, *known))
    found: dict[tuple[str, int], Finding] = {}
    scanned = 0
    with disk.open("rb", buffering=0) as file:
        for offset, fresh, block in _blocks(file.fileno()):
            scanned += fresh
            for search in searches:
                for finding in search.find(block, offset, harmless):
                    found[finding.rule, finding.offset] = finding  # the block that sees all of it comes last
            on_bytes(offset + len(block))
            if len(found) >= MAX_FINDINGS:
                return Scan(findings=tuple(sorted(found.values())), scanned_bytes=scanned, complete=False)
    return Scan(findings=tuple(sorted(found.values())), scanned_bytes=scanned)


def _blocks(descriptor: int) -> Iterator[tuple[int, int, bytes]]:
    """Give offset, how much of it is new, and bytes: each block begins with the end of the one before."""
    size = os.fstat(descriptor).st_size
    offset, tail = 0, b""
    while offset < size:
        try:
            data = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        if data != offset:  # between them lie zeros, which no secret has
            tail = b""
        fresh = os.pread(descriptor, _BLOCK_BYTES, data)
        if not fresh:
            return
        offset = data + len(fresh)
        if fresh.count(0) == len(fresh):
            tail = b""
            continue
        yield data - len(tail), len(fresh), tail + fresh
        tail = fresh[-_OVERLAP_BYTES:]


def _searches(rules: Sequence[Rule]) -> list["_Search"]:
    """Return one search for all the rules that share a letter."""
    by_anchor: dict[bytes, list[Rule]] = {}
    for rule in rules:
        by_anchor.setdefault(rule.anchor, []).append(rule)
    return [_Search(anchor, group) for anchor, group in by_anchor.items()]


class _Search:
    """One pass over a block."""

    def __init__(self, anchor: bytes, rules: Sequence[Rule]) -> None:
        escaped = re.escape(anchor)
        # The groups overlap: what one rule's hint fits, another's may too.
        self._any = re.compile(escaped + rb"(?=" + rb"|".join(rule.hint for rule in rules) + rb")", re.DOTALL)
        self._rules = [(rule, re.compile(escaped + rb"(?=" + rule.hint + rb")", re.DOTALL)) for rule in rules]

    def find(self, block: bytes, offset: int, harmless: frozenset[str]) -> Iterator[Finding]:
        """Give what the rules find in a block that lies at `offset`."""
        for place in self._any.finditer(block):
            for rule, hint in self._rules:
                if hint.match(block, place.start()):
                    look = _decoded_span if rule.encoded else _span
                    span = look(rule, block, place.start(), harmless)
                    if span:
                        low, high = span
                        yield Finding(offset=offset + low, length=high - low, rule=rule.id, title=rule.title)


def _span(rule: Rule, block: bytes, at: int, harmless: frozenset[str]) -> tuple[int, int] | None:
    """Return the match that has the place `at` in it."""
    low = max(0, at - MAX_MATCH_BYTES)
    for match in rule.pattern.finditer(block, low, at + MAX_MATCH_BYTES):
        if match.start() > at:
            break
        if match.end() > at and not _is_harmless(match[0], harmless):
            return match.span()
    return None


def _decoded_span(rule: Rule, block: bytes, at: int, harmless: frozenset[str]) -> tuple[int, int] | None:
    for decoded in decode_around(block, at, at + 1):
        match = rule.pattern.search(decoded)
        if match and not _is_harmless(match[0], harmless):
            return at, at + 1  # where the base64 begins says little
    return None


def _is_harmless(match: bytes, harmless: frozenset[str]) -> bool:
    return hashlib.sha256(match).hexdigest() in harmless
