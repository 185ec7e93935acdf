"""What an image says of where it came from is kept whole, and taken in no other form."""

import json

import pytest

from vmkit.errors import Refused
from vmkit.images.layout import canonical_json
from vmkit.images.provenance import ImagePolicy, Lock, Seal, parse_lock, parse_policy, parse_seal, render_provenance

DIGEST = "sha256:" + "a" * 64
LOCK = Lock(base=DIGEST, template="kiro", kiro_version="2.24.1", kiro_digest=DIGEST, recipes=(("base", DIGEST),))
SEAL = Seal(rules=1, scanned_bytes=12345)
POLICY = ImagePolicy(mode="strict", allow=("a.example:443", "*.b.example:80"), deny=("c.b.example",))


def test_what_is_written_is_read_again():
    said = json.loads(canonical_json(render_provenance(LOCK, SEAL, POLICY)))

    assert parse_policy(said) == POLICY
    assert parse_lock(said) == LOCK
    assert parse_seal(said) == SEAL


def test_what_an_image_was_refreshed_from_is_kept():
    lock = Lock(base="", refreshed_from=DIGEST)  # a built one has no base

    assert parse_lock(json.loads(canonical_json(render_provenance(lock, None)))) == lock


def test_an_image_that_was_not_refreshed_says_what_it_always_said():
    assert "refreshed_from" not in render_provenance(LOCK, None)["lock"]


def test_images_without_either_stay_what_they_were():
    assert render_provenance(None, None) == {}
    assert parse_lock({}) is None
    assert parse_seal({}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"base": "sha256:x"},
        {"base": None},
        {"template": "../x"},
        {"kiro_version": "1\x1b[31m"},
        {"kiro_digest": "md5:1"},
        {"recipes": "base"},
        {"recipes": [["base"]]},
        {"recipes": [["base", DIGEST, 1]]},
        {"recipes": [["../base", DIGEST]]},
        {"recipes": [["base", DIGEST]] * 1001},
        {"refreshed_from": "golden:1"},
        {"refreshed_from": None},
        {"more": 1},
    ],
)
def test_a_lock_of_another_form_is_refused(change):
    said = json.loads(canonical_json(render_provenance(LOCK, SEAL)))

    with pytest.raises(Refused):
        parse_lock({"lock": said["lock"] | change})


@pytest.mark.parametrize("seal", [None, [], {}, {"rules": 1}, {"rules": True, "scanned_bytes": 1}, {"rules": -1, "scanned_bytes": 1}, {"rules": 1, "scanned_bytes": 1 << 60}, {"rules": "1", "scanned_bytes": 1}])  # fmt: skip
def test_a_seal_of_another_form_is_refused(seal):
    with pytest.raises(Refused):
        parse_seal({"seal": seal})


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "wide"},
        {"mode": None},
        {"allow": "a.example"},
        {"allow": [1]},
        {"allow": ["a.example:443\n"]},
        {"allow": ["*"]},
        {"deny": ["\x1b[31m"]},
        {"deny": ["a.example"] * 4001},
        {"more": 1},
    ],
)
def test_a_policy_of_another_form_is_refused(change):
    said = json.loads(canonical_json(render_provenance(None, None, POLICY)))

    with pytest.raises(Refused):
        parse_policy({"policy": said["policy"] | change})
