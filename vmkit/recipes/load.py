"""Read recipes: the user's own first, then those that are shipped. Bad ones are refused before any guest is asked."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vmkit.errors import NotFound, Refused, UsageError
from vmkit.host.files import read_bounded
from vmkit.host.resources import data_folder
from vmkit.host.text import printable
from vmkit.recipes.model import Account, File, Packages, PutAsset, Recipe, Script, Step

RECIPE_FILE = "recipe.toml"

_MAX_FILE_BYTES = 256 << 10
_MAX_TIMEOUT_S = 24 * 3600
_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(\|[a-z0-9][a-z0-9+.-]*)*")
_TARGET = re.compile(r"~?(/[A-Za-z0-9._@+-]+)+")
_MODE = re.compile(r"0?[0-7]{3}")

_RECIPE_KEYS = ("summary", "needs", "generalise", "remove", "step")
_COMMON_KEYS = ("id", "timeout")
_STEP_KEYS = {
    "packages": (),
    "file": ("to", "mode", "owner"),
    "script": ("as", "check", "uses"),
    "asset": ("room",),
}
_TIMEOUTS_S = {"packages": 1800, "file": 60, "script": 600, "asset": 3600}


def load_recipes(names: Iterable[str], *, user_folder: Path) -> tuple[Recipe, ...]:
    """Return the named recipes, each once, after all it needs.

    Raises NotFound with the nearest names; UsageError for a bad recipe or recipes that need each other.
    """
    folders = _folders(user_folder)
    loaded: dict[str, Recipe] = {}
    for name in names:
        _load_with_needs(name, folders, loaded, ())
    return tuple(loaded.values())


def list_recipes(*, user_folder: Path) -> tuple[Recipe, ...]:
    """Return every recipe there is, by name; the user's hides a shipped one of the same name."""
    return tuple(read_recipe(folder) for _, folder in sorted(_folders(user_folder).items()))


