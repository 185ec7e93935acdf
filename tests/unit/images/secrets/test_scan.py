"""Secrets are found wherever they lie, and never shown."""

import base64
import dataclasses
import json
import os
import sqlite3
from pathlib import Path

import pytest

from tests.ext4 import make_ext4, make_gpt, require_programs
from vmkit.guest.keys import make_keys
from vmkit.host.process import Runner
from vmkit.images.secrets import scan as scan_module
from vmkit.images.secrets.places import locate
from vmkit.images.secrets.rules import HARMLESS, RULES, exact_rules
from vmkit.images.secrets.scan import MAX_FINDINGS, scan
from vmkit.images.volumes import zero_free

BLOCK = 4 << 20
LETTERS = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2eF4hJ6kL8nP0rS2uV4xY6zA8cD0fG2iJ4lM"

# Taken apart, lest other scanners take this file for a leak.
AWS_ID = "AK" + "IAQRSTUVWXYZ234567"
GITHUB = "gh" + "p_" + LETTERS[:36]
PEM = f"-----BEGIN RSA PRIV{''}ATE KEY-----\n{LETTERS}\n{LETTERS}\n-----END RSA PRIV{''}ATE KEY-----\n"
SECRETS = {
    "private-key": PEM,
    "openssh-key": "b3BlbnNzaC1rZXkt" + "djEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZWQyNTUxOQ" + LETTERS,
    "putty-key": "PuTTY-User-Key-" + "File-3: ssh-ed25519\nEncryption: none\n",
    "aws-id": AWS_ID,
    "aws-secret": "aws_secret_" + f"access_key = {LETTERS[:40]}",
    "aws-login": "ao" + f"aAAAAA{LETTERS}",
    "github-token": GITHUB,
    "gitlab-token": "gl" + f"pat-{LETTERS[:20]}",
    "npm-token": "np" + f"m_{LETTERS[:36]}",
    "pypi-token": "py" + f"pi-AgEIcHlwaS5vcmc{LETTERS}",
    "slack-token": "xo" + f"xb-123456789012-{LETTERS[:24]}",
    "google-key": "AI" + f"za{LETTERS[:35]}",
    "web-token": "ey" + f"JhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZ2VudCJ9.{LETTERS[:43]}",
    "login-token": json.dumps({"accessToken": LETTERS, "expiresAt": "2026-01-01"}),
    "kiro-login": 'kirocli:odic:token{"access' + f'_token":"{LETTERS}"}}',
    "kiro-key": "ks" + f"k_{LETTERS[:32]}",
    "netrc": f"machine git.example.com login agent password {LETTERS[:20]}",
    "url-password": f"https://agent:{LETTERS[:20]}@git.example.com/x.git",
    "environment": f"export DEPLOY_TOKEN={LETTERS[:32]}",
}


def on_disk(path: Path, *parts: tuple[int, bytes], size: int = 1 << 20) -> Path:
    """Write a raw disk of noise with the parts in it."""
    with path.open("wb") as file:
        file.write(os.urandom(1 << 16))
        for offset, content in parts:
            file.seek(offset)
            file.write(content)
        file.truncate(size)
    return path


def rules_of(path: Path, **options: object) -> set[str]:
    return {finding.rule for finding in scan(path, **options).findings}


@pytest.mark.parametrize("rule", SECRETS)
def test_each_kind_is_found_where_it_lies(tmp_path, rule):
    secret = SECRETS[rule].encode()
    disk = on_disk(tmp_path / "disk", (70_000, b"\n" + secret + b"\n"))

    found = scan(disk)

    [finding] = [one for one in found.findings if one.rule == rule]
    assert 70_001 <= finding.offset < 70_001 + len(secret)
    assert found.complete


@pytest.mark.parametrize(("rule", "cut"), [*((rule, 9) for rule in SECRETS), ("aws-id", 1), ("aws-id", 19)])
def test_a_block_border_hides_nothing(tmp_path, rule, cut):
    secret = SECRETS[rule].encode()
    disk = on_disk(
        tmp_path / "disk", (BLOCK - 40_000, os.urandom(80_000)), (BLOCK - cut - 1, b"\n" + secret + b"\n"), size=5 << 20
    )

    assert rule in rules_of(disk)


def test_what_lies_beside_a_border_is_told_once(tmp_path):
    disk = on_disk(tmp_path / "disk", (BLOCK - 100, b"\n" + AWS_ID.encode() + b"\n"), (BLOCK, b"x"), size=5 << 20)

    [finding] = scan(disk).findings

    assert finding.offset == BLOCK - 99


