"""What a property list holds, and the limits that keep a hostile one harmless."""

import re
from dataclasses import dataclass
from typing import TypeAlias

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_NODES = 5000

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Odd:
    """A value that no key of UTM takes as it stands.

    Foundation looks at a scalar only when a key asks for it, so a malformed one in an ignored key does no harm:
    `kind` is what it is called in the file, and `corrupt` tells a malformed value from one of a foreign kind.
    """

    kind: str
    corrupt: bool = False


NULL = Odd("null")

Value: TypeAlias = "dict[str, Value] | list[Value] | str | bool | int | float | bytes | Odd"


class PlistError(Exception):
    """The file is not a property list, or one that we refuse on purpose. The text says why."""


class Budget:
    """Counts what was read, so that a small file cannot unfold into a large tree."""

    def __init__(self, max_nodes: int = MAX_NODES) -> None:
        self._max = self._left = max_nodes

    def spend(self, depth: int) -> None:
        """Account for one value at `depth`. Raises PlistError."""
        self._left -= 1
        if self._left < 0:
            raise PlistError(f"it holds more than {self._max} values")
        if depth >= MAX_DEPTH:
            raise PlistError(f"it is nested deeper than {MAX_DEPTH}")


def require_no_controls(text: str) -> str:
    """Return `text`. Raises PlistError when it holds a control character other than tab and line ends."""
    found = _CONTROL.search(text)
    if found:
        raise PlistError(f"it holds the control character U+{ord(found[0]):04X}")
    return text


def text_value(text: str) -> str | Odd:
    """Return a string value, or an Odd for one that is no Unicode."""
    return Odd("string", corrupt=True) if _SURROGATE.search(text) else text


def add_key(into: dict[str, Value], key: str | Odd, value: Value) -> None:
    """Put a key into a dictionary. Raises PlistError when it is there already: parsers differ on which one counts."""
    if isinstance(key, Odd):
        raise PlistError(f"a dictionary has a key that is not a string but {key.kind}")
    if key in into:
        raise PlistError(f'a dictionary has the key "{key[:60]}" twice')
    into[key] = value
