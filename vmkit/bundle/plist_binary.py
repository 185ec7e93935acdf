"""Read binary property lists (`bplist00`), every offset and every size checked before it is used.

Checked against swift-foundation's BPlistScanner.
"""

import struct

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

MAGIC = b"bplist0"
MIN_BYTES = 41  # the magic, one object, the trailer

_TRAILER = struct.Struct(">6xBBQQQ")


def parse_binary(content: bytes, *, max_nodes: int = MAX_NODES) -> Value:
    """Return the value in a binary property list. Raises PlistError."""
    try:
        return _Reader(content, max_nodes).top()
    except (IndexError, struct.error) as error:
        raise PlistError("an object lies outside the file") from error


class _Reader:
    def __init__(self, content: bytes, max_nodes: int) -> None:
        offset_size, self.ref_size, count, self.top_index, table = _TRAILER.unpack(content[-_TRAILER.size :])
        size = len(content) - _TRAILER.size
        if not (offset_size and self.ref_size and self.top_index < count and 9 <= table < size):
            raise PlistError("its trailer is corrupt")
        if table + count * offset_size != size or (self.ref_size < 8 and 1 << (8 * self.ref_size) <= count):
            raise PlistError("its trailer is corrupt")
        self.objects = content[:table]
        self.offsets = [int.from_bytes(content[at : at + offset_size], "big") for at in range(table, size, offset_size)]
        if any(offset >= table for offset in self.offsets) or self.offsets[self.top_index] < 8:
            raise PlistError("its offset table is corrupt")
        self.budget = Budget(max_nodes)
        self.scalars: dict[int, Value] = {}  # a shared text is decoded once, however often it is named

    def top(self) -> Value:
        return self._value(self.top_index, depth=0)

    def _value(self, index: int, depth: int) -> Value:
        """Read an object. Shared objects are counted each time, so that a small graph cannot become a large tree."""
        self.budget.spend(depth)
        if index in self.scalars:
            return self.scalars[index]
        at = self.offsets[index]
        marker, low = self.objects[at] & 0xF0, self.objects[at] & 0x0F
        if marker in (0xA0, 0xD0):
            length, at = self._length(at, low)
            references = self._references(at, length * (2 if marker == 0xD0 else 1))
            if marker == 0xA0:
                return [self._value(reference, depth + 1) for reference in references]
            return self._dict(references[:length], references[length:], depth)
        value = self._scalar(at, marker, low)
        self.scalars[index] = value
        return value

    def _dict(self, keys: list[int], values: list[int], depth: int) -> Value:
        found: dict[str, Value] = {}
        for key_index, value_index in zip(keys, values, strict=True):
            key = self._value(key_index, depth + 1)
            if not isinstance(key, str | Odd):
                raise PlistError("a dictionary has a key that is not a string")
            add_key(found, key, self._value(value_index, depth + 1))
        return found

    def _scalar(self, at: int, marker: int, low: int) -> Value:
        if marker == 0x00 and low in (0, 8, 9):
            return NULL if low == 0 else low == 9
        if marker == 0x10 and low <= 4:
            return self._integer(at + 1, 1 << low)
        if marker == 0x20 and low in (2, 3):
            raw = self._bytes(at + 1, 1 << low)
            return float(struct.unpack(">f" if low == 2 else ">d", raw)[0])
        if marker == 0x30 and low == 3:
            return Odd("date")
        if marker in (0x40, 0x50, 0x60):
            length, at = self._length(at, low)
            raw = self._bytes(at, length * (2 if marker == 0x60 else 1))
            return raw if marker == 0x40 else _text(raw, wide=marker == 0x60)
        if marker in (0x80, 0xC0):
            return Odd("uid" if marker == 0x80 else "set")
        raise PlistError("it holds an object of an unknown kind")

    def _integer(self, at: int, size: int) -> Value:
        raw = self._bytes(at, size)
        number = int.from_bytes(raw[-8:], "big", signed=size == 8)
        return number if number < 1 << 63 else Odd("integer", corrupt=True)

    def _length(self, at: int, low: int) -> tuple[int, int]:
        if low != 0x0F:
            return low, at + 1
        size = 1 << (self.objects[at + 1] & 0x0F)
        if self.objects[at + 1] & 0xF0 != 0x10 or size > 16:
            raise PlistError("a length is corrupt")
        return int.from_bytes(self._bytes(at + 2, size)[-8:], "big"), at + 2 + size

    def _references(self, at: int, count: int) -> list[int]:
        raw = self._bytes(at, count * self.ref_size)
        found = [int.from_bytes(raw[i : i + self.ref_size], "big") for i in range(0, len(raw), self.ref_size)]
        if any(reference >= len(self.offsets) for reference in found):
            raise PlistError("a reference is corrupt")
        return found

    def _bytes(self, at: int, length: int) -> bytes:
        if length > len(self.objects) - at:
            raise PlistError("an object lies outside the file")
        return self.objects[at : at + length]


def _text(raw: bytes, *, wide: bool) -> Value:
    try:
        text = raw.decode("utf-16-be", "surrogatepass") if wide else raw.decode("ascii")
    except UnicodeDecodeError:
        return Odd("string", corrupt=True)
    if text == "$null" and not wide:
        return NULL
    return text_value(require_no_controls(text))
