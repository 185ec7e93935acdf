"""The store keeps what it is given, byte for byte, and notices when somebody else has changed it."""

import dataclasses
import json
import multiprocessing
import os
from pathlib import Path

import pytest
import zstandard

from vmkit.errors import NotFound, Refused, UsageError, WrongState
from vmkit.host.report import Silent
from vmkit.images.layout import Boot, ImageMeta, digest_of
from vmkit.images.store import ImageStore

META = ImageMeta(
    arch="x86_64",
    boot=Boot.DIRECT,
    user="agent",
    created="2026-01-02T03:04:05Z",
    kernel_arguments="root=/dev/vda rw console=ttyS0",
    release="debian-13",
    packages=("git 1:2.47 amd64",),
)


def make_disk(path: Path, *, seed: bytes = b"a", size: int = (12 << 20) + 512) -> Path:
    """Write data, then two chunks of zeros of which one is a hole, then a short last chunk."""
    with path.open("wb") as file:
        file.write(seed * 5000)
        file.seek(4 << 20)
        file.write(bytes(1 << 16))
        file.seek(size - 512)
        file.write(seed * 512)
    return path


def add(root: Path, name: str, *, seed: bytes = b"a", meta: ImageMeta = META):
    folder = root.parent
    disk = make_disk(folder / f"disk-{seed.hex()}-{os.getpid()}", seed=seed)
    kernel, initrd = folder / f"kernel-{os.getpid()}", folder / f"initrd-{os.getpid()}"
    kernel.write_bytes(b"kernel")
    initrd.write_bytes(b"initrd")
    return ImageStore(root).add(name, disk=disk, kernel=kernel, initrd=initrd, meta=meta, report=Silent())


def forget_disks(root: Path) -> None:
    for path in sorted((root / "assembled").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def chunk_files(root: Path) -> list[Path]:
    return [p for p in (root / "blobs/sha256").iterdir() if p.read_bytes()[:4] == b"\x28\xb5\x2f\xfd"]


def test_an_added_image_is_found_whole(tmp_path):
    root = tmp_path / "images"

    image = add(root, "debian-13")

    found = ImageStore(root).get("debian-13")
    assert found == image
    assert (found.name, found.arch, found.boot, found.user) == ("debian-13:latest", "x86_64", Boot.DIRECT, "agent")
    assert found.kernel_arguments == META.kernel_arguments
    assert found.disk.read_bytes() == next(tmp_path.glob("disk-*")).read_bytes()
    assert found.kernel.read_bytes() == b"kernel"
    assert found.initrd.read_bytes() == b"initrd"
    assert found.virtual_bytes == (12 << 20) + 512


def test_a_disk_that_machines_stand_on_is_read_only(tmp_path):
    image = add(tmp_path / "images", "debian-13")

    assert image.disk.stat().st_mode & 0o777 == 0o444


def test_zeros_are_not_stored(tmp_path):
    add(tmp_path / "images", "debian-13")

    assert len(chunk_files(tmp_path / "images")) == 2


def test_the_same_disk_has_the_same_digests_in_every_store(tmp_path):
    first = add(tmp_path / "one/images", "a") if (tmp_path / "one").mkdir() is None else None
    second = add(tmp_path / "two/images", "b") if (tmp_path / "two").mkdir() is None else None

    assert first.digest == second.digest


def test_a_missing_disk_is_assembled_from_its_chunks(tmp_path):
    root = tmp_path / "images"
    before = add(root, "debian-13").disk.read_bytes()
    forget_disks(root)

    image = ImageStore(root).get("debian-13")

    assert image.disk.read_bytes() == before
    assert image.disk.stat().st_blocks * 512 < image.virtual_bytes // 2
    assert image.kernel.read_bytes() == b"kernel"


def test_the_store_is_an_oci_layout(tmp_path):
    root = tmp_path / "images"

    image = add(root, "debian-13:v1")

    index = json.loads((root / "index.json").read_text())
    [entry] = index["manifests"]
    assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "debian-13:v1"}
    assert entry["digest"] == image.digest
    for path in (root / "blobs/sha256").iterdir():
        assert digest_of(path.read_bytes()) == f"sha256:{path.name}"


@pytest.mark.parametrize("change", [b"X", b""])
def test_a_changed_or_shortened_chunk_is_refused(tmp_path, change):
    root = tmp_path / "images"
    add(root, "debian-13")
    forget_disks(root)
    victim = chunk_files(root)[0]
    content = victim.read_bytes()
    victim.chmod(0o600)
    victim.write_bytes(content[:-1] + change)

    with pytest.raises(Refused, match="has been changed"):
        ImageStore(root).get("debian-13")
    assert list((root / "assembled").iterdir()) == []


def test_a_missing_chunk_is_refused(tmp_path):
    root = tmp_path / "images"
    add(root, "debian-13")
    forget_disks(root)
    chunk_files(root)[0].unlink()

    with pytest.raises(Refused, match="missing"):
        ImageStore(root).get("debian-13")


def test_a_changed_manifest_is_refused(tmp_path):
    root = tmp_path / "images"
    image = add(root, "debian-13")
    path = root / "blobs/sha256" / image.digest.removeprefix("sha256:")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"schemaVersion":2', b'"schemaVersion": 2'))

    with pytest.raises(Refused, match="has been changed"):
        ImageStore(root).list()


