"""The user's `config.toml`: a closed set of keys, each with its type; an unknown one is refused."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmkit.errors import NotFound, UsageError
from vmkit.host.files import own_directory, read_bounded, write_atomically

Value = str | int | bool

# section → key → type; "registry" is one table a registry
_KEYS: dict[str, dict[str, type]] = {
    "defaults": {"template": str, "cpus": int, "memory": str, "disk": str, "driver": str, "egress": str},
    "policy": {"require_signature": bool},
    "registry": {"plain_http": bool, "ca_file": str},
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user set; what they did not set is absent."""

    defaults: Mapping[str, Value] = field(default_factory=dict)
    policy: Mapping[str, Value] = field(default_factory=dict)
    registry: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def default(self, key: str) -> Value | None:
        """Return `defaults.KEY`, or None when the user did not set it."""
        return self.defaults.get(key)

    def flat(self) -> dict[str, Value]:
        """Return every value by its dotted name."""
        named: dict[str, Value] = {f"defaults.{key}": value for key, value in self.defaults.items()}
        named |= {f"policy.{key}": value for key, value in self.policy.items()}
        for host, table in self.registry.items():
            named |= {f'registry."{host}".{key}': value for key, value in table.items()}
        return named


def load_settings(path: Path) -> Settings:
    """Read `config.toml`; a missing file is empty. Raises UsageError naming the file and the key."""
    try:
        data = tomllib.loads(read_bounded(path, max_bytes=1 << 20).decode())
    except FileNotFoundError:
        return Settings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f'"{path}" is not valid TOML', detail=str(error)) from None
    return _checked(data, path)


def set_value(path: Path, name: str, text: str) -> Settings:
    """Write one dotted key, keeping the file's comments. Raises UsageError when the key or the value does not fit."""
    import tomlkit  # noqa: PLC0415  # only this verb writes TOML

    section, _, key = name.partition(".")
    if section == "registry":
        host, _, key = key.rpartition(".")
        where = [section, host.strip('"')]
    else:
        where = [section]
    kind = _table(section, f'"{name}"').get(key)
    if kind is None or not all(where):
        raise _unknown(name, [f"{part}.{known}" for part, keys in _KEYS.items() for known in keys])
    content = path.read_text() if path.exists() else ""
    document = tomlkit.parse(content)
    table: Any = document
    for part in where:
        table = table.setdefault(part, tomlkit.table())
    table[key] = _converted(text, kind, name)
    own_directory(path.parent)
    changed = tomlkit.dumps(document)
    settings = _checked(tomllib.loads(changed), path)
    write_atomically(path, changed.encode(), mode=0o600)
    return settings


def get_value(settings: Settings, name: str) -> Value:
    """Return one dotted key. Raises NotFound when it is not set."""
    values = settings.flat()
    if name not in values:
        raise NotFound(f'"{name}" is not set', hint="vmkit config list")
    return values[name]


def _checked(data: dict[str, Any], path: Path) -> Settings:
    for section, table in data.items():
        known = _table(section, f'"{path}"')
        if not isinstance(table, dict):
            raise UsageError(f'"{section}" in "{path}" must be a table')
        for key, value in table.items():
            if section == "registry":
                if not isinstance(value, dict):
                    raise UsageError(f'"registry.{key}" in "{path}" must be a table')
                for inner, inner_value in value.items():
                    _check(known, inner, inner_value, f'registry."{key}".{inner}', path)
            else:
                _check(known, key, value, f"{section}.{key}", path)
    return Settings(**data)


def _table(section: str, where: str) -> dict[str, type]:
    if section not in _KEYS:
        raise _unknown(section, list(_KEYS), where)
    return _KEYS[section]


def _check(known: dict[str, type], key: str, value: object, name: str, path: Path) -> None:
    if key not in known:
        raise _unknown(name, [f"{name.rpartition('.')[0]}.{other}" for other in known], f'"{path}"')
    kind = known[key]
    if kind is str and isinstance(value, int) and not isinstance(value, bool) and key in ("memory", "disk"):
        return  # a bare number is GiB
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UsageError(f'"{name}" in "{path}" must be a {kind.__name__}')


def _converted(text: str, kind: type, name: str) -> Value:
    if kind is bool:
        if text not in ("true", "false"):
            raise UsageError(f'"{name}" is true or false')
        return text == "true"
    if kind is int:
        if not text.isascii() or not text.isdigit():
            raise UsageError(f'"{name}" is a whole number')
        return int(text)
    return text


def _unknown(name: str, known: list[str], where: str = "") -> UsageError:
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UsageError(f'unknown setting "{name}"' + (f" in {where}" if where else ""), hint=hint)
