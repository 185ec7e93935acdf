"""What is proposed for what was refused: the smallest, exact, with remarks."""

from vmkit.network.history import Entry
from vmkit.network.learn import MAX_PROPOSED, Proposed, propose
from vmkit.network.policy import Mode, Policy, Rule, load_groups, parse_policy

NOW = 1_800_000_000.0


def refusal(host: str, port: int = 443) -> Entry:
    return Entry(
        time=NOW, kind="refused", host=host, port=port, allowed=False, reason="", rule=None, bytes_up=0, bytes_down=0, seconds=0
    )  # fmt: skip


def proposed(*entries: Entry, policy: Policy | None = None) -> list[Proposed]:
    return propose(entries, policy=policy or Policy(mode=Mode.STRICT), groups=load_groups(), now=NOW)[0]


def test_hosts_are_exact_each_once_with_all_its_ports_most_refused_first() -> None:
    found = proposed(refusal("b.example.com"), *[refusal("a.example.com", port) for port in (443, 80, 443)])

    assert [(one.rule.host, one.rule.ports, one.times) for one in found] == [
        ("a.example.com", (80, 443), 3),
        ("b.example.com", (443,), 1),
    ]


def test_many_names_of_one_domain_do_not_become_a_wildcard() -> None:
    found = proposed(*[refusal(f"a{number}.example.com") for number in range(20)])

    assert len(found) == 20
    assert not any("*" in one.rule.host for one in found)


def test_what_is_allowed_by_now_is_not_proposed() -> None:
    policy = Policy(mode=Mode.STRICT, rules=(Rule(host="a.example.com"),))

    assert proposed(refusal("a.example.com"), policy=policy) == []
    assert [one.rule.ports for one in proposed(refusal("a.example.com", 80), policy=policy)] == [(80,)]


def test_broad_names_plain_http_and_groups_are_remarked_on() -> None:
    [bucket] = proposed(refusal("a.s3.amazonaws.com"))
    [github] = proposed(refusal("github.com"))
    [pypi] = proposed(refusal("pypi.org"))
    [plain] = proposed(refusal("a.example.com", 80))

    assert any(remark.startswith("broad: ") for remark in bucket.remarks)
    assert any("push" in remark for remark in github.remarks)
    assert pypi.remarks == ('group "pypi" has it',)
    assert any("plain HTTP" in remark for remark in plain.remarks)


def test_what_is_printed_is_a_policy_that_allows_just_that() -> None:
    found = proposed(refusal("pypi.org"), refusal("a.s3.amazonaws.com"), refusal("a.example.com", 80))

    text = "\n".join(one.to_toml() for one in found)

    read = parse_policy(text.encode(), groups=load_groups())
    assert {(rule.host, rule.ports, rule.added_by) for rule in read.rules} == {
        ("pypi.org", (443,), "learn"),
        ("a.s3.amazonaws.com", (443,), "learn"),
        ("a.example.com", (80,), "learn"),
    }
    assert "# broad: " in text


def test_a_flood_of_names_is_cut_and_counted() -> None:
    entries = [refusal(f"a{number}.example.com") for number in range(MAX_PROPOSED + 7)]

    found, left_out = propose(entries, policy=Policy(mode=Mode.STRICT), groups={}, now=NOW)

    assert (len(found), left_out) == (MAX_PROPOSED, 7)
