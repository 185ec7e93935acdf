import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmkit.guest.terminal import TerminalFilter

ATTACKS = {
    "clipboard": b"\x1b]52;c;ZXZpbA==\x07",
    "clipboard ended by ST": b"\x1b]52;c;ZXZpbA==\x1b\\",
    "title": b"\x1b]0;evil\x07",
    "title report": b"\x1b[21t",
    "screen title": b"\x1bkevil\x1b\\",
    "link": b"\x1b]8;;https://evil\x1b\\",
    "colour query": b"\x1b]4;1;?\x07",
    "device attributes": b"\x1b[c",
    "secondary device attributes": b"\x1b[>c",
    "position report": b"\x1b[6n",
    "private status": b"\x1b[?15n",
    "mode report": b"\x1b[?1049$p",
    "setting report": b"\x1bP$qm\x1b\\",
    "terminfo query": b"\x1bP+q544e\x1b\\",
    "application string": b"\x1b_Gevil\x1b\\",
    "privacy message": b"\x1b^evil\x1b\\",
    "start of string": b"\x1bXevil\x1b\\",
    "printing": b"\x1b[5i",
    "full reset": b"\x1bc",
    "answerback": b"\x05",
    "sixel": b"\x1bPq#0;2;0;0;0\x1b\\",
    "keyboard protocol": b"\x1b[>1u",
    "modify other keys": b"\x1b[>4;2m",
    "unknown mode": b"\x1b[?9999h",
    "132 columns": b"\x1b[?3h",
    "private mark inside": b"\x1b[11?r",
    "window": b"\x1b[8;1;1t",
    "eight-bit control": "\x9f".encode(),
    "bidi override": "\u202e".encode(),
    "tag character": "\U000e0041".encode(),
    "shifted single": b"\x1bN",
    "national": b"\x1b#8",
    "over-long parameters": b"\x1b[" + b"1;" * 200,
}

DRAWING = {
    "colours": b"\x1b[1;38;5;196mred\x1b[0m\x1b[38:2::1:2:3mx\x1b[m",
    "alternate screen": b"\x1b[?1049h\x1b[?1049l",
    "mouse and paste": b"\x1b[?1000h\x1b[?1006h\x1b[?2004h",
    "cursor": b"\x1b[H\x1b[2;3H\x1b[5d\x1b[7G\x1b[A\x1b7\x1b8\x1b[s\x1b[u\x1b[2 q\x1b[?25l",
    "erase and edit": b"\x1b[2J\x1b[K\x1b[3L\x1b[2M\x1b[4P\x1b[5@\x1b[6X\x1b[3b",
    "region": b"\x1b[1;20r\x1bM\x1bD\x1b[2S\x1b[2T",
    "line drawing": b"\x1b(0lqk\x1b(B\x0e\x0f",
    "soft reset": b"\x1b[!p\x1b[4l\x1b>",
    "text": "grüße ✓ 日本 👩‍💻\r\n\t\a\b".encode(),
}

ALLOWED = re.compile(
    r"\x1b\[\?(?:1|5|6|7|12|25|47|1000|1002|1003|1004|1005|1006|1015|1047|1048|1049|2004|2026)"
    r"(?:;(?:1|5|6|7|12|25|47|1000|1002|1003|1004|1005|1006|1015|1047|1048|1049|2004|2026))*[hl]"
    r"|\x1b\[4[hl]|\x1b\[[0-9;:]*[ABCDEFGHIJKLMPSTXZ`abdefgmrsu@]|\x1b\[[0-9;:]* q|\x1b\[[0-9;:]*!p"
    r"|\x1b[78DEHM=>]|\x1b[()][0-2AB]|[^\x00-\x06\x10-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)


def shown(*chunks: bytes) -> bytes:
    screen = TerminalFilter()
    return b"".join(screen.feed(chunk) for chunk in chunks)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_not_shown(attack):
    assert b"\x1b" not in shown(attack + b"after").removeprefix(b"\x1b[")
    assert not ALLOWED.sub("", shown(attack).decode())


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "over-long parameters"])
def test_text_around_an_attack_is_kept(name):
    assert shown(b"before" + ATTACKS[name] + b"after") == b"beforeafter"


@pytest.mark.parametrize("drawing", DRAWING.values(), ids=DRAWING)
def test_drawing_is_shown_unchanged(drawing):
    assert shown(drawing) == drawing


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from([*ATTACKS.values(), *DRAWING.values()]), st.binary(max_size=6)), max_size=12),
    st.lists(st.integers(min_value=1, max_value=7), min_size=1),
)
def test_nothing_else_than_drawing_leaks_however_it_is_cut(pieces, sizes):
    stream = b"".join(pieces)
    chunks, position, turn = [], 0, 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        chunks.append(stream[position : position + size])
        position, turn = position + size, turn + 1

    cut = shown(*chunks)

    assert cut == shown(stream)
    assert not ALLOWED.sub("", cut.decode())


def test_invalid_utf8_becomes_a_replacement_character():
    assert shown(b"a\xffb\xc3") == "a\ufffdb".encode()


def test_a_character_may_be_cut_in_two():
    assert shown(b"\xe2\x9c", b"\x93") == "✓".encode()


def test_reset_leaves_the_modes_the_guest_left_on():
    screen = TerminalFilter()
    screen.feed(b"\x1b[?1049h\x1b[?2004h\x1b[?1000h\x1b[?1000l")

    reset = screen.reset()

    assert b"\x1b[?1049l" in reset
    assert b"\x1b[?2004l" in reset
    assert b"\x1b[?1000l" not in reset


def test_reset_of_an_untouched_terminal_moves_no_cursor():
    assert b"1049" not in TerminalFilter().reset()
    assert b"\x1b[r" not in TerminalFilter().reset()
