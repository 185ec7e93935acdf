"""What `template.toml` may say: the keys, their types, and the options that `--set` takes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmkit.errors import UsageError
from vmkit.host.sizes import parse_size

_OPTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_USER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_RECIPE_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
_EGRESS = ("strict", "open", "airgap")
_BACKENDS = ("qemu", "apple")
_SYSTEMS = ("linux", "macos")
_RESERVED = (  # what config.plist.j2 knows by these names
    "machine",
    "target",
    "drives",
    "hardware_model",
    "machine_identifier",
    "auxiliary_storage",
    "efi_variables",
)
_TYPES: Mapping[str, type] = {"string": str, "integer": int, "boolean": bool}
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class TemplateField:
    """A key of template.toml: the attribute that it becomes, what it must be, and how it is read (None: it is not).

    `default` is what a template that does not say gets; without one it has to say.
    """

    attribute: str
    must_be: str
    read: Callable[[Any], Any]
    default: str | None = None


@dataclass(frozen=True, kw_only=True)
class TemplateOption:
    """A value that `--set` changes."""

    default: str | int | bool
    choices: tuple[str | int, ...] = ()
    help: str = ""

    def parse(self, name: str, text: str) -> str | int | bool:
        """Return the value that `text` stands for. Raises UsageError when it is none of this option's."""
        value: str | int | bool | None = text
        if isinstance(self.default, bool):
            value = _TRUTHS.get(text.lower())
        elif isinstance(self.default, int):
            value = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
        elif not text.isprintable():
            value = None
        if value is None or (self.choices and value not in self.choices):
            raise UsageError(f'option "{name}" cannot be "{text[:60]}"', hint=f"{self._wanted()}")
        return value

    def _wanted(self) -> str:
        if self.choices:
            return f"one of: {', '.join(map(str, self.choices))}"
        kind = next(kind for kind, of in _TYPES.items() if type(self.default) is of)
        return "true or false" if kind == "boolean" else f"a printable {kind}" if kind == "string" else f"an {kind}"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable() else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 255 else None


def _size(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        return parse_size(value, what="size")
    except UsageError:
        return None


def _mebibytes(value: Any) -> int | None:
    size = _size(value)
    return size >> 20 if size and size >= 1 << 20 else None


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str | None]:
    return lambda value: value if value in choices else None


def _names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, list) and all(isinstance(name, str) and _RECIPE_NAME.fullmatch(name) for name in value):
        return tuple(value)
    return None


FIELDS: Mapping[str, TemplateField] = {
    "summary": TemplateField(attribute="summary", must_be="a line of text", read=_text),
    "cpus": TemplateField(attribute="cpus", must_be="a number from 1 to 255", read=_count),
    "memory": TemplateField(attribute="memory_mib", must_be='a size such as "4GiB"', read=_mebibytes),
    "disk": TemplateField(attribute="disk_bytes", must_be='a size such as "20GiB"', read=_size),
    "image": TemplateField(attribute="image", must_be="the name of an image", read=_text),
    "user": TemplateField(
        attribute="user",
        must_be="the name of a user in the guest",
        read=lambda value: value if isinstance(value, str) and _USER_NAME.fullmatch(value) else None,
    ),
    "recipes": TemplateField(attribute="recipes", must_be="a list of recipes' names", read=_names),
    "egress": TemplateField(
        attribute="egress",
        must_be=f"one of: {', '.join(_EGRESS)}",
        read=_one_of(_EGRESS),
    ),
    "backend": TemplateField(
        attribute="backend", must_be=f"one of: {', '.join(_BACKENDS)}", read=_one_of(_BACKENDS), default="qemu"
    ),
    "system": TemplateField(
        attribute="system", must_be=f"one of: {', '.join(_SYSTEMS)}", read=_one_of(_SYSTEMS), default="linux"
    ),
}


def read_field(key: str, value: Any, *, file: Path) -> Any:
    """Return the value of a key. Raises UsageError with the file and the key."""
    read = FIELDS[key].read(value)
    if read is None:
        raise UsageError(f'"{key}" must be {FIELDS[key].must_be}', detail=str(file))
    return read


def with_defaults(values: Mapping[str, Any], *, template: str, file: Path) -> dict[str, Any]:
    """Return what a template and its ancestors say, by key, filled up, when it fits together. Raises UsageError."""
    found = {key: field.default for key, field in FIELDS.items() if field.default is not None} | dict(values)
    if found["system"] == "macos":
        found.setdefault("image", "")  # it is installed, not copied
    missing = [key for key in FIELDS if key not in found]
    if missing:
        raise UsageError(f'template "{template}" does not say "{missing[0]}"', detail=str(file))
    if found["system"] == "macos" and (found["backend"] != "apple" or found["image"]):
        raise UsageError('a template of "system" macos has "backend" apple, and no "image"', detail=str(file))
    if found["backend"] == "apple" and found["egress"] != "open":
        raise UsageError(
            'a template of "backend" apple has "egress" open: UTM cannot close the network of such a machine',
            detail=str(file),
        )
    return found


def read_options(content: Any, *, file: Path) -> dict[str, TemplateOption]:
    """Return the options that a template declares. Raises UsageError with the file and the option."""
    if not isinstance(content, dict):
        raise UsageError('"options" must be a table', detail=str(file))
    return {name: _option(name, entry, file=file) for name, entry in content.items()}


def _option(name: str, entry: Any, *, file: Path) -> TemplateOption:
    if not _OPTION_NAME.fullmatch(name) or name in _RESERVED:
        raise UsageError(
            f'option "{name[:60]}" must be lower-case letters, digits, underscores, and no name of ours',
            detail=str(file),
        )
    if not isinstance(entry, dict):
        raise UsageError(f'option "{name}" must be a table', detail=str(file))
    unknown = set(entry) - {"type", "default", "choices", "help"}
    if unknown:
        raise UsageError(f'option "{name}" has an unknown key "{min(unknown)[:60]}"', detail=str(file))
    kind: Any = _TYPES.get(str(entry.get("type", "string")))
    if kind is None:
        raise UsageError(f'option "{name}": "type" must be one of: {", ".join(_TYPES)}', detail=str(file))
    choices = entry.get("choices", [])
    if (
        not isinstance(choices, list)
        or any(type(choice) is not kind for choice in choices)
        or (choices and kind is bool)
    ):
        raise UsageError(
            f'option "{name}": "choices" must be a list of {entry.get("type", "string")}s', detail=str(file)
        )
    default: Any = entry.get("default")
    if type(default) is not kind or (choices and default not in choices):
        raise UsageError(f'option "{name}": "default" must be of its type and one of its choices', detail=str(file))
    explained = entry.get("help", "")
    if not isinstance(explained, str) or (isinstance(default, str) and not default.isprintable()):
        raise UsageError(f'option "{name}": "help" and "default" must be printable text', detail=str(file))
    return TemplateOption(default=default, choices=tuple(choices), help=explained)
