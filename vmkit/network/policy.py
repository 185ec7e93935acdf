"""What one machine may reach, and why not: a pure decision over rules, and the file that holds them.

Deny beats allow; what no rule names is refused. The file lies beside the machine's record, where no guest can write.
"""

import datetime as dt
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vmkit.errors import NotFound, Refused, UsageError
from vmkit.host.files import read_bounded, write_atomically
from vmkit.host.text import printable
from vmkit.network.broad import refuse_broad
from vmkit.network.groups import load_groups
from vmkit.network.rules import HTTPS, Mode, Rule, checked_host, checked_pattern, matches, nearest

__all__ = [
    "Decision",
    "Mode",
    "Policy",
    "Rule",
    "checked_host",
    "load_groups",
    "load_policy",
    "parse_policy",
    "refuse_broad",
    "render_policy",
    "save_policy",
]

MAX_BYTES = 256 << 10
MAX_RULES = 2000
ADDED_BY = ("template", "user", "learn")

_KEYS = ("mode", "groups", "deny", "learning_since", "allow")
_ALLOW_KEYS = ("host", "group", "ports", "expires", "added_by")
_HEAD = """\
# What this machine may reach. vmkit rewrites this file: comments are not kept.
# vmkit net show, allow, deny; the keys: docs/reference/policy.md
"""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether one host and port may be reached, by which rule, or why not and what is allowed nearby."""

    allowed: bool
    host: str
    port: int
    rule: Rule | None
    reason: str
    nearest: str | None = None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a machine may reach."""

    mode: Mode
    rules: tuple[Rule, ...] = ()
    denied: tuple[str, ...] = ()  # hosts and `*.x` that no rule opens
    learning_since: float | None = None  # seconds of the epoch

    def decide(self, host: str, port: int, *, now: float) -> Decision:
        """Judge one host, in the form that `checked_host` returns, and port; `now` is seconds of the epoch."""
        if self.mode is Mode.AIRGAP:
            return self._refused(host, port, "this machine has no network (airgap)")
        denied = next((pattern for pattern in self.denied if matches(pattern, host)), None)
        if denied:
            return self._refused(host, port, f'"{denied}" is denied')
        if self.mode is Mode.OPEN:
            reason = "the network of this machine is open"
            return Decision(allowed=True, host=host, port=port, rule=None, reason=reason)
        named = [rule for rule in self.rules if matches(rule.host, host)]
        rule = next((rule for rule in named if port in rule.ports and rule.is_live(now)), None)
        if rule:
            return Decision(allowed=True, host=host, port=port, rule=rule, reason=f"allowed: {origin(rule)}")
        return self._unnamed(host, port, named, now)

    def _unnamed(self, host: str, port: int, named: list[Rule], now: float) -> Decision:
        ended = max((rule.expires for rule in named if rule.expires and port in rule.ports), default=None)
        if ended:
            return self._refused(host, port, f'"{host}" was allowed until {show_time(ended)}')
        live = [rule for rule in named if rule.is_live(now)]
        if live:
            ports = ", ".join(str(port) for port in sorted({port for rule in live for port in rule.ports}))
            return self._refused(host, port, f'"{host}" is allowed on port {ports} only', near=live[0].host)
        near = nearest(host, (rule.host for rule in self.rules if rule.is_live(now)))
        return self._refused(host, port, f'"{host}" is not in the policy', near=near)

    def _refused(self, host: str, port: int, reason: str, *, near: str | None = None) -> Decision:
        return Decision(allowed=False, host=host, port=port, rule=None, reason=reason, nearest=near)


def origin(rule: Rule) -> str:
    """Return where a rule comes from, in words."""
    of = f' of group "{rule.group}"' if rule.group else ""
    until = f", until {show_time(rule.expires)}" if rule.expires is not None else ""
    return f'"{rule.host}"{of}, added by {rule.added_by}{until}'


