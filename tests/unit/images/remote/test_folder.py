"""A folder of images is an OCI layout, and its files are hearsay."""

import json

import pytest

from vmkit.errors import Refused
from vmkit.host.report import Silent
from vmkit.images.layout import MANIFEST_TYPE, canonical_json, digest_of
from vmkit.images.remote.base import Absent
from vmkit.images.remote.folder import FolderRepository
from vmkit.images.remote.transfer import pull, push


def test_an_image_goes_there_and_back(store, other_store, make_image, tmp_path):
    image = make_image(store)

    push("kiro:1", store=store, to=FolderRepository(tmp_path / "stick", make=True), version="kiro:1", report=Silent())
    back, moved = pull(
        "k:2", store=other_store, source=FolderRepository(tmp_path / "stick"), version="kiro:1", report=Silent()
    )

    assert back.digest == image.digest
    assert back.disk.read_bytes() == image.disk.read_bytes()
    assert moved.kept_parts == 0
    assert json.loads((tmp_path / "stick/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def test_images_share_what_they_have_in_common(store, make_image, tmp_path):
    make_image(store, "a:1")
    make_image(store, "b:1")
    stick = FolderRepository(tmp_path / "stick", make=True)

    push("a:1", store=store, to=stick, version="a:1", report=Silent())
    second = push("b:1", store=store, to=stick, version="b:1", report=Silent())

    assert second.moved_bytes == 0
    with pytest.raises(Absent) as caught:
        stick.only_name()
    assert caught.value.detail == "a:1\nb:1"


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_part_is_refused_and_nothing_stays(store, other_store, make_image, tmp_path, damage):
    image = make_image(store)
    stick = FolderRepository(tmp_path / "stick", make=True)
    push("kiro:1", store=store, to=stick, version="kiro:1", report=Silent())
    part = tmp_path / "stick/blobs/sha256" / store.manifest(image.digest).chunks[2].blob.digest[7:]
    content = part.read_bytes()
    part.chmod(0o600)
    if damage == "remove":
        part.unlink()
    else:
        part.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if damage == "flip" else b""))

    with pytest.raises(Refused):
        pull("k:2", store=other_store, source=stick, version="kiro:1", report=Silent())

    assert other_store.list() == ()
    assert [
        path
        for path in other_store.root.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != "guard"
    ] == []


def test_a_folder_that_others_may_write_to_will_do(store, make_image, tmp_path):
    image = make_image(store, chunks=1)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)

    push("kiro:1", store=store, to=FolderRepository(tmp_path / "open", make=True), version="kiro:1", report=Silent())

    assert FolderRepository(tmp_path / "open").find_digest("kiro:1") == image.digest


def test_a_folder_with_other_things_is_not_written_to(tmp_path):
    (tmp_path / "diary").write_text("dear")

    with pytest.raises(Refused):
        FolderRepository(tmp_path, make=True)

    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["diary"]


def test_a_folder_that_is_none_is_not_read(tmp_path):
    with pytest.raises(Absent):
        FolderRepository(tmp_path)


@pytest.mark.parametrize("index", ["[]", "{", '{"manifests":[{"digest":"sha256:../../x","size":1,"mediaType":"x"}]}'])
def test_a_hostile_index_is_refused(tmp_path, index):
    FolderRepository(tmp_path / "stick", make=True)
    (tmp_path / "stick/index.json").write_text(index)

    with pytest.raises(Refused):
        FolderRepository(tmp_path / "stick").find_digest("kiro:1")


def test_what_is_attached_travels_with_the_image(store, make_image, tmp_path):
    image = make_image(store)
    stick = FolderRepository(tmp_path / "stick", make=True)
    push("kiro:1", store=store, to=stick, version="kiro:1", report=Silent())
    layer = b"signature"
    descriptor = {"mediaType": "application/x", "digest": digest_of(layer), "size": len(layer)}
    content = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": "application/vnd.test",
            "config": descriptor,
            "layers": [descriptor],
            "subject": {"mediaType": MANIFEST_TYPE, "digest": image.digest, "size": 1},
        }
    )

    digest = stick.attach(content, subject=image.digest, blobs={digest_of(layer): layer})

    assert [(found.digest, found.artifact_type) for found in stick.referrers(image.digest)] == [
        (digest, "application/vnd.test")
    ]
    assert stick.manifest(digest) == content
    assert stick.only_name() == "kiro:1"
    assert stick.referrers(digest) == ()
