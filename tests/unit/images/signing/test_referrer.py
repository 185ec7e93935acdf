"""A signature is a plain OCI artifact, kept in the store as long as what it refers to."""

import json

import pytest

from tests.unit.images.test_image_store import add
from vmkit.errors import Refused
from vmkit.images.layout import MANIFEST_TYPE, Blob, Image, canonical_json, digest_of
from vmkit.images.signing.referrer import parse_signature_manifest, render_signature_manifest
from vmkit.images.store import ImageStore


def artifact(subject: str, *, statement: bytes = b"statement", signature: bytes = b"signature") -> tuple[bytes, ...]:
    blob = Blob(media_type=MANIFEST_TYPE, digest=subject, size=600)
    return render_signature_manifest(subject=blob, statement=statement, signature=signature)


def attach(images: ImageStore, image: Image, **content: bytes) -> str:
    manifest, *blobs = artifact(image.digest, **content)
    return images.add_referrer(manifest, blobs).digest


@pytest.fixture
def images(tmp_path):
    add(tmp_path / "images", "kiro:1")
    return ImageStore(tmp_path / "images")


def test_the_manifest_is_an_oci_artifact_with_a_subject():
    manifest, empty, statement, signature = artifact("sha256:" + "a" * 64)

    value = json.loads(manifest)
    assert value["artifactType"] == "application/vnd.vmkit.signature.v1"
    assert value["subject"] == {"mediaType": MANIFEST_TYPE, "digest": "sha256:" + "a" * 64, "size": 600}
    assert value["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert value["config"]["digest"] == digest_of(empty) == digest_of(b"{}")
    assert [layer["digest"] for layer in value["layers"]] == [digest_of(statement), digest_of(signature)]


@pytest.mark.parametrize(
    "change",
    [
        {"artifactType": "application/vnd.vmkit.image.v1"},
        {"schemaVersion": 1},
        {"layers": []},
        {"layers": "x"},
        {"layers": [{}, {}, {}]},
        {"subject": None},
        {"subject": {"mediaType": MANIFEST_TYPE, "digest": "sha256:../../x", "size": 1}},
        {"subject": {"mediaType": MANIFEST_TYPE, "digest": "sha256:" + "a" * 64, "size": 1 << 40}},
        {"config": {}},
    ],
)
def test_any_other_artifact_is_refused(change):
    value = json.loads(artifact("sha256:" + "a" * 64)[0])

    with pytest.raises(Refused):
        parse_signature_manifest(canonical_json(value | change))


def test_a_layer_that_claims_too_much_is_refused():
    value = json.loads(artifact("sha256:" + "a" * 64)[0])
    value["layers"][0]["size"] = 1 << 30

    with pytest.raises(Refused):
        parse_signature_manifest(canonical_json(value))


def test_a_kept_signature_is_found_by_what_it_refers_to(images):
    image = images.get("kiro:1")

    digest = attach(images, image)

    assert images.referrers(image.digest) == (digest,)
    assert images.referrers("sha256:" + "0" * 64) == ()
    assert [each.name for each in images.list()] == ["kiro:1"]


def test_the_index_names_it_as_oci_does(images):
    image = images.get("kiro:1")
    digest = attach(images, image)

    entries = json.loads((images.root / "index.json").read_text())["manifests"]
    assert [entry["digest"] for entry in entries] == [image.digest, digest]
    assert entries[1]["artifactType"] == "application/vnd.vmkit.signature.v1"
    assert entries[1]["size"] == images.blob(digest).stat().st_size


def test_parts_that_the_manifest_does_not_name_are_refused_and_not_kept(images):
    manifest, empty, _, signature = artifact(images.get("kiro:1").digest)
    before = sorted(images.root.rglob("*"))

    with pytest.raises(Refused, match="not those its manifest names"):
        images.add_referrer(manifest, (empty, b"another statement", signature))
    assert sorted(images.root.rglob("*")) == before


def test_adding_an_image_keeps_signatures_of_others(images):
    image = images.get("kiro:1")
    digest = attach(images, image)

    add(images.root, "kiro:2", seed=b"b")

    assert images.referrers(image.digest) == (digest,)


def test_deleting_another_image_keeps_a_signature_whole(images):
    image = images.get("kiro:1")
    digest = attach(images, image)
    add(images.root, "kiro:2", seed=b"b")

    images.delete("kiro:2")

    assert all(images.blob(blob.digest).exists() for blob in images.referrer(digest).blobs)


def test_deleting_the_image_deletes_its_signatures(images):
    attach(images, images.get("kiro:1"))

    images.delete("kiro:1")

    assert list((images.root / "blobs/sha256").iterdir()) == []
    assert json.loads((images.root / "index.json").read_text())["manifests"] == []
