"""Make foreign text fit to show: one printable line, never an escape sequence, a bidi override or markup."""

import unicodedata

MAX_LINE_CHARS = 4096

_VISIBLE_BLANKS = {" ", "\t"}


def printable(text: str | bytes, *, max_chars: int = MAX_LINE_CHARS) -> str:
    r"""Return one line: printable characters as they are, C0 as `^X`, all else as `\u{hex}`; cut at `max_chars`.

    Text from a guest, an image, a registry or a file is data: an ESC in it would reach the terminal as a command
    (CWE-150), and a bidi override would show what is not there.
    """
    if isinstance(text, bytes):
        text = text[: 4 * max_chars].decode("utf-8", "backslashreplace")
    shown = "".join(_shown(character) for character in text[: max_chars + 1])
    return shown if len(text) <= max_chars and len(shown) <= max_chars else shown[: max_chars - 1] + "…"


def printable_lines(text: str | bytes, *, max_lines: int = 200) -> list[str]:
    """Return the last `max_lines` lines of `text`, each printable, split on LF and CR; empty lines dropped."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    lines = [line for line in text.replace("\r", "\n").split("\n") if line.strip()]
    return [printable(line) for line in lines[-max_lines:]]


def _shown(character: str) -> str:
    if character in _VISIBLE_BLANKS or character.isprintable():
        return character
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)
    if unicodedata.category(character) == "Zs":
        return " "
    return f"\\u{{{code:x}}}"
