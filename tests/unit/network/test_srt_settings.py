"""srt's settings from a policy: every key that srt requires, the hosts that last, and nothing wider than the policy."""

import json

import pytest

from vmkit.errors import WrongState
from vmkit.network.policy import Mode, Policy
from vmkit.network.rules import Rule
from vmkit.network.srt import parse_srt
from vmkit.network.srt_settings import render_srt

NOW = 1000.0


def policy(*rules: Rule, denied: tuple[str, ...] = (), mode: Mode = Mode.STRICT) -> Policy:
    return Policy(mode=mode, rules=rules, denied=denied)


def test_every_list_that_srt_requires_is_there_even_when_empty() -> None:
    content = render_srt(policy(), now=NOW).content

    assert content["network"]["allowedDomains"] == []
    assert content["network"]["deniedDomains"] == []
    assert all(isinstance(content["filesystem"][key], list) for key in ("denyRead", "allowWrite", "denyWrite"))
    assert "//" not in content


def test_each_host_is_allowed_on_its_own_ports_only() -> None:
    content = render_srt(policy(Rule(host="a.example.com", ports=(80, 443)), Rule(host="*.b.org")), now=NOW).content

    assert content["network"]["allowedDomains"] == ["a.example.com:80", "a.example.com:443", "*.b.org:443"]
    assert content["network"]["strictAllowlist"] is True


def test_what_was_allowed_for_a_time_is_left_out_and_named() -> None:
    done = render_srt(policy(Rule(host="a.example.com", expires=NOW + 1), Rule(host="b.org", expires=1.0)), now=NOW)

    assert done.content["network"]["allowedDomains"] == []
    [remark] = done.remarks
    assert "a.example.com" in remark.name


@pytest.mark.parametrize("denied", ["a.example.com", "*.example.com", "*.com"])
def test_deny_beats_allow_also_where_srt_cannot_say_it(denied: str) -> None:
    network = render_srt(policy(Rule(host="a.example.com"), Rule(host="b.org"), denied=(denied,)), now=NOW).content[
        "network"
    ]

    assert network["allowedDomains"] == ["b.org:443"]
    assert network["deniedDomains"] == ([] if denied == "*.com" else [denied])


def test_airgap_allows_nothing() -> None:
    content = render_srt(policy(Rule(host="a.example.com"), mode=Mode.AIRGAP), now=NOW).content

    assert content["network"]["allowedDomains"] == []


def test_an_open_network_has_no_list() -> None:
    with pytest.raises(WrongState, match="open"):
        render_srt(policy(mode=Mode.OPEN), now=NOW)


def test_only_the_workspace_and_kiros_own_places_can_be_written() -> None:
    filesystem = render_srt(policy(), now=NOW, workspace="/w").content["filesystem"]

    assert filesystem["allowWrite"][0] == "/w"
    assert {"~/.ssh", "~/.aws"} <= set(filesystem["denyRead"])
    assert all("kiro" in place for place in filesystem["allowWrite"][1:])


def test_the_import_reads_it_back_to_the_same_hosts() -> None:
    rules = (Rule(host="a.example.com", ports=(443,)), Rule(host="a.example.com", ports=(80,)))
    done = render_srt(policy(*rules), now=NOW, proxy="http://127.0.0.1:13128")

    imported = parse_srt(json.dumps(done.content).encode())

    assert imported.rules == rules
    assert done.content["network"]["parentProxy"]["https"] == "http://127.0.0.1:13128"
