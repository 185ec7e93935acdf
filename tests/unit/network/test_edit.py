"""What allow and deny do to a policy, and what they say."""

import pytest

from vmkit.errors import Refused, UsageError
from vmkit.network.edit import with_allowed, with_denied
from vmkit.network.policy import Mode, Policy, Rule

NOW = 1_800_000_000.0
TEMPLATE = tuple(Rule(host=host, group="pypi", added_by="template") for host in ("pypi.org", "files.pythonhosted.org"))
GROUPS = {"pypi": TEMPLATE, "npm": (Rule(host="registry.npmjs.org", group="npm", added_by="template"),)}
EMPTY = Policy(mode=Mode.STRICT)
PYPI = Policy(mode=Mode.STRICT, rules=TEMPLATE)


def allowed(policy: Policy, target: str, *, expires: float | None = None) -> Policy:
    return with_allowed(policy, target, groups=GROUPS, now=NOW, expires=expires).policy


def denied(policy: Policy, target: str) -> Policy:
    return with_denied(policy, target, groups=GROUPS).policy


def is_open(policy: Policy, host: str, port: int = 443) -> bool:
    return policy.decide(host, port, now=NOW).allowed


def test_a_host_is_allowed_on_443_only() -> None:
    policy = allowed(EMPTY, "example.com")

    assert is_open(policy, "example.com")
    assert not is_open(policy, "example.com", 80)


def test_a_port_and_an_end_are_kept() -> None:
    assert allowed(EMPTY, "example.com:8443", expires=NOW + 60).rules == (
        Rule(host="example.com", ports=(8443,), added_by="user", expires=NOW + 60),
    )


def test_a_group_is_allowed_as_a_whole_and_by_the_user() -> None:
    assert [(rule.host, rule.group, rule.added_by) for rule in allowed(EMPTY, "npm").rules] == [
        ("registry.npmjs.org", "npm", "user")
    ]


def test_what_is_allowed_already_changes_nothing_and_says_by_whom() -> None:
    edited = with_allowed(PYPI, "pypi.org", groups=GROUPS, now=NOW)

    assert edited.policy == PYPI
    assert any("pypi" in note and "template" in note for note in edited.notes)


def test_a_longer_rule_replaces_a_shorter_and_not_the_other_way_round() -> None:
    short = allowed(EMPTY, "example.com", expires=NOW + 60)

    lasting = allowed(short, "example.com")

    assert [rule.expires for rule in lasting.rules] == [None]
    assert allowed(lasting, "example.com", expires=NOW + 60) == lasting


def test_what_has_ended_goes_with_the_next_change() -> None:
    policy = Policy(mode=Mode.STRICT, rules=(Rule(host="old.example.com", expires=NOW - 1),))

    assert [rule.host for rule in allowed(policy, "example.com").rules] == ["example.com"]


def test_a_wildcard_over_strangers_is_refused() -> None:
    with pytest.raises(Refused, match="anything"):
        allowed(EMPTY, "*.amazonaws.com")


def test_a_broad_exact_name_is_allowed_with_a_remark() -> None:
    edited = with_allowed(EMPTY, "github.com", groups=GROUPS, now=NOW)

    assert is_open(edited.policy, "github.com")
    assert any("push" in note for note in edited.notes)


def test_an_unknown_group_is_usage_with_the_nearest() -> None:
    with pytest.raises(UsageError) as refused:
        allowed(EMPTY, "pipy")

    assert "pypi" in (refused.value.hint or "")


def test_deny_takes_an_own_rule_back_and_leaves_no_trace() -> None:
    assert denied(allowed(EMPTY, "example.com"), "example.com") == EMPTY


def test_deny_closes_by_name_what_a_group_or_a_wildcard_still_allows() -> None:
    wild = allowed(EMPTY, "*.example.com")

    assert denied(PYPI, "pypi.org").denied == ("pypi.org",)
    assert not is_open(denied(PYPI, "pypi.org"), "pypi.org")
    assert is_open(denied(PYPI, "pypi.org"), "files.pythonhosted.org")
    assert not is_open(denied(wild, "a.example.com"), "a.example.com")
    assert is_open(denied(wild, "a.example.com"), "b.example.com")


def test_a_denied_wildcard_closes_the_exact_rules_below_it() -> None:
    policy = denied(allowed(EMPTY, "a.example.com"), "*.example.com")

    assert not is_open(policy, "a.example.com")


def test_deny_before_anything_allows_it_holds() -> None:
    policy = allowed(denied(EMPTY, "pypi.org"), "pypi")

    assert not is_open(policy, "pypi.org")
    assert denied(policy, "pypi.org") == policy


def test_a_whole_group_is_taken_back() -> None:
    assert denied(PYPI, "pypi") == EMPTY
    assert with_denied(EMPTY, "pypi", groups=GROUPS).notes


def test_allow_undoes_deny_of_the_same_name() -> None:
    policy = allowed(denied(PYPI, "pypi.org"), "pypi.org")

    assert policy == PYPI


def test_allow_below_a_denied_wildcard_says_that_it_stays_closed() -> None:
    with pytest.raises(Refused, match="stays closed"):
        allowed(denied(EMPTY, "*.example.com"), "a.example.com")


def test_deny_takes_no_port() -> None:
    with pytest.raises(UsageError, match="every port"):
        denied(EMPTY, "example.com:80")
