"""The shipped groups of hosts: `network/groups.toml`, each host with the reason why it is there."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmkit.errors import VmkitError
from vmkit.host.files import read_bounded
from vmkit.host.resources import data_folder
from vmkit.network.rules import HTTPS, Rule, parse_target

_MAX_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Group:
    """Hosts that are allowed together."""

    name: str
    summary: str
    recipes: tuple[str, ...]  # a machine with one of these has the group from the start
    reasons: Mapping[Rule, str]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Its rules, as a template brings them."""
        return tuple(self.reasons)


def load_groups(folder: Path | None = None) -> Mapping[str, tuple[Rule, ...]]:
    """Return the rules of every shipped group, by name."""
    return {name: group.rules for name, group in describe_groups(folder).items()}


def describe_groups(folder: Path | None = None) -> Mapping[str, Group]:
    """Return every shipped group, by name. Raises VmkitError when the file is damaged."""
    return _read(folder or data_folder("network"))


@functools.cache
def _read(folder: Path) -> Mapping[str, Group]:
    path = folder / "groups.toml"
    try:
        content = tomllib.loads(read_bounded(path, max_bytes=_MAX_BYTES).decode())
        return {name: _group(name, table) for name, table in content.items()}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise VmkitError(f'"{path}" cannot be read', detail=str(error)) from error


def _group(name: str, table: Mapping[str, Any]) -> Group:
    if "." in name or not table["hosts"] or not table.keys() <= {"summary", "recipes", "hosts"}:
        raise ValueError(name)  # a dot would make it a host on the command line
    reasons = {}
    for target, why in table["hosts"].items():
        host, port = parse_target(target)
        reasons[Rule(host=host, ports=(port or HTTPS,), group=name, added_by="template")] = str(why)
    recipes = tuple(str(recipe) for recipe in table.get("recipes", ()))
    return Group(name=name, summary=str(table["summary"]), recipes=recipes, reasons=reasons)
