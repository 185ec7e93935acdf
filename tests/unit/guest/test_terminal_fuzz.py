"""Generated streams through the filter, cut anywhere, judged by an oracle that knows nothing of the filter.

The oracle reads the bytes that came out as a terminal would: whatever they hold must be on its own list. Streams made
only of known pieces must moreover come out as exactly those pieces that draw.
"""

import random
import re

import pytest

from tests.unit.guest.test_terminal import ATTACKS, DRAWING
from vmkit.guest.terminal import TerminalFilter

MODES = rb"(?:1|5|6|7|12|25|47|100[0-6]|1015|104[789]|2004|2026)"
# Bytes, not characters: what a terminal reads. UTF-8 spelled out, but for C1 (c2 80-9f), the bidi controls
# (e2 80 aa-ae, e2 81 a6-a9) and the tag characters (f3 a0 80-81).
HARMLESS = re.compile(
    rb"(?:[\x07-\x0f\x20-\x7e]"
    rb"|\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]"
    rb"|\xe2(?:\x80[\x80-\xa9\xaf-\xbf]|\x81[\x80-\xa5\xaa-\xbf]|[\x82-\xbf][\x80-\xbf])"
    rb"|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1\xe3-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1\xf2][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
    rb"|\xf3(?:\xa0[\x82-\xbf]|[\x80-\x9f\xa1-\xbf][\x80-\xbf])[\x80-\xbf]"
    rb"|\x1b[78DEHM=>]|\x1b[()][0-2AB]"
    rb"|\x1b\[[0-9;:]*(?:[A-MPSXZ`abdefgmrsu@]| q|!p)|\x1b\[[0-9:]*T"
    rb"|\x1b\[4[hl]|\x1b\[\?" + MODES + rb"(?:;" + MODES + rb")*[hl])*+"
)
TEXT = [b"a", b"ls -l\r\n", b"\t\x08 ", "gr\u00fc\u00df".encode(), "\u65e5\u672c".encode(), "\U0001f469\u200d".encode()]
# A string that nothing ends, and bytes that are no UTF-8, change what follows: they go to the streams without a promise.
KNOWN_ATTACKS = [attack for name, attack in ATTACKS.items() if name != "over-long parameters"]
INTRODUCERS = [
    b"\x1b",
    b"\x1b[",
    b"\x1b[?",
    b"\x1b[>",
    b"\x1b]",
    b"\x1bP",
    b"\x1b_",
    b"\x1b(",
    b"\x1b#",
    b"\x9b",
    b"\xc2\x9b",
]
TAILS = [
    b"6n",
    b"c",
    b"0c",
    b"m",
    b"h",
    b"1049h",
    b"5i",
    b"21t",
    b"52;c;eA==",
    b"\x07",
    b"\x1b\\",
    b"\x18",
    b"\x9c",
    b"!p",
    b" q",
    b"$p",
    b"1;2T",
    b"\\",
]

QUICK, ALL = 20_000, 1_000_000


def run(cases: int, *, seed: int) -> int:
    """Run so many cases and return how many bytes they had."""
    choose = random.Random(seed)
    total = 0
    for case in range(cases):
        stream, expected = known(choose) if case % 2 else (junk(choose), None)
        whole = TerminalFilter().feed(stream)
        cut = in_pieces(stream, choose)
        total += len(stream)
        if cut != whole or not HARMLESS.fullmatch(whole) or expected not in (None, whole):
            pytest.fail(f"seed {seed}, case {case}: {stream!r} gives {whole!r}, in pieces {cut!r}, not {expected!r}")
    return total


def known(choose: random.Random) -> tuple[bytes, bytes]:
    stream, expected = b"", b""
    for _ in range(int(choose.random() * 6) + 1):
        kind = choose.random()
        if kind < 0.4:
            stream += pick(choose, KNOWN_ATTACKS)
            continue
        piece = pick(choose, DRAWINGS if kind < 0.7 else TEXT)
        stream += piece
        expected += piece
    return stream, expected


def junk(choose: random.Random) -> bytes:
    stream = b""
    for _ in range(int(choose.random() * 6) + 1):
        kind = choose.random()
        if kind < 0.3:
            stream += pick(choose, INTRODUCERS) + pick(choose, TAILS)
        elif kind < 0.5:
            stream += choose.randbytes(int(choose.random() * 7))
        elif kind < 0.8:
            stream += pick(choose, EVERYTHING)
        else:  # a known piece with one byte changed
            piece = bytearray(pick(choose, EVERYTHING))
            piece[int(choose.random() * len(piece))] = int(choose.random() * 256)
            stream += piece
    return stream


def in_pieces(stream: bytes, choose: random.Random) -> bytes:
    feed, position, shown = TerminalFilter().feed, 0, b""
    longest = 1 + int(choose.random() * 24)
    while position < len(stream):
        size = 1 + int(choose.random() * longest)
        shown += feed(stream[position : position + size])
        position += size
    return shown


def pick(choose: random.Random, pieces: list[bytes]) -> bytes:
    return pieces[int(choose.random() * len(pieces))]


DRAWINGS = list(DRAWING.values())
EVERYTHING = [*ATTACKS.values(), *DRAWINGS, *TEXT]


def test_generated_streams_come_out_harmless_and_whole_however_they_are_cut() -> None:
    assert run(QUICK, seed=1) > QUICK


@pytest.mark.slow
@pytest.mark.long
def test_a_million_generated_streams_come_out_harmless_and_whole_however_they_are_cut() -> None:
    assert run(ALL, seed=2) > ALL


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_the_oracle_knows_every_attack(attack: bytes) -> None:
    assert not HARMLESS.fullmatch(attack)


@pytest.mark.parametrize("drawing", [*DRAWING.values(), *TEXT])
def test_the_oracle_lets_drawing_pass(drawing: bytes) -> None:
    assert HARMLESS.fullmatch(drawing)
