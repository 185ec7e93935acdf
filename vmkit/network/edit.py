"""Change a policy: what `allow`, `deny` and `learn` mean, as pure functions that say what they did."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vmkit.errors import Refused, UsageError
from vmkit.network.broad import refuse_broad, remark_on
from vmkit.network.policy import Policy, origin, unknown
from vmkit.network.rules import HTTPS, Rule, matches, parse_target

Groups = Mapping[str, tuple[Rule, ...]]


@dataclass(frozen=True, kw_only=True)
class Edited:
    """A policy after a change, and what is worth saying about the change."""

    policy: Policy
    notes: tuple[str, ...] = ()


def with_allowed(policy: Policy, target: str, *, groups: Groups, now: float, expires: float | None = None) -> Edited:
    """Allow `HOST[:PORT]`, `*.DOMAIN[:PORT]` or a group, for good or until `expires`.

    Raises Refused for a wildcard that is really everything, or a host that a wider `deny` holds closed; UsageError.
    """
    if _is_group(target, groups):
        rules = tuple(replace(rule, added_by="user", expires=expires) for rule in groups[target])
        return _added(policy, rules, now=now, notes=())
    host, port = parse_target(target)
    refuse_broad(host)
    wider = next((pattern for pattern in policy.denied if pattern != host and _covers(pattern, host)), None)
    if wider:
        raise Refused(
            f'"{host}" stays closed: "{wider}" is denied, and deny beats allow',
            hint=f'take "{wider}" out of "deny" in the policy file',
        )
    policy = replace(policy, denied=tuple(pattern for pattern in policy.denied if pattern != host))
    remark = None if host.startswith("*.") else remark_on(host)
    rule = Rule(host=host, ports=(port or HTTPS,), added_by="user", expires=expires)
    return _added(policy, (rule,), now=now, notes=(f"{host}: {remark}",) if remark else ())


def with_denied(policy: Policy, target: str, *, groups: Groups) -> Edited:
    """Take back what allows a host, a `*.DOMAIN` or a group; what a wider rule still allows is denied by name."""
    if _is_group(target, groups):
        kept = tuple(rule for rule in policy.rules if rule.group != target)
        if len(kept) == len(policy.rules):
            return Edited(policy=policy, notes=(f'group "{target}" was not allowed',))
        return Edited(policy=replace(policy, rules=kept))
    host, port = parse_target(target)
    if port is not None:
        raise UsageError("deny closes a host on every port", hint=f"vmkit net deny NAME {host}")
    kept = tuple(rule for rule in policy.rules if rule.group or rule.host != host)
    left = next((rule for rule in kept if _covers(host, rule.host) or _covers(rule.host, host)), None)
    if host in policy.denied:
        return Edited(policy=replace(policy, rules=kept), notes=(f"{host} is denied already",))
    if left is None and len(kept) < len(policy.rules):
        return Edited(policy=replace(policy, rules=kept))
    notes = (f"denied by name: a rule is left that would allow it, {origin(left)}",) if left else ()
    return Edited(policy=replace(policy, rules=kept, denied=(*policy.denied, host)), notes=notes)


def _added(policy: Policy, rules: tuple[Rule, ...], *, now: float, notes: tuple[str, ...]) -> Edited:
    """Add `rules` unless all are there for as long already; what has run out, and what they outlast, goes."""
    live = [rule for rule in policy.rules if rule.is_live(now)]
    lasting = [next((old for old in live if _is_as_good(old, rule)), None) for rule in rules]
    if all(lasting):
        notes += tuple(f"allowed already: {origin(old)}" for old in lasting if old)
        return Edited(policy=replace(policy, rules=tuple(live)), notes=notes)
    kept = [
        old
        for old in live
        if old.added_by == "template" or not any(old.group == rule.group and _is_as_good(rule, old) for rule in rules)
    ]
    return Edited(policy=replace(policy, rules=(*kept, *rules)), notes=notes)


def _is_as_good(one: Rule, other: Rule) -> bool:
    """Tell whether `one` allows all that `other` allows, for at least as long."""
    lasts = one.expires is None or (other.expires is not None and one.expires >= other.expires)
    return lasts and _covers(one.host, other.host) and set(other.ports) <= set(one.ports)


def _covers(pattern: str, other: str) -> bool:
    """Tell whether `pattern` matches all that `other`, a host or a pattern, matches."""
    return pattern == other or matches(pattern, other.removeprefix("*"))


def _is_group(target: str, groups: Groups) -> bool:
    if "." in target or ":" in target or "/" in target:
        return False
    if target not in groups:
        raise unknown("group", target, groups)
    return True
