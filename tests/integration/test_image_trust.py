"""Real signatures by real keys: what counts is used, and each thing that does not is refused with words of its own."""

import contextlib
import datetime as dt
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vmkit.cli import main
from vmkit.errors import Refused, ToolFailed
from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.images.layout import MANIFEST_TYPE, Blob, Boot, Image, ImageMeta
from vmkit.images.signing.referrer import render_signature_manifest
from vmkit.images.signing.sshsig import sign
from vmkit.images.signing.statement import MAX_SEQUENCE, Statement, render_statement
from vmkit.images.signing.trust import read_public_key
from vmkit.images.signing.verification import MAX_SIGNATURES
from vmkit.images.store import ImageStore
from vmkit.workflows.images import ensure_image
from vmkit.workflows.trust import Guard, ImageSigned, require_signed, sign_image, verify_image

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")
RUNNER = Runner()
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
YEAR = dt.timedelta(days=365)
SECOND = dt.timedelta(seconds=1)


@dataclass(frozen=True)
class World:
    """A vmkit installation, and the keys of some people."""

    home: Path
    keys: Path

    @property
    def images(self) -> ImageStore:
        return ImageStore(self.home / "images")

    @property
    def guard(self) -> Guard:
        paths = Paths(config=self.home, data=self.home, cache=self.home / "cache")
        return Guard.of(paths, images=self.images, runner=RUNNER)

    def image(self, name: str, content: bytes = b"one") -> Image:
        disk = self.keys / "disk"
        disk.write_bytes(content.ljust(2 << 20, b"."))
        meta = ImageMeta(arch="x86_64", boot=Boot.BIOS, user="agent", created="2026-01-02T03:04:05Z")
        return self.images.add(name, disk=disk, meta=meta, report=Silent())

    def key(self, who: str, *, kind: str = "ed25519", passphrase: str = "") -> Path:
        path = self.keys / who
        if not path.exists():
            RUNNER.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", who, "-f", str(path)])
        return path

    def public(self, who: str) -> Path:
        return self.keys / f"{who}.pub"

    def trust(self, who: str, *, until: dt.datetime | None = None) -> None:
        self.key(who)
        self.guard.trust.add(who, read_public_key(self.public(who)), until=until)

    def sign(self, image: Image, who: str = "alice", *, now: dt.datetime = NOW, newest: bool = False) -> ImageSigned:
        return sign_image(image, key=self.key(who), guard=self.guard, now=now, expires=now + YEAR, newest=newest)

    def attach(self, image: Image, statement: bytes, armored: bytes) -> None:
        """Put a signature artifact beside an image, as whoever can write to a registry could."""
        subject = Blob(media_type=MANIFEST_TYPE, digest=image.digest, size=self.images.manifest(image.digest).size)
        manifest, *blobs = render_signature_manifest(subject=subject, statement=statement, signature=armored)
        self.images.add_referrer(manifest, blobs)

    def parts(self, signed: ImageSigned) -> tuple[bytes, bytes]:
        """Return the statement and the signature of one that was made."""
        artifact = self.images.referrer(signed.artifact)
        return tuple(self.images.blob(blob.digest).read_bytes() for blob in (artifact.statement, artifact.signature))

    def use(self, image: Image, *, now: dt.datetime = NOW) -> tuple[str, ...]:
        return require_signed(image, guard=self.guard, now=now).signers

    def create(self, reference: str) -> Image:
        """Do what `create` does for its image when the policy asks for a signature."""
        return ensure_image(reference, images=self.images, runner=RUNNER, report=Silent(), guard=self.guard)

    def sign_elsewhere(self, content: bytes, who: str, *, namespace: str) -> bytes:
        """Return a signature for another purpose than ours."""
        path = self.keys / "other"
        path.write_bytes(content)
        path.with_suffix(".sig").unlink(missing_ok=True)
        RUNNER.run(["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(self.key(who)), str(path)])
        return path.with_suffix(".sig").read_bytes()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("VMKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "keys").mkdir()
    return World(home=tmp_path / "home", keys=tmp_path / "keys")


def vmkit(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def refusal(world: World, image: Image, *, now: dt.datetime = NOW) -> Refused:
    with pytest.raises(Refused) as refused:
        world.use(image, now=now)
    assert refused.value.exit_code == 6
    assert refused.value.hint
    return refused.value


# --- what counts


def test_a_trusted_signature_counts(world):
    image = world.image("kiro:1")
    world.trust("alice")

    signed = world.sign(image)

    assert signed.signer == "alice"
    assert world.use(image) == ("alice",)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_every_common_kind_of_key_signs(world, kind):
    image = world.image("kiro:1")
    world.key("alice", kind=kind)
    world.trust("alice")

    world.sign(image)

    assert world.use(image) == ("alice",)


def test_one_signature_that_counts_is_enough(world):
    image = world.image("kiro:1")
    world.trust("alice")
    world.sign(image, "mallory")
    world.sign(image, "alice")
    world.attach(image, b"junk", b"junk")

    assert world.use(image) == ("alice",)


def test_two_names_of_a_line_share_a_signature(world):
    world.trust("alice")
    world.sign(world.image("kiro:1.4.0"))

    assert world.use(world.image("kiro:stable")) == ("alice",)


@contextlib.contextmanager
def agent() -> Iterator[Path]:
    """Give the socket of an ssh-agent of the test's own; a socket's path is to be short."""
    with tempfile.TemporaryDirectory(prefix="vk") as folder:
        socket = Path(folder) / "agent"
        said = RUNNER.run(["ssh-agent", "-a", str(socket), "-s"]).text
        pid = int(said.partition("SSH_AGENT_PID=")[2].partition(";")[0])
        try:
            yield socket
        finally:
            os.kill(pid, signal.SIGTERM)


@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="needs ssh-agent")
def test_a_key_that_only_an_agent_holds_signs(world, monkeypatch, capsys):
    image = world.image("kiro:1")
    world.trust("alice")
    with agent() as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        RUNNER.run(["ssh-add", "-q", str(world.key("alice"))], env={"SSH_AUTH_SOCK": str(socket)})
        world.key("alice").unlink()

        assert vmkit("image", "sign", "kiro:1", "--key", world.public("alice")) == 0

    assert world.use(image) == ("alice",)
    assert "signed by alice" in capsys.readouterr().out


def test_a_key_with_a_passphrase_names_the_agent_and_leaves_no_signature(world):
    image = world.image("kiro:1")
    key = world.key("alice", passphrase="secret")

    with pytest.raises(ToolFailed, match="could not sign") as failed:
        world.sign(image)

    assert f"ssh-add {key}, then --key {key}.pub" in failed.value.hint
    assert world.images.referrers(image.digest) == ()


# --- what does not: seven refusals, and more


def test_unsigned(world):
    world.trust("alice")

    assert "is not signed" in refusal(world, world.image("kiro:1")).message


def test_unknown_signer(world):
    image = world.image("kiro:1")
    world.trust("alice")
    made = world.sign(image, "mallory")

    error = refusal(world, image)

    assert "a key that you do not trust" in error.message
    assert error.detail == made.fingerprint
    assert "vmkit trust add" in error.hint


def test_a_removed_signer_is_unknown(world):
    image = world.image("kiro:1")
    world.trust("alice")
    world.sign(image)

    world.guard.trust.remove("alice")

    assert "a key that you do not trust" in refusal(world, image).message


def test_wrong_namespace(world):
    image = world.image("kiro:1")
    world.trust("alice")
    statement, _ = world.parts(world.sign(image, "mallory"))
    world.images.delete("kiro:1")
    image = world.image("kiro:1")
    world.attach(image, statement, world.sign_elsewhere(statement, "alice", namespace="git"))

    error = refusal(world, image)

    assert "was made for another purpose" in error.message
    assert '"git"' in error.detail


def test_expired(world):
    image = world.image("kiro:1")
    world.trust("alice")
    world.sign(image)

    assert world.use(image, now=NOW + YEAR - SECOND) == ("alice",)
    error = refusal(world, image, now=NOW + YEAR)

    assert "the signature" in error.message
    assert "has expired" in error.message


def test_a_key_whose_time_is_over(world):
    image = world.image("kiro:1")
    world.trust("alice", until=NOW + dt.timedelta(days=2))
    world.sign(image)

    assert world.use(image, now=NOW + dt.timedelta(days=1)) == ("alice",)
    error = refusal(world, image, now=NOW + dt.timedelta(days=2))

    assert 'the key of "alice"' in error.message
    assert "has expired" in error.message


def test_revoked(world):
    image = world.image("kiro:1")
    world.trust("alice")
    world.sign(image)

    world.guard.trust.revoke(world.guard.trust.keys_of("alice"))

    assert "a key that is revoked" in refusal(world, image).message
    world.guard.trust.remove("alice")
    assert "a key that is revoked" in refusal(world, image).message


def test_replayed_older(world):
    world.trust("alice")
    old = world.image("kiro:1", b"one")
    world.sign(old)
    new = world.image("kiro:2", b"two")
    world.sign(new, now=NOW + SECOND)
    assert world.use(old) == ("alice",)
    assert world.use(new) == ("alice",)

    error = refusal(world, old)

    assert "is older than" in error.message
    assert "--newest" in error.hint
    assert world.use(new) == ("alice",)


def test_an_old_image_under_a_new_name_is_older_all_the_same(world):
    world.trust("alice")
    world.sign(world.image("kiro:1", b"one"))
    world.sign(world.image("kiro:2", b"two"), now=NOW + SECOND)
    world.use(world.images.get("kiro:2"))

    assert "is older than" in refusal(world, world.image("kiro:3", b"one")).message


def test_mixed_manifest_and_signature(world):
    world.trust("alice")
    good, other = world.image("kiro:1", b"one"), world.image("kiro:2", b"two")
    world.attach(other, *world.parts(world.sign(good)))

    error = refusal(world, other)

    assert "is of another image" in error.message
    assert good.digest in error.detail
    assert other.digest in error.detail


def test_statement_of_one_and_signature_of_another(world):
    world.trust("alice")
    good, other = world.image("kiro:1", b"one"), world.image("kiro:2", b"two")
    statement, _ = world.parts(world.sign(other, "mallory"))
    _, armored = world.parts(world.sign(good))
    world.attach(other, statement, armored)

    assert "does not fit what it should sign" in refusal(world, other).message


def test_another_lines_image_under_this_name(world):
    world.trust("alice")
    world.sign(world.image("debian:1"))

    error = refusal(world, world.image("kiro:1"))

    assert 'was signed as "debian:1"' in error.message
    assert "debian:1" in error.hint


def test_a_statement_that_vmkit_does_not_write(world):
    image = world.image("kiro:1")
    world.trust("alice")
    content = render_statement(_statement(image)).replace(b'"sequence":1', b'"sequence":9,"sequence":1')
    world.attach(image, content, sign(content, key=world.key("alice"), runner=RUNNER))

    assert "cannot be read" in refusal(world, image).message


def _statement(image: Image, *, sequence: int = 1) -> Statement:
    return Statement(name=image.name, digest=image.digest, sequence=sequence, created=NOW, expires=NOW + YEAR)


def test_every_flipped_bit_of_statement_and_signature_is_refused(world):
    image = world.image("kiro:1")
    world.trust("alice")
    made = world.sign(image)
    artifact = world.images.referrer(made.artifact)
    for blob in (artifact.statement, artifact.signature):
        path = world.images.blob(blob.digest)
        content = path.read_bytes()
        path.chmod(0o644)
        for at in range(0, len(content), 37):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert "cannot be read" in refusal(world, image).message
        path.write_bytes(content)
    assert world.use(image) == ("alice",)


def test_bits_flipped_before_the_store_took_it_are_refused_too(world):
    image = world.image("kiro:1")
    world.trust("alice")
    statement, armored = world.parts(world.sign(image, "mallory"))
    armored = sign(statement, key=world.key("alice"), runner=RUNNER)
    for at in range(0, len(statement), 12):
        world.images.delete("kiro:1")
        image = world.image("kiro:1")
        world.attach(image, statement[:at] + bytes([statement[at] ^ 1]) + statement[at + 1 :], armored)
        assert "does not fit what it should sign" in refusal(world, image).message


def test_more_signatures_than_vmkit_looks_at(world):
    image = world.image("kiro:1")
    for number in range(MAX_SIGNATURES + 1):
        world.attach(image, b"%d" % number, b"x")

    assert "more signatures" in refusal(world, image).message


# --- the mark


def test_a_refused_image_raises_no_mark(world):
    world.trust("alice")
    image = world.image("kiro:2", b"two")
    content = render_statement(_statement(image, sequence=MAX_SEQUENCE))
    world.attach(image, content, sign(content, key=world.key("mallory"), runner=RUNNER))
    content = render_statement(_statement(world.image("kiro:9", b"nine"), sequence=MAX_SEQUENCE))
    world.attach(image, content, sign(content, key=world.key("alice"), runner=RUNNER))

    refusal(world, image)

    assert world.guard.marks.get("kiro") == 0


def test_signing_again_keeps_the_place_in_the_line_also_after_the_end(world):
    world.trust("alice")
    image = world.image("kiro:1")
    first = world.sign(image)

    again = world.sign(image, now=NOW + dt.timedelta(days=1))
    late = world.sign(image, now=NOW + 3 * YEAR)

    assert first.statement.sequence == again.statement.sequence == late.statement.sequence


def test_what_a_stranger_says_of_the_place_is_not_believed(world):
    world.trust("alice")
    image = world.image("kiro:1")
    content = render_statement(_statement(image, sequence=MAX_SEQUENCE))
    world.attach(image, content, sign(content, key=world.key("mallory"), runner=RUNNER))

    assert world.sign(image).statement.sequence < MAX_SEQUENCE


def test_its_signer_can_make_an_old_image_the_newest(world):
    world.trust("alice")
    old, new = world.image("kiro:1", b"one"), world.image("kiro:2", b"two")
    world.sign(old)
    world.sign(new, now=NOW + SECOND)
    world.use(new)

    world.sign(old, now=NOW + SECOND, newest=True)

    assert world.use(old) == ("alice",)
    assert "is older than" in refusal(world, new).message


def test_a_signer_whose_clock_is_slow_still_signs_something_newer(world):
    world.trust("alice")
    first, second = world.image("kiro:1", b"one"), world.image("kiro:2", b"two")
    world.sign(first)
    world.use(first)

    world.sign(second, now=NOW - dt.timedelta(hours=1))

    assert world.use(second, now=NOW) == ("alice",)


# --- create


def test_create_uses_the_very_image_that_was_verified(world):
    """While it is being verified its name is given to another image."""
    world.trust("alice")
    good, bad = world.image("kiro:1", b"one"), world.image("evil:1", b"two")
    world.sign(good)
    images = world.images

    class Swapping(Runner):
        def run(self, argv, **more):
            images.adopt("kiro:1", bad.digest)
            return super().run(argv, **more)

    guard = Guard(images=images, trust=world.guard.trust, marks=world.guard.marks, runner=Swapping())
    used = ensure_image("kiro:1", images=images, runner=RUNNER, report=Silent(), guard=guard)

    assert images.get("kiro:1").digest == bad.digest
    assert used.digest == good.digest
    assert used.disk.read_bytes().startswith(b"one")


def test_an_unsigned_image_is_not_put_together(world):
    image = world.image("kiro:1")
    shutil.rmtree(image.disk.parent)

    with pytest.raises(Refused, match="is not signed"):
        world.create("kiro:1")
    assert not image.disk.exists()


def test_nothing_is_built_or_fetched_to_be_refused(world):
    with pytest.raises(Refused, match="would not be signed"):
        world.create("debian-13")


@pytest.mark.parametrize("policy", ["true", "false"])
def test_the_policy_is_asked_by_create(world, policy, capsys):
    world.image("kiro:1")
    assert vmkit("config", "set", "policy.require_signature", policy) == 0

    code = vmkit("create", "a", "--template", "debian", "--image", "kiro:1", "--no-start")

    assert (code == 6) == (policy == "true")
    assert ("is not signed" in capsys.readouterr().err) == (policy == "true")
    if policy == "true":
        assert not (world.home / "machines" / "a").exists()


# --- the command line


def test_sign_trust_verify_and_list_as_json(world, capsys):
    image = world.image("kiro:1")
    world.key("alice")

    assert vmkit("image", "sign", "kiro:1", "--key", world.key("alice"), "--expires", "30d", "--json") == 0
    signed = json.loads(capsys.readouterr().out)["signature"]
    assert (signed["digest"], signed["line"], signed["signer"]) == (image.digest, "kiro", None)
    assert vmkit("image", "verify", "kiro:1", "--json") == 6
    assert json.loads(capsys.readouterr().err)["error"]["kind"] == "refused"
    assert vmkit("trust", "add", "alice", world.public("alice"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["signer"]["fingerprint"] == signed["fingerprint"]
    assert vmkit("image", "verify", "kiro:1", "--json") == 0
    verified = json.loads(capsys.readouterr().out)
    assert (verified["passed"], verified["digest"], verified["signed_by"]) == (True, image.digest, ["alice"])
    assert verified["signatures"][0]["expires"] == signed["expires"]
    assert vmkit("image", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"][0]["signed_by"] == ["alice"]
    assert vmkit("image", "show", "kiro:1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["image"]["signed_by"] == ["alice"]


def test_revoke_takes_a_signer_or_a_file(world, capsys):
    world.trust("alice")
    world.key("stolen")

    assert vmkit("trust", "revoke", "alice") == 0
    assert vmkit("trust", "revoke", world.public("stolen")) == 0
    capsys.readouterr()
    assert vmkit("trust", "list", "--json") == 0

    listed = json.loads(capsys.readouterr().out)
    assert [(each["signer"], each["revoked"]) for each in listed["signers"]] == [("alice", True)]
    assert len(listed["revoked"]) == 2
    assert vmkit("trust", "add", "eve", world.public("stolen")) == 6
    assert vmkit("trust", "revoke", "nobody") == 2
    assert vmkit("trust", "remove", "nobody") == 3


def test_a_private_key_is_not_taken_for_a_public_one(world, capsys):
    assert vmkit("trust", "add", "alice", world.key("alice")) == 6
    err = capsys.readouterr().err
    assert "is not an OpenSSH public key" in err
    assert "PRIVATE" not in err


def test_verify_reads_every_byte(world):
    image = world.image("kiro:1")
    world.trust("alice")
    world.sign(image)
    chunk = world.images.blob(world.images.manifest(image.digest).chunks[0].blob.digest)
    content = chunk.read_bytes()
    chunk.chmod(0o644)
    chunk.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    with pytest.raises(Refused, match="has been changed"):
        verify_image(image, guard=world.guard, now=NOW, report=Silent())
    chunk.write_bytes(content)
    assert verify_image(image, guard=world.guard, now=NOW, report=Silent()).signers == ("alice",)


def test_a_missing_image_is_not_found(world):
    assert vmkit("image", "verify", "ghost:1") == 3
    assert vmkit("image", "sign", "ghost:1", "--key", world.key("alice")) == 3
