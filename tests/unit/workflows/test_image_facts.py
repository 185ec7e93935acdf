"""What is told of an image needs no disk, and believes nothing that was not checked."""

import datetime as dt
import shutil

import pytest

from tests.imagestore import Installation
from tests.unit.images.signing.test_referrer import attach
from vmkit.host.files import own_directory
from vmkit.host.process import Runner
from vmkit.images.provenance import ImagePolicy, Lock, Seal
from vmkit.images.signing.trust import read_public_key
from vmkit.workflows.image_facts import image_facts, parse_created
from vmkit.workflows.trust import sign_image

NOW = dt.datetime(2026, 1, 14, 12, tzinfo=dt.UTC)
YEAR = dt.timedelta(days=365)
needs_ssh_keygen = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")


@pytest.fixture
def world(tmp_path):
    return Installation(own_directory(tmp_path / "home"))


def facts(world, image, now=NOW):
    return image_facts(image, machines=world.machines, guard=world.guard, now=now)


def key(world, name, *, trusted=True):
    path = world.home / name
    Runner().run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)])
    if trusted:
        world.guard.trust.add(name, read_public_key(path.with_suffix(".pub")))
    return path


def test_age_is_told_in_words(world):
    assert facts(world, world.image("kiro:1", created="2026-01-02T11:00:00Z")).age == "12 days"


def test_the_age_of_an_image_that_says_no_time_is_unknown(world):
    found = facts(world, world.image("kiro:1", created="long ago"))

    assert (found.age, found.to_json()["age_s"]) == ("unknown", None)


@pytest.mark.parametrize("text", ["", "2026-01-02", "2026-13-02T00:00:00Z", "~~~"])
def test_what_is_no_time_is_none(text):
    assert parse_created(text) is None


def test_where_it_came_from_is_told_whole(world):
    lock = Lock(
        base="sha256:" + "a" * 64, template="kiro", kiro_version="1.2", recipes=(("base", "sha256:" + "b" * 64),)
    )
    policy = ImagePolicy(mode="strict", allow=("a.example",))
    image = world.image(
        "kiro:1", lock=lock, seal=Seal(rules=3, scanned_bytes=7), policy=policy, packages=("git 1 amd64",)
    )

    said = facts(world, image).to_json()

    assert said["lock"] == {
        "base": lock.base,
        "template": "kiro",
        "kiro_version": "1.2",
        "kiro_digest": "",
        "refreshed_from": "",
        "recipes": [{"name": "base", "digest": "sha256:" + "b" * 64}],
    }
    assert said["policy"] == {"mode": "strict", "allow": ("a.example",), "deny": ()}
    assert said["seal"] == {"rules": 3, "scanned_bytes": 7}
    assert (said["packages"], said["tag"], said["chunks"], said["chunk_bytes"]) == (1, "fixed", 1, 4 << 20)


def test_an_image_without_lock_and_seal_says_so(world):
    said = facts(world, world.image("kiro:stable")).to_json()

    assert (said["lock"], said["seal"], said["tag"]) == (None, None, "channel")


def test_what_other_images_have_too_is_counted(world):
    image = world.image("kiro:1", b"same", b"own")
    assert facts(world, image).shared_bytes == 0

    world.image("other:1", b"same")
    world.images.tag("kiro:1", "kiro:stable", replace=True)  # another name of it is not another image

    first, _second = world.images.manifest(image.digest).chunks
    assert facts(world, image).shared_bytes == first.blob.size


def test_a_damaged_neighbour_does_not_matter(world):
    image, other = world.image("kiro:1", b"1"), world.image("other:1", b"2")
    world.images.blob(other.digest).unlink()

    assert facts(world, image).shared_bytes == 0


def test_machines_that_stand_on_it_are_named(world):
    image = world.image("kiro:1", b"1")
    world.machine("a", image)
    world.machine("b", world.image("kiro:2", b"2"))
    world.machine("c", image)

    assert facts(world, image).used_by == ("a", "c")


def test_its_disk_is_not_put_together(world):
    image = world.image("kiro:1")
    shutil.rmtree(world.images.assembled(image.digest))

    facts(world, image)

    assert not world.has_disk(image)


def test_what_is_no_signature_has_a_verdict_too(world):
    image = world.image("kiro:1")
    attach(world.images, image)

    [found] = facts(world, image).signatures

    assert (found.verdict, found.signer, found.fingerprint) == ("malformed", None, None)
    assert "cannot be read" in found.why


@needs_ssh_keygen
def test_each_signature_has_signer_key_end_and_verdict(world):
    image = world.image("kiro:1")
    alice, mallory = key(world, "alice"), key(world, "mallory", trusted=False)
    sign_image(image, key=alice, guard=world.guard, now=NOW, expires=NOW + YEAR)
    sign_image(image, key=mallory, guard=world.guard, now=NOW, expires=NOW + YEAR)

    found = facts(world, image)

    assert sorted((each.verdict, each.signer, each.expires) for each in found.signatures) == sorted(
        [("good", "alice", "2027-01-14T12:00:00Z"), ("unknown-signer", None, "2027-01-14T12:00:00Z")], key=str
    )
    fingerprints = {read_public_key(path.with_suffix(".pub")).fingerprint for path in (alice, mallory)}
    assert {each.fingerprint for each in found.signatures} == fingerprints
    assert found.signers == ("alice",)


@needs_ssh_keygen
def test_an_expired_and_a_replayed_signature_are_told_apart(world):
    image = world.image("kiro:1")
    sign_image(image, key=key(world, "alice"), guard=world.guard, now=NOW, expires=NOW + YEAR)

    [expired] = facts(world, image, now=NOW + 2 * YEAR).signatures
    world.guard.marks.rise("kiro", (1 << 53) - 1)
    [older] = facts(world, image).signatures

    assert (expired.verdict, expired.signer) == ("expired", "alice")
    assert (older.verdict, older.signer) == ("older", "alice")
    assert facts(world, image).signers == ()


@needs_ssh_keygen
def test_looking_raises_no_mark(world):
    image = world.image("kiro:1")
    sign_image(image, key=key(world, "alice"), guard=world.guard, now=NOW, expires=NOW + YEAR)

    facts(world, image)

    assert world.guard.marks.get("kiro") == 0
