"""Let through of a guest's terminal output only what draws: an allow-list, whatever the chunks.

A guest may be hostile, and a terminal obeys: it would set the clipboard (OSC 52), change titles, or answer a query
with bytes that the user's shell reads as typed (CWE-150). Sequences and their meaning: ECMA-48 and xterm's ctlseqs.
"""

import codecs
import re
from enum import Enum

_CSI_FINALS = frozenset("ABCDEFGHIJKLMPSTXZ`abdefgmrsu@")  # move, erase, insert, delete, scroll, repeat, tabs, colour
_CSI_WITH_INTERMEDIATE = frozenset({" q", "!p"})  # cursor shape, soft reset
_ANSI_MODES = frozenset({4})  # insert
_PRIVATE_MODES = frozenset(
    {1, 5, 6, 7, 12, 25, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1047, 1048, 1049, 2004, 2026}
)
_ESCAPES = frozenset("78DEHM=>")  # save and restore cursor, index, next line, tab stop, keypad

_PRIVATE = frozenset("<=>?")

_ESC = "\x1b"
# Out: C0 but the harmless ones, DEL, C1; bidi overrides and isolates; tag characters, which nobody sees.
# The plainest sequences are in, for speed: text in colours is most of what a terminal is sent.
_SAFE = re.compile(
    "(?:[^\x00-\x06\x10-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]++"
    r"|\x1b\[[0-9;:]{0,64}+[@-HJKLMPXdfm]|\x1b(?:\([0B]|[78M]))++"
)
_SEQUENCE = re.compile(
    r"\x1b(?:"
    r"\[(?P<params>[0-?]{0,256})(?P<middle>[ -/]{0,4})(?P<final>[@-~])"
    r"|(?P<string>[P\]X^_k])"
    r"|(?P<charset>[()][0-2AB])"
    r"|[ -/]{1,4}[0-~]"
    r"|(?P<escape>[0-Z\\`-jl-~])"
    r")"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]{0,256}[ -/]{0,4}|[ -/]{0,4})\Z")
_BROKEN = re.compile(r"\x1b(?:\[[0-?]{0,256}[ -/]{0,4}|[ -/]{0,4})")
_STRING_END = re.compile(r"[\x07\x18\x1a\x1b\x9c]")


class _String(Enum):
    """What is being skipped."""

    NONE = 0
    BEL_ENDS = 1  # OSC, and the title of screen
    ST_ENDS = 2  # DCS, SOS, PM, APC


class TerminalFilter:
    """Feed it a guest's output in any pieces; it returns what may be shown."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = ""  # the start of a sequence
        self._string = _String.NONE
        self._modes: set[int] = set()
        self._region = False
        self._shape = False

    def feed(self, output: bytes) -> bytes:
        """Return what may be shown of `output` and of what was held back before it."""
        text = self._held + self._decode(output)
        self._held = ""
        shown: list[str] = []
        position = 0
        while position < len(text):
            if self._string is not _String.NONE:
                position = self._skip(text, position)
                continue
            if safe := _SAFE.match(text, position):
                shown.append(safe.group())
                position = safe.end()
                continue
            if text[position] != _ESC:
                position += 1
            elif sequence := _SEQUENCE.match(text, position):
                shown.append(self._allowed(sequence))
                position = sequence.end()
            elif _UNFINISHED.match(text, position):
                self._held = text[position:]
                break
            else:
                broken = _BROKEN.match(text, position)
                position = broken.end() if broken else position + 1
        return "".join(shown).encode()

    def reset(self) -> bytes:
        """Return what undoes the modes that the guest has left on."""
        modes = sorted(self._modes - {7, 25, 1048}, reverse=True)
        off = "".join(f"{_ESC}[?{mode}l" for mode in modes)
        region = f"{_ESC}7{_ESC}[r{_ESC}8" if self._region else ""  # to reset the region moves the cursor
        shape = f"{_ESC}[0 q" if self._shape else ""
        self._modes, self._region, self._shape = set(), False, False
        return f"{region}{off}{shape}{_ESC}[4l{_ESC}>{_ESC}(B\x0f{_ESC}[?7h{_ESC}[?25h{_ESC}[m".encode()

    def _skip(self, text: str, position: int) -> int:
        end = _STRING_END.search(text, position)
        if not end:
            return len(text)
        if end.group() == _ESC:
            if end.end() == len(text):
                self._held = _ESC
                return len(text)
            self._string = _String.NONE
            return end.end() + 1 if text[end.end()] == "\\" else end.start()
        if end.group() != "\a" or self._string is _String.BEL_ENDS:
            self._string = _String.NONE
        return end.end()

    def _allowed(self, sequence: re.Match[str]) -> str:
        if string := sequence["string"]:
            self._string = _String.BEL_ENDS if string in "]k" else _String.ST_ENDS
            return ""
        if sequence["charset"] or sequence["escape"] in _ESCAPES:
            return sequence.group()
        if sequence["final"]:
            return self._allowed_csi(sequence["params"], sequence["middle"], sequence["final"], sequence.group())
        return ""

    def _allowed_csi(self, params: str, middle: str, final: str, whole: str) -> str:
        if middle:
            if middle + final not in _CSI_WITH_INTERMEDIATE or _is_private(params):
                return ""
            self._shape = self._shape or final == "q"
            return whole
        if final in "hl":
            return self._allowed_modes(params, final)
        if final not in _CSI_FINALS or _is_private(params) or (final == "T" and ";" in params):
            return ""
        self._region = self._region or final == "r"
        return whole

    def _allowed_modes(self, params: str, final: str) -> str:
        private = params.startswith("?")
        asked = [int(word) for word in params.removeprefix("?").split(";") if word.isdigit() and len(word) < 6]
        modes = [mode for mode in asked if mode in (_PRIVATE_MODES if private else _ANSI_MODES)]
        if not modes or (not private and _is_private(params)):
            return ""
        if private:
            (self._modes.update if final == "h" else self._modes.difference_update)(modes)
        return f"{_ESC}[{'?' if private else ''}{';'.join(map(str, modes))}{final}"


class Unfiltered(TerminalFilter):
    """Shows everything, and only remembers what has to be undone."""

    def feed(self, output: bytes) -> bytes:
        """Return `output`."""
        super().feed(output)
        return output

    def reset(self) -> bytes:
        """Return what ends a string that the guest left open, and undoes what it may have set."""
        self._shape = True
        return f"{_ESC}\\{_ESC}[<u{_ESC}[>4m".encode() + super().reset()  # the two ways to report keys in full


def _is_private(params: str) -> bool:
    return not _PRIVATE.isdisjoint(params)