def test_a_frame_that_grows_past_its_chunk_is_refused(tmp_path):
    root = tmp_path / "images"
    image = add(root, "debian-13")
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    blobs = root / "blobs/sha256"
    manifest = json.loads((blobs / image.digest[7:]).read_text())
    layer = next(layer for layer in manifest["layers"] if "annotations" in layer)
    layer["digest"], layer["size"] = digest_of(bomb), len(bomb)
    content = json.dumps(manifest).encode()
    for blob in (bomb, content):
        (blobs / digest_of(blob)[7:]).write_bytes(blob)
    store = ImageStore(root)
    store.adopt("bomb", digest_of(content))

    with pytest.raises(Refused, match="another size"):
        store.get("bomb")


def test_an_unknown_image_names_what_comes_near(tmp_path):
    root = tmp_path / "images"
    add(root, "debian-13")

    with pytest.raises(NotFound) as caught:
        ImageStore(root).get("debain-13")

    assert "debian-13:latest" in caught.value.detail
    assert caught.value.hint == "vmkit image build debian-13"


def test_an_empty_store_lists_nothing_and_makes_nothing(tmp_path):
    store = ImageStore(tmp_path / "images")

    assert store.list() == ()
    assert store.find("debian-13") is None
    assert not store.root.exists()


@pytest.mark.parametrize(
    "name", ["", "Debian", "a/b", "../a", "a:", "a:b:c", "a b", "-a", "a\n", "a" * 64, "a:" + "b" * 64]
)
def test_a_name_that_is_none_is_a_usage_error(tmp_path, name):
    with pytest.raises(UsageError):
        ImageStore(tmp_path).find(name)


def test_deleting_a_name_keeps_what_others_use(tmp_path):
    root = tmp_path / "images"
    add(root, "one", seed=b"a")
    two = add(root, "two", seed=b"b")
    store = ImageStore(root)

    store.delete("one")

    assert [image.name for image in store.list()] == ["two:latest"]
    forget_disks(root)
    assert store.get("two").disk.read_bytes()[:1] == b"b"
    assert len(list((root / "assembled").iterdir())) == 1
    assert store.manifest(two.digest).meta == META


def test_deleting_the_last_name_leaves_no_bytes(tmp_path):
    root = tmp_path / "images"
    add(root, "one")
    store = ImageStore(root)

    store.delete("one")

    assert list((root / "blobs/sha256").iterdir()) == []
    assert list((root / "assembled").iterdir()) == []


def test_two_names_of_one_image_share_its_bytes(tmp_path):
    root = tmp_path / "images"
    first, second = add(root, "one"), add(root, "two")

    ImageStore(root).delete("one")

    assert first.digest == second.digest
    assert ImageStore(root).get("two").disk.exists()


def _add_in_process(root: Path, number: int) -> None:
    add(root, f"image-{number}", seed=bytes([65 + number]))


def test_images_added_at_once_are_all_kept(tmp_path):
    root = tmp_path / "images"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_in_process, args=(root, number)) for number in range(4)]

    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert [worker.exitcode for worker in workers] == [0] * 4
    assert [image.name for image in ImageStore(root).list()] == [f"image-{number}:latest" for number in range(4)]
    assert [path for path in (root / "staging").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "index",
    [
        b"[]",
        b"{",
        b'{"manifests":[1]}',
        b'{"manifests":[{"digest":"sha256:../../etc/passwd","annotations":{"org.opencontainers.image.ref.name":"a:b"}}]}',
        b'{"manifests":[{"digest":7,"annotations":{"org.opencontainers.image.ref.name":"a:b"}}]}',
        b"[" * 100_000,
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path, index):
    (tmp_path / "index.json").write_bytes(index)

    with pytest.raises(Refused):
        ImageStore(tmp_path).list()


def test_a_second_name_means_the_same_image(tmp_path):
    root = tmp_path / "images"
    image = add(root, "one:1")
    store = ImageStore(root)

    digest = store.tag("one:1", "one:stable", replace=False)

    assert digest == image.digest
    assert store.get("one:stable").digest == image.digest


def test_a_name_that_is_taken_moves_only_when_it_may(tmp_path):
    root = tmp_path / "images"
    one, two = add(root, "one:1", seed=b"a"), add(root, "one:2", seed=b"b")
    store = ImageStore(root)

    with pytest.raises(WrongState, match="exists"):
        store.tag("one:1", "one:2", replace=False)
    assert store.digest("one:2") == two.digest

    store.tag("one:1", "one:2", replace=True)
    assert store.digest("one:2") == one.digest


def test_naming_what_is_not_there_is_not_found(tmp_path):
    root = tmp_path / "images"
    add(root, "one:1")

    with pytest.raises(NotFound):
        ImageStore(root).tag("one:3", "one:4", replace=False)


def test_sources_are_kept_with_the_packages(tmp_path):
    root = tmp_path / "images"
    said = dataclasses.replace(META, sources=("libssl3 openssl 3.5",))

    image = add(root, "one:1", meta=said)

    assert ImageStore(root).manifest(image.digest).meta == said
    assert ImageStore(root).manifest(add(root, "two:1").digest).meta.sources is None
