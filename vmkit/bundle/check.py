"""Judge a `config.plist`, or the one in a `.utm` folder, as UTM would: whether it loads, and what UTM makes of it."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmkit.bundle.config import Backend, ConfigError, decode
from vmkit.bundle.plist import parse_plist
from vmkit.bundle.plist_values import MAX_BYTES, PlistError, Value
from vmkit.errors import NotFound
from vmkit.host.text import printable


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why UTM would not load a file. `path` is the key path, empty when the file as a whole is meant."""

    path: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A value that UTM reads as another one, and would write back so."""

    path: str
    before: object
    after: object


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What UTM makes of a file. `defaults` are the missing keys that it fills in, with their values."""

    loads: bool
    backend: str | None
    problems: tuple[Problem, ...] = ()
    ignored_keys: tuple[str, ...] = ()
    defaults: Mapping[str, object] = field(default_factory=dict)
    changed: tuple[Change, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return what `bundle check --json` prints."""
        return {
            "schema": 1,
            "loads": self.loads,
            "backend": self.backend,
            "problems": [{"path": found.path, "problem": found.problem} for found in self.problems],
            "ignored_keys": list(self.ignored_keys),
            "defaults": list(self.defaults),
            "default_values": dict(self.defaults),
            "changed": [{"path": found.path, "from": found.before, "to": found.after} for found in self.changed],
        }


def check(path: Path) -> Verdict:
    """Judge the file at `path`, or `config.plist` in the folder there. Raises NotFound when there is none to read."""
    return judge(_read(path / "config.plist" if path.is_dir() else path))


def judge(content: bytes) -> Verdict:
    """Judge what a `config.plist` holds. Never raises, whatever it is."""
    backend = None
    ignored: list[str] = []
    try:
        plist = parse_plist(content)
        backend = _named_backend(plist)
        config = decode(plist, ignored=ignored)
    except PlistError as error:
        reason = f"dataCorrupted: the file is not a valid property list: {error}"
        return Verdict(loads=False, backend=None, problems=(Problem(path="", problem=printable(reason)),))
    except ConfigError as error:
        problem = Problem(path=printable(error.path), problem=error.problem)
        return Verdict(loads=False, backend=backend, problems=(problem,))
    defaults: dict[str, object] = {}
    changed: list[Change] = []
    _compare(plist, config.to_plist(), "", defaults, changed)
    return Verdict(
        loads=True,
        backend=backend,
        ignored_keys=tuple(sorted(map(printable, ignored))),
        defaults=defaults,
        changed=tuple(changed),
    )


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise NotFound(f'"{path}" is not a file')
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NotFound(
            f'"{path}" cannot be read', detail=reason, hint="name a config.plist, or a .utm folder that holds one"
        ) from error


def _named_backend(plist: Value) -> str | None:
    name = plist.get("Backend") if isinstance(plist, dict) else None
    return name if isinstance(name, str) and name in Backend.__members__.values() else None


def _compare(found: Any, saved: Any, path: str, defaults: dict[str, object], changed: list[Change]) -> None:
    """Note where what UTM would save differs from what it found; keys that it would drop are no difference."""
    if isinstance(found, dict) and isinstance(saved, dict):
        for name, value in saved.items():
            inner = f"{path}.{name}" if path else name
            if name in found:
                _compare(found[name], value, inner, defaults, changed)
            elif name[:1].lower() + name[1:] not in found:  # else a port forward, as UTM before 4.4 wrote it
                defaults[inner] = value
    elif isinstance(found, list) and isinstance(saved, list):
        for i, (element, value) in enumerate(zip(found, saved, strict=False)):
            _compare(element, value, f"{path}[{i}]", defaults, changed)
    elif found != saved or type(found) is not type(saved):
        changed.append(Change(path=path, before=printable(found) if isinstance(found, str) else found, after=saved))