def show_time(seconds: float) -> str:
    """Return a moment as the policy file says it: `2026-11-22T05:48:00Z`."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def load_policy(path: Path, *, groups: Mapping[str, tuple[Rule, ...]]) -> Policy:
    """Read a policy file. Raises NotFound, UsageError with file and key, Refused for a rule that is too broad."""
    try:
        content = read_bounded(path, max_bytes=MAX_BYTES)
    except FileNotFoundError:
        raise NotFound(f'there is no policy "{path}"') from None
    try:
        return parse_policy(content, groups=groups)
    except UsageError as error:
        raise UsageError(f'"{path}": {error.message}', detail=error.detail, hint=error.hint) from None
    except Refused as error:
        raise Refused(f'"{path}": {error.message}', detail=error.detail, hint=error.hint) from None


def save_policy(path: Path, policy: Policy) -> None:
    """Write a policy file, whole or not at all. Raises Refused when it has become too large."""
    content = render_policy(policy).encode()
    if len(content) > MAX_BYTES or len(policy.rules) > MAX_RULES:
        raise Refused(f"a policy of {len(policy.rules)} rules is too large", hint=f"at most {MAX_RULES}")
    write_atomically(path, content)


def parse_policy(content: bytes, *, groups: Mapping[str, tuple[Rule, ...]]) -> Policy:
    """Read the text of a policy file. Raises UsageError, Refused."""
    try:
        data = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError("not valid TOML", detail=printable(str(error))) from None
    _only_known(data, _KEYS, "key")
    mode = data.get("mode", Mode.STRICT.value)
    if mode not in list(Mode):
        raise UsageError(f'"mode" is {_shown(mode)}', hint=f"one of: {', '.join(Mode)}")
    rules: dict[Rule, None] = {}  # in order, each once
    for name in _texts(data, "groups"):
        rules |= dict.fromkeys(_group(name, groups))
    allow = data.get("allow", [])
    if not isinstance(allow, list) or not all(isinstance(entry, dict) for entry in allow):
        raise UsageError('"allow" must be tables: [[allow]]')
    for entry in allow:
        rules |= dict.fromkeys(_allowed(entry, groups))
    if len(rules) > MAX_RULES:
        raise Refused(f"{len(rules)} rules are too many", hint=f"at most {MAX_RULES}")
    return Policy(
        mode=Mode(mode),
        rules=tuple(rules),
        denied=tuple(checked_pattern(text) for text in _texts(data, "deny")),
        learning_since=_moment(data, "learning_since"),
    )


def render_policy(policy: Policy) -> str:
    """Return the text of a policy file; `parse_policy` reads it back to the same."""
    whole = dict.fromkeys(rule.group for rule in policy.rules if rule.group and _is_plain(rule))
    lines = [_HEAD, f'mode = "{policy.mode}"', f"groups = {_list(name for name in whole if name)}"]
    lines += [f"deny = {_list(policy.denied)}"] if policy.denied else []
    if policy.learning_since is not None:
        lines.append(f"learning_since = {show_time(policy.learning_since)}")
    entries = dict.fromkeys(f"\n{render_rule(rule)}" for rule in policy.rules if not (rule.group and _is_plain(rule)))
    return "\n".join([*lines, *entries]) + "\n"


def render_rule(rule: Rule) -> str:
    """Return one `[[allow]]` table; a rule of a group names the whole group."""
    what = f'group = "{rule.group}"' if rule.group else f'host = "{rule.host}"\nports = {list(rule.ports)}'
    until = f"\nexpires = {show_time(rule.expires)}" if rule.expires is not None else ""
    return f'[[allow]]\n{what}\nadded_by = "{rule.added_by}"{until}'


def _is_plain(rule: Rule) -> bool:
    return rule.added_by == "template" and rule.expires is None


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"


def _allowed(entry: dict[str, Any], groups: Mapping[str, tuple[Rule, ...]]) -> list[Rule]:
    _only_known(entry, _ALLOW_KEYS, 'key of "allow"')
    added_by = entry.get("added_by", "user")
    if added_by not in ADDED_BY:
        raise UsageError(f'"added_by" is {_shown(added_by)}', hint=f"one of: {', '.join(ADDED_BY)}")
    expires = _moment(entry, "expires")
    host, group = entry.get("host"), entry.get("group")
    if isinstance(group, str) and host is None and "ports" not in entry:
        return [replace(rule, added_by=added_by, expires=expires) for rule in _group(group, groups)]
    if not isinstance(host, str) or group is not None:
        raise UsageError('an "allow" has a "host", with or without "ports", or a "group"')
    pattern = checked_pattern(host)
    refuse_broad(pattern)
    return [Rule(host=pattern, ports=_ports(entry), added_by=added_by, expires=expires)]


def _ports(entry: dict[str, Any]) -> tuple[int, ...]:
    ports = entry.get("ports", [HTTPS])
    if isinstance(ports, list) and ports and all(type(port) is int and 1 <= port <= 65535 for port in ports):
        return tuple(dict.fromkeys(ports))
    raise UsageError(f'"ports" is {_shown(ports)}', hint="a list of numbers from 1 to 65535")


def _group(name: str, groups: Mapping[str, tuple[Rule, ...]]) -> tuple[Rule, ...]:
    if name not in groups:
        raise unknown("group", name, groups)
    return groups[name]


def _texts(data: dict[str, Any], key: str) -> list[str]:
    texts = data.get(key, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f'"{key}" must be a list of names')
    return texts


def _moment(data: dict[str, Any], key: str) -> float | None:
    moment = data.get(key)
    if moment is None:
        return None
    if not isinstance(moment, dt.datetime) or moment.tzinfo is None:
        raise UsageError(f'"{key}" is {_shown(moment)}', hint="a moment with its offset, such as 2026-11-22T05:48:00Z")
    return moment.timestamp()


def _only_known(data: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    for key in data:
        if key not in known:
            raise unknown(what, key, known)


def unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is none of those known, with the nearest."""
    names = list(known)
    near = difflib.get_close_matches(name[:80], names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UsageError(f'unknown {what} "{printable(name, max_chars=60)}"', hint=hint)


def _shown(value: object) -> str:
    return printable(repr(value), max_chars=60)