@pytest.mark.parametrize("shift", range(3))
@pytest.mark.parametrize(
    "secret", [PEM, AWS_ID, json.dumps({"access_token": LETTERS}), "github_" + f"pat_{LETTERS[:22]}_{LETTERS[:59]}"]
)
def test_base64_hides_nothing(tmp_path, secret, shift):
    encoded = base64.b64encode(b"." * shift + b"\n" + secret.encode() + b"\n")
    disk = on_disk(tmp_path / "disk", (70_000, b'"' + encoded + b'"'))

    assert any(rule.endswith("-base64") for rule in rules_of(disk))


@pytest.mark.parametrize("shift", range(3))
def test_a_known_secret_is_found_as_it_is_and_in_base64(tmp_path, shift):
    secret = os.urandom(32)
    known = exact_rules({"the machine's key": secret})
    plain = on_disk(tmp_path / "plain", (BLOCK - 7, secret), size=5 << 20)
    encoded = on_disk(tmp_path / "encoded", (70_000, base64.b64encode(b"." * shift + secret + b"...")))

    assert rules_of(plain, known=known) == {"known-secret"}
    assert [one.title for one in scan(encoded, known=known).findings] == ["the machine's key, in base64"]
    assert rules_of(plain) == set()


def test_a_short_secret_cannot_be_searched_for():
    with pytest.raises(ValueError, match="the pin"):
        exact_rules({"the pin": b"1234"})


def test_a_machines_own_key_is_a_private_key(tmp_path):
    keys = make_keys(tmp_path / "keys")
    disk = on_disk(tmp_path / "disk", (70_000, keys.host_key.read_bytes()))

    assert {"private-key", "openssh-key"} <= rules_of(disk)


def test_kiros_database_is_found_live_and_emptied(tmp_path):
    path = tmp_path / "data.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE auth_kv (key TEXT PRIMARY KEY, value TEXT)")
    connection.close()
    empty = on_disk(tmp_path / "empty", (69_632, path.read_bytes()))
    with sqlite3.connect(path) as connection:
        said = json.dumps({"access_token": LETTERS, "refresh_token": LETTERS})
        connection.execute("INSERT INTO auth_kv VALUES ('kirocli:odic:token', ?)", [said])
    connection.close()
    full = on_disk(tmp_path / "full", (69_632, path.read_bytes()))

    assert rules_of(empty) == {"kiro-login"}
    assert rules_of(full) == {"kiro-login", "login-token"}


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIV" + "ATE KEY-----\n\0",  # the string in ssh-keygen
        "kirocli:odic:token\0codewhisperer:odic:token",  # those in kiro-cli
        "CREATE TABLE auth_kv (key TEXT PRIMARY KEY, value TEXT)",
        "export GITHUB_TOKEN=$SECRET_FROM_ELSEWHERE_12345",
        "PASSWORD=changeme",
        '"access_token": "$TOKEN"',
        "https://user:password@example.com/",
        "machine example.com login anonymous",
        "openssh-key-v1\0ssh-ed25519",
        "-----BEGIN CERTIFICATE-----\n" + LETTERS,
        base64.b64encode(b"-----BEGIN CERTIFICATE-----\n" + LETTERS.encode()).decode(),
    ],
)
def test_what_programs_and_documents_say_is_no_secret(tmp_path, text):
    disk = on_disk(tmp_path / "disk", (70_000, b"\n" + text.encode() + b"\n"))

    assert rules_of(disk) == set()


def test_a_match_that_is_known_to_be_harmless_is_passed_over(tmp_path):
    import hashlib  # noqa: PLC0415

    disk = on_disk(tmp_path / "disk", (70_000, b"\n" + AWS_ID.encode() + b"\n"))

    assert rules_of(disk, harmless=frozenset({hashlib.sha256(AWS_ID.encode()).hexdigest()})) == set()
    assert all(len(digest) == 64 for digest in HARMLESS)


def test_no_finding_shows_the_secret(tmp_path):
    disk = on_disk(tmp_path / "disk", *((70_000 + 4096 * i, s.encode()) for i, s in enumerate(SECRETS.values())))

    found = scan(disk)
    shown = repr(found) + repr([dataclasses.asdict(one) for one in found.findings])

    assert len({one.rule for one in found.findings}) >= len(SECRETS)
    assert LETTERS[:12] not in shown
    assert AWS_ID not in shown


