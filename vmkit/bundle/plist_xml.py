"""Read XML property lists the way Apple's Foundation scans them, which is not the way of an XML parser.

Attributes are skipped, a tag is known by its first letters, inline DTDs do not exist, and numbers are looked at late.
Checked against swift-foundation's XMLPlistScanner.
"""

import base64
import re

from vmkit.bundle.plist_values import (
    MAX_NODES,
    NULL,
    Budget,
    Odd,
    PlistError,
    Value,
    add_key,
    require_no_controls,
    text_value,
)

_INT64 = range(-(1 << 63), 1 << 63)
_NULL_TEXT = "$null"

_TAG = re.compile("plist|array|dict|data|date|false|integer|key|real|string|true")
_BLANKS = re.compile(r"[ \t\r\n]*")
_RUN = re.compile(r"[^<&]*")
_ENTITY = re.compile(r"&(?:(lt|gt|amp|apos|quot)|#([0-9]{0,7})|#x([0-9a-fA-F]{0,7}));")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "apos": "'", "quot": '"'}
_INTEGER_BLANKS = re.compile(r"[\s\x7f-\xa0]*")
_DIGITS = re.compile(r"0[xX]([0-9a-fA-F]{1,32})|([0-9]{1,40})")
_REAL = re.compile(
    r"[ \t\r\n]*[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)", re.IGNORECASE
)
_MAX_REAL_CHARS = 400
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")


def parse_xml(text: str, *, max_nodes: int = MAX_NODES) -> Value:
    """Return the value in an XML property list. Raises PlistError."""
    return _Scanner(require_no_controls(text), max_nodes).document()


