"""Turn property list values into dataclasses by a table of keys, with the rules and the errors of Swift's Codable.

A dataclass's fields, in order, are the table: Swift reads the keys of a container in the order that UTM's decoder
names them, and the first error is the one that UTM reports.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, TypeVar

from vmkit.bundle.plist_values import Odd, Value
from vmkit.errors import Refused

T = TypeVar("T")

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class ConfigError(Refused):
    """UTM would not load this file. `path` is the key path, empty for the file as a whole; `problem` UTM's words."""

    kind = "config"

    def __init__(self, problem: str, *, path: str = "") -> None:
        super().__init__(
            f"UTM would not load this: {path or 'the file'}", detail=problem, hint="vmkit bundle check PATH"
        )
        self.path = path
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it was found. `ignored` collects the keys that nobody asked for."""

    value: Value
    path: str
    ignored: list[str]

    def child(self, name: str, value: Value) -> "Node":
        """Return what lies under the key `name`."""
        return Node(value, f"{self.path}.{name}" if self.path else name, self.ignored)


Values = Mapping[str, Any]  # the fields of the same record that were read before
Reader = Callable[[Node, Values], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """How one key is read and written. `optional`, `default` and `asked` may depend on the fields before."""

    name: str
    reader: Reader
    optional: bool | Callable[[Values], bool]
    default: Any
    asked: Callable[[Values], bool]
    saved: Callable[[Any], Any] | None


def key(
    name: str,
    reader: Reader,
    *,
    optional: bool | Callable[[Values], bool] = False,
    default: Any = None,
    asked: Callable[[Values], bool] = lambda _: True,
    saved: Callable[[Any], Any] | None = None,
) -> Any:
    """Return a dataclass field that stands for a key. `saved(record)` is what UTM would write, None for nothing."""
    entry = Key(name=name, reader=reader, optional=optional, default=default, asked=asked, saved=saved)
    return field(metadata={"key": entry}) if optional is False else field(default=None, metadata={"key": entry})


def table(record: type) -> dict[str, Key]:
    """Return the keys of a record, by field name."""
    return {entry.name: entry.metadata["key"] for entry in fields(record)}


def mismatch(node: Node, expected: str) -> ConfigError:
    """Word a value that is not of the type that a key wants, by Swift's name."""
    if node.value == Odd("null"):
        return ConfigError(f"valueNotFound({expected})", path=node.path)
    return ConfigError(f"typeMismatch({expected})", path=node.path)


def read_text(node: Node, _: Values) -> str:
    """Read a string."""
    if not isinstance(node.value, str):
        raise _corrupt(node, "string") or mismatch(node, "String")
    return node.value


def read_bool(node: Node, _: Values) -> bool:
    """Read a boolean; a number is none."""
    if not isinstance(node.value, bool):
        raise mismatch(node, "Bool")
    return node.value


def read_int(node: Node, _: Values) -> int:
    """Read an integer of 64 bits, or a real number that is one."""
    value = node.value
    if isinstance(value, float):
        if not value.is_integer() or not -(2**63) <= value < 2**63:
            raise ConfigError("dataCorrupted: the number is no 64-bit integer", path=node.path)
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _corrupt(node, "integer") or _corrupt(node, "real") or mismatch(node, "Int")
    return value


def read_data(node: Node, _: Values) -> bytes:
    """Read binary data."""
    if not isinstance(node.value, bytes):
        raise _corrupt(node, "data") or mismatch(node, "Data")
    return node.value


def read_uuid(node: Node, values: Values) -> str:
    """Read a UUID; upper case, as UTM writes it."""
    text = read_text(node, values)
    if not _UUID.fullmatch(text):
        raise ConfigError("dataCorrupted: not a UUID", path=node.path)
    return text.upper()


def choice(options: type[StrEnum]) -> Reader:
    """Return a reader of a closed set of strings; case counts."""

    def read(node: Node, values: Values) -> StrEnum:
        text = read_text(node, values)
        if text not in options.__members__.values():
            raise invalid_value(node)
        return options(text)

    return read


def invalid_value(node: Node) -> ConfigError:
    """Word a string that is not one of those that UTM knows."""
    return ConfigError("UTMConfigurationError.invalidConfigurationValue", path=node.path)


def array(reader: Reader) -> Reader:
    """Return a reader of an array whose every element `reader` takes."""

    def read(node: Node, values: Values) -> tuple[Any, ...]:
        if not isinstance(node.value, list):
            raise mismatch(node, "Array<Any>")
        return tuple(reader(Node(item, f"{node.path}[{i}]", node.ignored), values) for i, item in enumerate(node.value))

    return read


def record(of: type[T]) -> Callable[[Node, Values], T]:
    """Return a reader of a dictionary."""
    return lambda node, _: read_record(of, node)


def read_record(of: type[T], node: Node, *, spelling: Callable[[str], str] = str, known: tuple[str, ...] = ()) -> T:
    """Read a dictionary into a dataclass. `spelling` changes the keys' names; `known` keys are read elsewhere.

    Raises ConfigError.
    """
    if not isinstance(node.value, dict):
        raise mismatch(node, "Dictionary<String, Any>")
    values: dict[str, Any] = {}
    keys = {name: (spelling(entry.name), entry) for name, entry in table(of).items()}
    for name, (spelled, entry) in keys.items():
        values[name] = _read_key(node, node.value, spelled, entry, values)
    names = {spelled for spelled, _ in keys.values()} | set(known)
    for name in node.value:
        if name not in names:
            _ignore(node.child(name, node.value[name]))
    return of(**values)


def _read_key(node: Node, found: dict[str, Value], name: str, entry: Key, values: Values) -> Any:
    child = node.child(name, found[name]) if name in found and entry.asked(values) else None
    optional = entry.optional(values) if callable(entry.optional) else entry.optional
    if child is not None and not (optional and child.value == Odd("null")):
        return entry.reader(child, values)
    if not optional and entry.asked(values):
        raise ConfigError("keyNotFound", path=node.child(name, "").path)
    return entry.default(values) if callable(entry.default) else entry.default


def _ignore(node: Node) -> None:
    node.ignored.append(node.path)
    if isinstance(node.value, dict):
        for name, value in node.value.items():
            _ignore(node.child(name, value))
    if isinstance(node.value, list):
        for i, value in enumerate(node.value):
            for name, inner in value.items() if isinstance(value, dict) else ():
                _ignore(Node(inner, f"{node.path}[{i}].{name}", node.ignored))


def _corrupt(node: Node, kind: str) -> ConfigError | None:
    if node.value == Odd(kind, corrupt=True):
        return ConfigError(f"dataCorrupted: a malformed {kind}", path=node.path)
    return None


def to_value(item: Any) -> Any:
    """Return a record, and what is in it, as plain values that `plistlib` writes: what UTM would save."""
    if hasattr(item, "__dataclass_fields__"):
        saved = {
            entry.name: to_value(entry.saved(item) if entry.saved else getattr(item, name))
            for name, entry in table(type(item)).items()
        }
        return {name: value for name, value in saved.items() if value is not None}
    if isinstance(item, tuple):
        return [to_value(element) for element in item]
    return str(item) if isinstance(item, StrEnum) else item