def test_holes_are_not_read(tmp_path):
    disk = on_disk(tmp_path / "disk", (1 << 30, b"\n" + AWS_ID.encode() + b"\n"), size=4 << 30)

    found = scan(disk)

    assert [one.offset for one in found.findings] == [(1 << 30) + 1]
    assert found.scanned_bytes < 64 << 20


def test_too_many_findings_end_the_scan(tmp_path):
    many = b"\n".join(AWS_ID.encode() for _ in range(MAX_FINDINGS + 5))
    disk = on_disk(tmp_path / "disk", (70_000, many), (20 << 20, b"x"), size=24 << 20)

    found = scan(disk)

    assert not found.complete
    assert len(found.findings) >= MAX_FINDINGS


def test_progress_ends_at_the_last_byte_that_is_there(tmp_path):
    told: list[int] = []
    disk = on_disk(tmp_path / "disk", (5 << 20, b"x" * 100), size=6 << 20)

    scan(disk, on_bytes=told.append)

    assert told == sorted(told)
    assert told[-1] == 6 << 20


def test_every_rule_has_a_title_and_searches_are_few():
    assert all(rule.title and rule.id for rule in RULES)
    assert len(scan_module._searches(RULES)) <= 14  # each is a pass over the disk


def test_a_live_file_is_named_and_a_deleted_one_is_free_space(tmp_path):
    files = {
        "home/agent/notes": b"x" * 5000 + f"\n{AWS_ID}\n".encode(),
        "home/agent/.bash_history": f"export KIRO_API_KEY={SECRETS['kiro-key']}\n".encode(),
        "etc/environment": SECRETS["environment"].encode(),
        "swapfile": bytes(4086) + b"SWAPSPACE2" + bytes(4096) + SECRETS["netrc"].encode() + bytes(2000),
        "gone": b"y" * 9000 + f"\n{GITHUB}\n".encode(),
    }
    disk = make_ext4(tmp_path / "disk", files, deleted=("gone",))

    found = scan(disk).findings
    places = locate(found, disk, runner=Runner())

    told = {(one.rule, places[one.offset]) for one in found}
    assert ("aws-id", "/home/agent/notes") in told
    assert ("kiro-key", "/home/agent/.bash_history") in told
    assert ("environment", "/etc/environment") in told
    assert ("netrc", "/swapfile") in told
    assert ("github-token", "free space") in told


def test_after_free_blocks_are_emptied_only_live_files_are_found(tmp_path):
    files = {"live": f"{AWS_ID}\n".encode(), "gone": f"{GITHUB}\n".encode(), "kept": b"z" * 70_000}
    disk = make_ext4(tmp_path / "disk", files, deleted=("gone",))

    changed = zero_free(disk)

    assert changed > 0
    assert rules_of(disk) == {"aws-id"}
    assert b"z" * 70_000 in disk.read_bytes()
    assert GITHUB.encode() not in disk.read_bytes()


def test_partitions_are_told_apart(tmp_path):
    require_programs("debugfs")
    system = make_ext4(tmp_path / "root", {"a": b"w" * 4096 + b"\n" + AWS_ID.encode()}, size=8 << 20).read_bytes()
    swap = bytearray(2 << 20)
    swap[4086:4096] = b"SWAPSPACE2"
    swap[9000 : 9000 + len(GITHUB)] = GITHUB.encode()
    other = bytearray(1 << 20)
    other[5000 : 5000 + len(SECRETS["npm-token"])] = SECRETS["npm-token"].encode()
    disk = tmp_path / "disk"
    make_gpt(disk, [system, bytes(swap), bytes(other)])

    found = scan(disk).findings

    places = locate(found, disk, runner=Runner())
    assert {one.rule: places[one.offset] for one in found} == {
        "aws-id": "/a",
        "github-token": "swap",
        "npm-token": "partition 3",
    }


def test_without_debugfs_the_place_is_told_as_well_as_can_be(tmp_path):
    class Without(Runner):
        def run(self, argv, **options):
            if "debugfs" in argv:
                argv = ["/nonexistent/debugfs"]
            return super().run(argv, **options)

    disk = make_ext4(tmp_path / "disk", {"live": AWS_ID.encode()})
    found = scan(disk).findings

    assert set(locate(found, disk, runner=Without()).values()) == {"a file whose name cannot be told"}


def test_a_hostile_file_name_is_shown_harmless(tmp_path):
    disk = make_ext4(tmp_path / "disk", {"a\x1b]0;x\x07": AWS_ID.encode()})

    [place] = locate(scan(disk).findings, disk, runner=Runner()).values()

    assert "\x1b" not in place
