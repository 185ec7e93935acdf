"""Decisions, and the file they come from: whole, bounded, and refused with the key that is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmkit.errors import NotFound, Refused, UsageError
from vmkit.network.edit import with_allowed, with_denied
from vmkit.network.policy import (
    MAX_BYTES,
    MAX_RULES,
    Mode,
    Policy,
    Rule,
    load_groups,
    load_policy,
    parse_policy,
    render_policy,
    save_policy,
)

NOW = 1_800_000_000.0
GROUPS = {
    "pypi": tuple(
        Rule(host=host, group="pypi", added_by="template") for host in ("pypi.org", "files.pythonhosted.org")
    ),
    "debian": (Rule(host="deb.debian.org", ports=(80,), group="debian", added_by="template"),),
}


def policy(*rules: Rule, denied: tuple[str, ...] = (), mode: Mode = Mode.STRICT) -> Policy:
    return Policy(mode=mode, rules=rules, denied=denied)


PYPI = Rule(host="pypi.org")
DEBIAN = Rule(host="*.debian.org", ports=(80, 443), group="debian", added_by="template")


@pytest.mark.parametrize(
    ("host", "port", "rule"), [("pypi.org", 443, PYPI), ("deb.debian.org", 80, DEBIAN), ("a.b.debian.org", 443, DEBIAN)]
)
def test_what_a_rule_names_is_allowed_and_the_rule_is_said(host: str, port: int, rule: Rule) -> None:
    decision = policy(PYPI, DEBIAN).decide(host, port, now=NOW)

    assert (decision.allowed, decision.rule) == (True, rule)
    assert rule.added_by in decision.reason


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("evil.example", 443, "not in the policy"),
        ("a.pypi.org", 443, "not in the policy"),
        ("debian.org", 443, "not in the policy"),
        ("evildebian.org", 443, "not in the policy"),
        ("pypi.org", 80, "on port 443 only"),
        ("deb.debian.org", 22, "on port 80, 443 only"),
    ],
)
def test_everything_else_is_refused_with_the_reason(host: str, port: int, reason: str) -> None:
    decision = policy(PYPI, DEBIAN).decide(host, port, now=NOW)

    assert (decision.allowed, decision.rule) == (False, None)
    assert reason in decision.reason


def test_an_empty_policy_refuses() -> None:
    assert not policy().decide("pypi.org", 443, now=NOW).allowed


def test_a_rule_ends_at_its_moment_and_that_is_the_reason() -> None:
    short = policy(Rule(host="pypi.org", expires=NOW + 60))

    assert short.decide("pypi.org", 443, now=NOW + 59.9).allowed
    late = short.decide("pypi.org", 443, now=NOW + 60)
    assert not late.allowed
    assert "was allowed until 2027-01-15T08:01:00Z" in late.reason


def test_a_rule_that_has_ended_does_not_hide_one_that_lasts() -> None:
    assert policy(Rule(host="pypi.org", expires=NOW - 1), PYPI).decide("pypi.org", 443, now=NOW).allowed


@pytest.mark.parametrize("denied", ["deb.debian.org", "*.debian.org"])
@pytest.mark.parametrize("mode", list(Mode))
def test_deny_beats_every_rule_in_every_mode(denied: str, mode: Mode) -> None:
    decision = policy(DEBIAN, denied=(denied,), mode=mode).decide("deb.debian.org", 80, now=NOW)

    assert not decision.allowed


def test_airgap_allows_nothing_and_open_everything() -> None:
    assert not policy(PYPI, mode=Mode.AIRGAP).decide("pypi.org", 443, now=NOW).allowed
    assert policy(mode=Mode.OPEN).decide("evil.example", 22, now=NOW).allowed


def test_a_refusal_names_the_nearest_that_is_allowed_now() -> None:
    ended = Rule(host="pypi.com", expires=NOW - 1)

    assert policy(PYPI, ended).decide("pypi.con", 443, now=NOW).nearest == "pypi.org"
    assert policy(ended).decide("pypi.con", 443, now=NOW).nearest is None


FILE = """
mode = "strict"
groups = ["pypi"]
deny = ["*.evil.example"]
learning_since = 2027-01-15T08:00:00Z
[[allow]]
host = "Example.com"
[[allow]]
host = "*.debian.org"
ports = [80, 443]
added_by = "learn"
expires = 2027-01-15T10:00:00+01:00
[[allow]]
group = "debian"
expires = 2027-01-15T09:00:00Z
"""


def test_a_file_is_read_and_written_back_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(FILE)

    read = load_policy(tmp_path / "policy.toml", groups=GROUPS)

    assert read == Policy(
        mode=Mode.STRICT,
        rules=(
            *GROUPS["pypi"],
            Rule(host="example.com", ports=(443,), added_by="user"),
            Rule(host="*.debian.org", ports=(80, 443), added_by="learn", expires=NOW + 3600),
            Rule(host="deb.debian.org", ports=(80,), group="debian", added_by="user", expires=NOW + 3600),
        ),
        denied=("*.evil.example",),
        learning_since=NOW,
    )
    save_policy(tmp_path / "again.toml", read)
    assert load_policy(tmp_path / "again.toml", groups=GROUPS) == read
    assert (tmp_path / "again.toml").stat().st_mode & 0o777 == 0o600


def test_an_empty_file_is_strict_and_allows_nothing() -> None:
    assert parse_policy(b"", groups=GROUPS) == policy()


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_policy(tmp_path / "policy.toml", groups=GROUPS)


WRONG = [
    ('mod = "strict"', "mode"),
    ('mode = "stict"', "strict"),
    ("mode = 1", "strict"),
    ("mode = []", "strict"),
    ('groups = "pypi"', None),
    ("groups = [1]", None),
    ('groups = ["pipy"]', "pypi"),
    ('allow = ["pypi.org"]', None),
    ("allow = 1", None),
    ("[allow]\nhost = 'pypi.org'", None),
    ("[[allow]]", None),
    ("[[allow]]\nhots = 'pypi.org'", "host"),
    ("[[allow]]\nhost = 1", None),
    ("[[allow]]\nhost = 'pypi.org'\ngroup = 'pypi'", None),
    ("[[allow]]\ngroup = 'pypi'\nports = [80]", None),
    ("[[allow]]\ngroup = 'npm'", None),
    ("[[allow]]\nhost = 'pypi.org'\nports = []", None),
    ("[[allow]]\nhost = 'pypi.org'\nports = [0]", None),
    ("[[allow]]\nhost = 'pypi.org'\nports = [65536]", None),
    ("[[allow]]\nhost = 'pypi.org'\nports = [true]", None),
    ("[[allow]]\nhost = 'pypi.org'\nports = '443'", None),
    ("[[allow]]\nhost = 'pypi.org'\nports = 443", None),
    ("[[allow]]\nhost = 'pypi.org'\nadded_by = 'guest'", "template"),
    ("[[allow]]\nhost = 'pypi.org'\nadded_by = []", "template"),
    ("[[allow]]\nhost = 'pypi.org'\nexpires = 1800000000", "offset"),
    ("[[allow]]\nhost = 'pypi.org'\nexpires = 2027-01-15T08:00:00", "offset"),
    ("[[allow]]\nhost = 'pypi.org'\nexpires = '2027-01-15T08:00:00Z'", "offset"),
    ("learning_since = 5", "offset"),
    ("mode = 'strict'\nmode = 'open'", None),
    ("mode = ", None),
    ("x = " + "[" * 20000, None),
    ("mode = '\\xff'", None),
]


@pytest.mark.parametrize(("text", "hint"), WRONG)
def test_a_wrong_file_is_usage_and_names_the_file(text: str, hint: str | None, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=r"policy\.toml") as refused:
        load_policy(path, groups=GROUPS)

    assert hint is None or hint in (refused.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "[[allow]]\nhost = '*.com'",
        "[[allow]]\nhost = '*.amazonaws.com'",
        "[[allow]]\nhost = '*'",
        "[[allow]]\nhost = '127.0.0.1'",
        "[[allow]]\nhost = 'pypi.org.'",
        '[[allow]]\nhost = "pypi.org\\u0000.evil.example"',
        "deny = ['a b']",
        "#" + "x" * MAX_BYTES,
        "".join(f"[[allow]]\nhost='a{number}.example.com'\n" for number in range(MAX_RULES + 1)),
    ],
)
def test_a_rule_that_is_no_rule_or_too_many_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)

    with pytest.raises(Refused, match=r"policy\.toml"):
        load_policy(path, groups=GROUPS)


def test_too_many_rules_are_not_written(tmp_path: Path) -> None:
    many = policy(*(Rule(host=f"a{number}.example.com") for number in range(MAX_RULES + 1)))

    with pytest.raises(Refused):
        save_policy(tmp_path / "policy.toml", many)

    assert list(tmp_path.iterdir()) == []


HOSTS = st.sampled_from(
    ["pypi.org", "files.pythonhosted.org:80", "*.debian.org", "deb.debian.org", "a.example.com:8443"]
)
TARGETS = HOSTS | st.sampled_from(["pypi", "debian"])
EDITS = st.lists(st.tuples(st.booleans(), TARGETS, st.none() | st.integers(1, 86400)), max_size=12)


@given(EDITS)
def test_what_edits_make_of_a_policy_survives_the_file(edits: list[tuple[bool, str, int | None]]) -> None:
    made = policy(*GROUPS["debian"])
    for is_allowed, target, seconds in edits:
        try:
            if is_allowed:
                expires = None if seconds is None else NOW + seconds
                made = with_allowed(made, target, groups=GROUPS, now=NOW, expires=expires).policy
            else:
                made = with_denied(made, target.partition(":")[0], groups=GROUPS).policy
        except Refused:
            continue

    again = parse_policy(render_policy(made).encode(), groups=GROUPS)

    assert again == made


def test_the_shipped_groups_fit_into_a_file() -> None:
    groups = load_groups()
    everything = Policy(mode=Mode.STRICT, rules=tuple(rule for rules in groups.values() for rule in rules))

    assert parse_policy(render_policy(everything).encode(), groups=groups) == everything