def read_recipe(folder: Path) -> Recipe:
    """Read the recipe in `folder`. Raises UsageError, naming the file and the key."""
    reader = _Reader(folder)
    try:
        document = tomllib.loads(reader.content(RECIPE_FILE).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise reader.bad(f"is not TOML: {printable(str(error), max_chars=200)}") from None
    if not _NAME.fullmatch(folder.name):
        raise reader.bad("is in a folder whose name is not a word of a-z, 0-9 and -")
    reader.only_keys(document, _RECIPE_KEYS, where="")
    steps = document.get("step", [])
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise reader.bad('"step" must be written as [[step]]')
    recipe = Recipe(
        name=folder.name,
        summary=printable(reader.text(document, "summary", where="")),
        needs=tuple(reader.words(document, "needs", _NAME, where="") if "needs" in document else ()),
        steps=tuple(_step(reader, table) for table in steps),
        folder=folder,
        generalise=reader.content(reader.text(document, "generalise", where="")) if "generalise" in document else None,
        remove=reader.content(reader.text(document, "remove", where="")) if "remove" in document else None,
    )
    _check_steps(reader, recipe)
    return recipe


def _folders(user_folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in (user_folder, data_folder("provision")):
        for file in root.glob(f"*/{RECIPE_FILE}"):
            found.setdefault(file.parent.name, file.parent)
    return found


def _load_with_needs(
    name: str, folders: Mapping[str, Path], loaded: dict[str, Recipe], needed_by: tuple[str, ...]
) -> None:
    if name in loaded:
        return
    if name in needed_by:
        raise UsageError("recipes need each other", detail=" → ".join([*needed_by[needed_by.index(name) :], name]))
    if name not in folders:
        near = difflib.get_close_matches(name, folders, n=3) or sorted(folders)
        raise NotFound(
            f'there is no recipe "{printable(name, max_chars=60)}"',
            detail=f'the recipe "{needed_by[-1]}" needs it' if needed_by else None,
            hint=f"vmkit recipe list (nearest: {', '.join(near)})",
        )
    recipe = read_recipe(folders[name])
    for need in recipe.needs:
        _load_with_needs(need, folders, loaded, (*needed_by, name))
    loaded[name] = recipe


class _Reader:
    """Read values from a recipe, each with an error that names the file and the key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def bad(self, problem: str) -> UsageError:
        return UsageError(
            f'the recipe "{printable(self.folder.name, max_chars=60)}" {problem}', detail=str(self.folder / RECIPE_FILE)
        )

    def only_keys(self, table: Mapping[str, Any], known: Iterable[str], *, where: str) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, list(known), n=1) or [", ".join(known)]
                raise self.bad(f'has an unknown key "{where}{printable(key, max_chars=60)}"; nearest: {near[0]}')

    def text(self, table: Mapping[str, Any], key: str, *, where: str, form: re.Pattern[str] | None = None) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.bad(f'must have a text as "{where}{key}"')
        if form and not form.fullmatch(value):
            raise self.bad(f'has a bad "{where}{key}": "{printable(value, max_chars=60)}"')
        return value

    def words(self, table: Mapping[str, Any], key: str, form: re.Pattern[str], *, where: str) -> list[str]:
        value = table[key]
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.bad(f'must have a list of texts as "{where}{key}"')
        return [self.text({key: word}, key, where=where, form=form) for word in value]

    def number(self, table: Mapping[str, Any], key: str, default: int, *, limit: int, where: str) -> int:
        value = table.get(key, default)
        if type(value) is not int or not 1 <= value <= limit:
            raise self.bad(f'must have a number from 1 to {limit} as "{where}{key}"')
        return value

    def content(self, name: str) -> bytes:
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise self.bad(f'names a file outside its folder: "{printable(name, max_chars=60)}"')
        try:
            return read_bounded(path, max_bytes=_MAX_FILE_BYTES)
        except Refused as error:
            raise self.bad(f"has too large a file: {error.message}") from None
        except (OSError, ValueError):
            raise self.bad(f'names a file that cannot be read: "{printable(name, max_chars=60)}"') from None


def _step(reader: _Reader, table: Mapping[str, Any]) -> Step:
    name = reader.text(table, "id", where="step.", form=_NAME)
    where = f"{name}."
    kinds = [kind for kind in _STEP_KEYS if kind in table]
    if len(kinds) != 1:
        raise reader.bad(f'must have exactly one of {", ".join(_STEP_KEYS)} in the step "{name}"')
    kind = kinds[0]
    reader.only_keys(table, (*_COMMON_KEYS, kind, *_STEP_KEYS[kind]), where=where)
    timeout_s = float(reader.number(table, "timeout", _TIMEOUTS_S[kind], limit=_MAX_TIMEOUT_S, where=where))
    match kind:
        case "packages":
            names = tuple(reader.words(table, "packages", _PACKAGE, where=where))
            return Packages(id=name, names=names, timeout_s=timeout_s)
        case "file":
            return File(
                id=name,
                content=reader.content(reader.text(table, "file", where=where)),
                target=_target(reader, table, where),
                mode=int(reader.text({"mode": "0644", **table}, "mode", where=where, form=_MODE), 8),
                owner=_account(reader, table, "owner", where),
                timeout_s=timeout_s,
            )
        case "script":
            return Script(
                id=name,
                content=reader.content(reader.text(table, "script", where=where)),
                account=_account(reader, table, "as", where),
                check=reader.text(table, "check", where=where) if "check" in table else None,
                uses=reader.text(table, "uses", where=where, form=_NAME) if "uses" in table else None,
                timeout_s=timeout_s,
            )
        case _:
            asset = reader.text(table, "asset", where=where, form=_NAME)
            room = reader.number(table, "room", 2, limit=100, where=where)
            return PutAsset(id=name, asset=asset, room=room, timeout_s=timeout_s)


def _account(reader: _Reader, table: Mapping[str, Any], key: str, where: str) -> Account:
    """Read who does it. There is no default: what runs as root must be seen in the recipe."""
    value = reader.text(table, key, where=where)
    if value not in set(Account):
        raise reader.bad(f'must have "root" or "user" as "{where}{key}"')
    return Account(value)


def _target(reader: _Reader, table: Mapping[str, Any], where: str) -> str:
    target = reader.text(table, "to", where=where, form=_TARGET)
    if {".", ".."} & set(target.split("/")):
        raise reader.bad(f'has a bad "{where}to": "{printable(target, max_chars=60)}"')
    return target


def _check_steps(reader: _Reader, recipe: Recipe) -> None:
    seen: set[str] = set()
    put: set[str] = set()
    for step in recipe.steps:
        if step.id in seen:
            raise reader.bad(f'has two steps "{step.id}"')
        seen.add(step.id)
        if isinstance(step, PutAsset):
            put.add(step.asset)
        elif isinstance(step, Script) and step.uses and step.uses not in put:
            raise reader.bad(f'has no asset step "{step.uses}" before the step "{step.id}" that uses it')