class _Scanner:
    def __init__(self, text: str, max_nodes: int) -> None:
        self.text = text
        self.at = 0
        self.budget = Budget(max_nodes)

    def document(self) -> Value:
        while True:
            self._skip_blanks()
            self._expect("<")
            if self._sees("!--"):
                self._skip_past("-->", "a comment")
            elif self._sees("!"):
                self._skip_doctype()
            elif self._sees("?"):
                self._skip_past("?>", "a processing instruction")
            else:
                return self._element(depth=-1)  # the <plist> around the value is no level of it

    def _element(self, depth: int) -> Value:
        self.budget.spend(depth)
        tag, empty = self._open_tag()
        if empty and tag in ("plist", "data", "date", "real", "integer"):
            raise PlistError(f"<{tag}/> is empty")
        if tag == "dict":
            return {} if empty else self._dict(depth)
        if tag == "array":
            return [] if empty else self._array(depth)
        if tag == "plist":
            return self._plist(depth)
        if tag in ("true", "false"):
            if not empty:
                self._close_tag(tag)
            return tag == "true"
        content = "" if empty else self._string() if tag in ("key", "string") else self._raw()
        if not empty:
            self._close_tag(tag)
        return _scalar(tag, content)

    def _open_tag(self) -> tuple[str, bool]:
        match = _TAG.match(self.text, self.at)
        end = self.text.find(">", self.at)
        if not match or end < 0 or end + 1 == len(self.text):
            raise PlistError("it has an unknown or an unfinished tag")
        self.at = end + 1
        return match[0], self.text[end - 1] == "/"

    def _close_tag(self, tag: str) -> None:
        if not self.text.startswith(f"</{tag}", self.at):
            raise PlistError(f"<{tag}> is not closed")
        self.at += len(tag) + 2
        self._skip_blanks()
        self._expect(">")

    def _plist(self, depth: int) -> Value:
        if not self._at_value():
            raise PlistError("it is empty")
        value = self._element(depth + 1)
        if self._at_value():
            raise PlistError("it holds more than one value")
        self._close_tag("plist")
        return value

    def _array(self, depth: int) -> Value:
        values: list[Value] = []
        while self._at_value():
            values.append(self._element(depth + 1))
        self._close_tag("array")
        return values

    def _dict(self, depth: int) -> Value:
        values: dict[str, Value] = {}
        while self._at_value():
            if self._open_tag() != ("key", False):
                raise PlistError("a dictionary has a value without a key")
            key = self._string()
            self._close_tag("key")
            if not self._at_value():
                raise PlistError("a dictionary has a key without a value")
            add_key(values, NULL if key == _NULL_TEXT else text_value(key), self._element(depth + 1))
        self._close_tag("dict")
        return values

    def _at_value(self) -> bool:
        """Move to behind the `<` of the next value and tell so, or stay before a closing tag."""
        while True:
            self._skip_blanks()
            if self._sees("</", consume=False):
                return False
            self._expect("<")
            if self._sees("!--"):
                self._skip_past("-->", "a comment")
            elif self._sees("?"):
                self._skip_past("?>", "a processing instruction")
            else:
                return True

    def _string(self) -> str:
        if self._sees(_NULL_TEXT):  # Foundation stops here too, and then misses the closing tag of "$nullable"
            return _NULL_TEXT
        parts: list[str] = []
        while True:
            run = _RUN.match(self.text, self.at)
            if run:
                parts.append(run[0])
                self.at = run.end()
            if self._sees("&", consume=False):
                parts.append(self._entity())
            elif self._sees("<!", consume=False):
                parts.append(self._cdata())
            else:
                return "".join(parts)

    def _entity(self) -> str:
        match = _ENTITY.match(self.text, self.at)
        if not match:
            raise PlistError("it has an unknown entity")
        self.at = match.end()
        if match[1]:
            return _ENTITIES[match[1]]
        number = int(match[3] or "0", 16) if match[3] is not None else int(match[2] or "0")
        if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise PlistError("it has an entity that is no character")
        return require_no_controls(chr(number))

    def _cdata(self) -> str:
        if not self._sees("<![CDATA["):
            raise PlistError("a string holds markup")
        start = self.at
        self._skip_past("]]>", "a CDATA section")
        return self.text[start : self.at - 3]

    def _raw(self) -> str:
        end = self.text.find("<", self.at)
        start, self.at = self.at, len(self.text) if end < 0 else end
        return self.text[start : self.at]

    def _skip_doctype(self) -> None:
        if not self._sees("DOCTYPE"):
            raise PlistError("it has a malformed DTD")
        start = self.at
        self._skip_past(">", "a DTD")
        if "[" in self.text[start : self.at]:
            raise PlistError("it declares entities or another inline DTD")

    def _skip_past(self, end: str, what: str) -> None:
        found = self.text.find(end, self.at)
        if found < 0:
            raise PlistError(f"{what} has no end")
        self.at = found + len(end)

    def _skip_blanks(self) -> None:
        match = _BLANKS.match(self.text, self.at)
        if match:
            self.at = match.end()

    def _sees(self, what: str, *, consume: bool = True) -> bool:
        if not self.text.startswith(what, self.at):
            return False
        self.at += len(what) if consume else 0
        return True

    def _expect(self, what: str) -> None:
        if not self._sees(what):
            raise PlistError("it ends too early, or has text where a tag belongs")


def _scalar(tag: str, content: str) -> Value:
    if tag in ("key", "string"):
        return NULL if content == _NULL_TEXT else text_value(content)
    if tag == "integer":
        return _integer(content)
    if tag == "real":
        fits = len(content) <= _MAX_REAL_CHARS and _REAL.fullmatch(content)
        return float(content) if fits else Odd("real", corrupt=True)
    if tag == "data":
        return _data(content)
    return Odd("date")


def _integer(content: str) -> Value:
    """Read a number. Blanks may stand before the sign and before the digits, not behind them."""
    text = _INTEGER_BLANKS.sub("", content, count=1)
    sign = text[:1]
    match = _DIGITS.fullmatch(_INTEGER_BLANKS.sub("", text[1:], count=1) if sign in ("+", "-") else text)
    if not match:
        return Odd("integer", corrupt=True)
    number = int(match[1], 16) if match[1] else int(match[2])
    number = -number if sign == "-" else number
    return number if number in _INT64 else Odd("integer", corrupt=True)


def _data(content: str) -> Value:
    if not content.isascii():
        return Odd("data", corrupt=True)
    letters = _NOT_BASE64.sub("", content)
    whole = letters[: len(letters) - (len(letters) % 4 == 1)]
    return base64.b64decode(whole + "=" * (-len(whole) % 4))
