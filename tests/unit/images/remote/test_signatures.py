"""Signatures go along: out of the store with a push, into it with a pull."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.images.signing.test_referrer import artifact, attach
from tests.unit.images.test_image_store import add
from vmkit.errors import Refused
from vmkit.images.layout import digest_of
from vmkit.images.remote.signatures import bring_signatures, send_signatures
from vmkit.images.signing.referrer import SIGNATURE_TYPE
from vmkit.images.store import ImageStore


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    add(tmp_path / "images", "kiro:1")
    return ImageStore(tmp_path / "images")


@dataclass(frozen=True)
class Attached:
    digest: str
    artifact_type: str = SIGNATURE_TYPE


class MemoryPlace:
    """A registry in a dict; it gives what it was given, or what a test has put there."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.attached: dict[str, list[Attached]] = {}

    def manifest(self, version: str) -> bytes:
        return self.content[version]

    def fetch(self, blob, target, *, on_bytes) -> None:
        target.write_bytes(self.content[blob.digest])

    def referrers(self, digest: str) -> list[Attached]:
        return self.attached.get(digest, [])

    def attach(self, content, *, subject, blobs) -> str:
        self.content |= {digest_of(content): content, **blobs}
        self.attached.setdefault(subject, []).append(Attached(digest_of(content)))
        return digest_of(content)


def second_store(tmp_path) -> ImageStore:
    (tmp_path / "other").mkdir()
    add(tmp_path / "other" / "images", "kiro:1")
    return ImageStore(tmp_path / "other" / "images")


def test_a_signature_goes_from_store_to_store(images, tmp_path):
    image, place, there = images.get("kiro:1"), MemoryPlace(), second_store(tmp_path)
    digest = attach(images, image)

    assert send_signatures(image.digest, images=images, to=place) == 1
    assert bring_signatures(image.digest, images=there, source=place) == 1

    assert there.referrers(image.digest) == (digest,)
    assert there.referrer(digest) == images.referrer(digest)


def test_what_is_no_signature_of_this_image_is_left_there(images):
    image, place = images.get("kiro:1"), MemoryPlace()
    good, *blobs = artifact(image.digest)
    other, *_ = artifact("sha256:" + "0" * 64)
    changed, *more = artifact(image.digest, statement=b"another")
    for content, parts in ((b"{}", ()), (other, blobs), (changed, more), (good, blobs)):
        place.attach(content, subject=image.digest, blobs={digest_of(part): part for part in parts})
    place.content[digest_of(b"another")] = b"changed"
    place.attached[image.digest].append(Attached("sha256:" + "1" * 64, artifact_type="application/spdx+json"))

    assert bring_signatures(image.digest, images=images, source=place) == 1

    assert images.referrers(image.digest) == (digest_of(good),)


def test_a_changed_signature_is_not_sent(images):
    image, place = images.get("kiro:1"), MemoryPlace()
    statement = images.referrer(attach(images, image)).statement
    images.blob(statement.digest).chmod(0o644)
    images.blob(statement.digest).write_bytes(b"statemenT")

    with pytest.raises(Refused, match="has been changed"):
        send_signatures(image.digest, images=images, to=place)
    assert place.attached == {}
