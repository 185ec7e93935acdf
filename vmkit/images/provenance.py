"""What an image says of where it came from: its lock, and that it was looked through for secrets."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from vmkit.errors import Refused
from vmkit.host.text import printable

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
_OPTIONAL_NAME = re.compile(r"([a-z][a-z0-9-]{0,40})?")
_OPTIONAL_VERSION = re.compile(r"[A-Za-z0-9.+~_-]{0,64}")
_OPTIONAL_DIGEST = re.compile(r"(sha256:[0-9a-f]{64})?")
_MODE = re.compile(r"strict|open|airgap")
_TARGET = re.compile(r"(\*\.)?[a-z0-9.-]{1,253}(:[0-9]{1,5})?")
_MAX_RECIPES = 1000
_MAX_RULES = 4000
_MAX_NUMBER = 1 << 53


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """What an image was made from: the base's manifest, the template, Kiro CLI, recipes by name and digest.

    `base` is empty for one that was built. `refreshed_from`: the manifest of the image that it was rebuilt from.
    """

    base: str
    template: str = ""
    kiro_version: str = ""
    kiro_digest: str = ""
    recipes: tuple[tuple[str, str], ...] = ()
    refreshed_from: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seal:
    """That an image was generalised and its disk scanned for secrets, by which version of the rules."""

    rules: int
    scanned_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePolicy:
    """What a machine of an image may reach at most: the mode, `HOST[:PORT]` that are allowed, hosts that are denied.

    It narrows what the user allows, and opens nothing.
    """

    mode: str
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


def render_provenance(lock: Lock | None, seal: Seal | None, policy: ImagePolicy | None = None) -> dict[str, Any]:
    """Return what the config says of them: nothing where there is none."""
    said: dict[str, Any] = {}
    if lock:
        said["lock"] = asdict(lock) | {"recipes": [list(one) for one in lock.recipes]}
        if not lock.refreshed_from:
            del said["lock"]["refreshed_from"]  # what an earlier vmkit reads too
    policy_said = {"policy": asdict(policy)} if policy else {}
    return said | ({"seal": asdict(seal)} if seal else {}) | policy_said


def parse_lock(config: dict[str, Any]) -> Lock | None:
    """Return the lock, or None for an image without one. Raises Refused."""
    keys = {"base", "template", "kiro_version", "kiro_digest", "recipes"}
    said = _part(config, "lock", keys, optional={"refreshed_from"})
    if said is None:
        return None
    recipes = said["recipes"]
    if not isinstance(recipes, list) or len(recipes) > _MAX_RECIPES:
        raise _bad("recipes", recipes)
    return Lock(
        base=_text(said, "base", _OPTIONAL_DIGEST),
        template=_text(said, "template", _OPTIONAL_NAME),
        kiro_version=_text(said, "kiro_version", _OPTIONAL_VERSION),
        kiro_digest=_text(said, "kiro_digest", _OPTIONAL_DIGEST),
        recipes=tuple(_recipe(recipe) for recipe in recipes),
        refreshed_from=_text({"refreshed_from": "", **said}, "refreshed_from", _OPTIONAL_DIGEST),
    )


def parse_seal(config: dict[str, Any]) -> Seal | None:
    """Return the seal, or None for an image without one. Raises Refused."""
    said = _part(config, "seal", {"rules", "scanned_bytes"})
    if said is None:
        return None
    for key, value in said.items():
        if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
            raise _bad(key, value)
    return Seal(rules=said["rules"], scanned_bytes=said["scanned_bytes"])


def parse_policy(config: dict[str, Any]) -> ImagePolicy | None:
    """Return the policy, or None for an image without one; its names are judged when they are used. Raises Refused."""
    said = _part(config, "policy", {"mode", "allow", "deny"})
    if said is None:
        return None
    for key in ("allow", "deny"):
        if not isinstance(said[key], list) or len(said[key]) > _MAX_RULES:
            raise _bad(key, said[key])
    return ImagePolicy(
        mode=_text(said, "mode", _MODE),
        allow=tuple(_text({"allow": target}, "allow", _TARGET) for target in said["allow"]),
        deny=tuple(_text({"deny": target}, "deny", _TARGET) for target in said["deny"]),
    )


def _part(
    config: dict[str, Any], key: str, keys: set[str], *, optional: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any] | None:
    if key not in config:  # made by an earlier vmkit, or built and not saved
        return None
    part = config[key]
    if not isinstance(part, dict) or not keys <= part.keys() <= keys | optional:
        raise _bad(key, part)
    return part


def _recipe(value: object) -> tuple[str, str]:
    match value:
        case [str(name), str(digest)] if _NAME.fullmatch(name) and _DIGEST.fullmatch(digest):
            return name, digest
    raise _bad("recipes", value)


def _text(said: dict[str, Any], key: str, form: re.Pattern[str]) -> str:
    value = said[key]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _bad(key, value)
    return value


def _bad(key: str, value: object) -> Refused:
    return Refused(f'the image\'s "{key}" is not of the allowed form', detail=printable(str(value)[:200]))
