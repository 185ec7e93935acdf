"""Narrow a policy by what somebody else would allow: what both allow is left, and nothing that one alone does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vmkit.network.policy import Policy
from vmkit.network.rules import HTTPS, Mode, Rule, checked_pattern, matches, parse_target

_WIDTH = (Mode.AIRGAP, Mode.STRICT, Mode.OPEN)


@dataclass(frozen=True, kw_only=True)
class Narrowed:
    """A policy, and the rules of before that it lacks or has only in part."""

    policy: Policy
    lost: tuple[Rule, ...]


def narrow(policy: Policy, *, mode: Mode, allow: Sequence[str], deny: Iterable[str]) -> Narrowed:
    """Return what `policy` and another one allow together; the other's rules are `HOST[:PORT]`.

    Raises Refused and UsageError for a name or a rule of the other's that is none.
    """
    others = [_rule(target) for target in allow]
    denied = tuple(dict.fromkeys((*policy.denied, *map(checked_pattern, deny))))
    result = replace(policy, mode=min(policy.mode, mode, key=_WIDTH.index), denied=denied)
    if result.mode is not Mode.STRICT or mode is Mode.OPEN:
        return Narrowed(policy=result, lost=())
    if policy.mode is Mode.OPEN:
        return Narrowed(policy=replace(result, rules=tuple(others)), lost=())
    kept: list[Rule] = []
    lost: list[Rule] = []
    for rule in policy.rules:
        common = [both for other in others if (both := _common(rule, other))]
        kept += common
        if not {(rule.host, port) for port in rule.ports} <= {(one.host, port) for one in common for port in one.ports}:
            lost.append(rule)
    return Narrowed(policy=replace(result, rules=tuple(dict.fromkeys(kept))), lost=tuple(lost))


def _common(rule: Rule, other: Rule) -> Rule | None:
    ports = tuple(port for port in rule.ports if port in other.ports)
    host = next((one for one, by in ((rule.host, other.host), (other.host, rule.host)) if _within(one, by)), None)
    return replace(rule, host=host, ports=ports) if host and ports else None


def _within(host: str, pattern: str) -> bool:
    """Tell whether all that `host` covers is covered by `pattern`."""
    return host == pattern or matches(pattern, host.removeprefix("*"))


def _rule(target: str) -> Rule:
    host, port = parse_target(target)
    return Rule(host=host, ports=(port or HTTPS,), added_by="template")
