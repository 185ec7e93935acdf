"""srt's settings: what is taken over, and a remark on everything else."""

import json
from pathlib import Path

import pytest

from vmkit.errors import NotFound, Refused, UsageError
from vmkit.network.srt import parse_srt, read_srt

DATA = Path(__file__).parents[2] / "data" / "srt"
WHOLE = {
    "network": {"allowedDomains": ["pypi.org", "a.example.com:8443"], "deniedDomains": ["*.evil.example"]},
    "filesystem": {"denyRead": [], "allowWrite": [], "denyWrite": []},
}


def parsed(**changes: object) -> dict[str, str]:
    return {remark.name: remark.text for remark in parse_srt(json.dumps(WHOLE | changes).encode()).remarks}


def test_the_articles_sample_names_what_is_too_broad_and_what_is_missing() -> None:
    imported = read_srt(DATA / "article.json")

    remarks = {remark.name: remark.text for remark in imported.remarks}
    assert [rule.host for rule in imported.rules] == ["*.kiro.dev"]
    for domain in ("*.amazonaws.com", "*.awsapps.com", "*.aws.dev"):
        assert remarks[f"network.allowedDomains: {domain}"].startswith("not taken over: ")
    assert "q.us-east-1.amazonaws.com" in remarks["network.allowedDomains: *.amazonaws.com"]
    assert "runtime.us-east-1.kiro.dev" in remarks["network.allowedDomains: *.kiro.dev"]
    assert {"network.deniedDomains", "filesystem.denyRead", "filesystem.denyWrite"} <= remarks.keys()
    assert all("required" in remarks[f"filesystem.{key}"] for key in ("denyRead", "denyWrite"))
    assert "~/.local/share/kiro-cli" in remarks["filesystem.allowWrite: ~/Library/Application Support/kiro-cli/"]
    assert {"allowPty", "enableWeakerNestedSandbox", "enableWeakerNetworkIsolation"} <= remarks.keys()


def test_settings_that_fit_are_taken_over_without_a_remark() -> None:
    imported = parse_srt(json.dumps(WHOLE).encode())

    assert [(rule.host, rule.ports) for rule in imported.rules] == [("pypi.org", (443,)), ("a.example.com", (8443,))]
    assert imported.denied == ("*.evil.example",)
    assert imported.remarks == ()


@pytest.mark.parametrize(
    "domain", ["localhost", "127.0.0.1", "*", "*.com", "https://pypi.org", "\x1b[2J", "pypi.org\x00.evil", "\ud800.org"]
)
def test_a_domain_that_is_no_rule_is_named_and_left_out(domain: str) -> None:
    content = json.dumps({"network": {"allowedDomains": [domain], "deniedDomains": [domain]}}).encode()

    imported = parse_srt(content)

    assert imported.rules == ()
    [named, *_] = [remark for remark in imported.remarks if remark.name.startswith("network.allowedDomains: ")]
    assert named.text.startswith("not taken over: ")
    assert named.name.isprintable()


def test_a_broad_exact_name_is_taken_over_with_a_remark() -> None:
    remarks = parsed(network={"allowedDomains": ["github.com"], "deniedDomains": []})

    assert "push" in remarks["network.allowedDomains: github.com"]


def test_an_unknown_key_gets_the_nearest_name() -> None:
    remarks = parsed(allowPTY=True, network=WHOLE["network"] | {"allowedDomain": []})

    assert "allowPty" in remarks["allowPTY"]
    assert "allowedDomains" in remarks["network.allowedDomain"]


def test_every_key_that_does_nothing_here_is_named() -> None:
    remarks = parsed(
        credentials={},
        network=WHOLE["network"] | {"mitmProxy": {}},
        filesystem=WHOLE["filesystem"] | {"allowRead": ["/"]},
    )

    assert {"credentials", "network.mitmProxy", "filesystem.allowRead"} <= remarks.keys()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, b'{"network": []}', b'{"filesystem": 1}',
        b'{"network": {"allowedDomains": "pypi.org"}}', b'{"network": {"allowedDomains": [1]}}',
        b'{"filesystem": {"allowWrite": [null]}}', json.dumps({"network": {"deniedDomains": ["a.b"] * 3000}}).encode(),
    ],
)  # fmt: skip
def test_what_are_no_settings_is_usage(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(content)

    with pytest.raises(UsageError, match=r"settings\.json"):
        read_srt(path)


def test_a_missing_and_a_huge_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "huge.json").write_bytes(b" " * (2 << 20))

    with pytest.raises(NotFound):
        read_srt(tmp_path / "none.json")
    with pytest.raises(Refused):
        read_srt(tmp_path / "huge.json")
