"""A transfer moves what is not there yet, counts nothing before it is checked, and sets the name last."""

import errno
import json

import pytest

from vmkit.errors import HostLacks, NotFound, Refused
from vmkit.host.report import Silent
from vmkit.images.layout import digest_of
from vmkit.images.remote.base import Denied, Unreachable
from vmkit.images.remote.reference import parse_remote
from vmkit.images.remote.seen import lenders, remember
from vmkit.images.remote.transfer import pull, push


class Watching(Silent):
    def __init__(self) -> None:
        self.seen = []

    def progress(self, done, total, unit="bytes") -> None:
        self.seen.append((done, total))


def pushed(store, repository, name="kiro:1", **more):
    return push(name, store=store, to=repository, version="1", report=Silent(), **more)


def pulled(store, repository, name="kiro:1", report=None):
    return pull(name, store=store, source=repository, version="1", report=report or Silent())


def left_over(store):
    """Return what lies in a store besides locks."""
    return [
        path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != "guard"
    ]


def test_an_image_goes_there_and_back(registry, repository, store, other_store, make_image):
    image, report = make_image(store), Watching()

    sent = pushed(store, repository(registry))
    back, got = pulled(other_store, repository(registry), report=report)

    assert (back.digest, sent.digest, got.digest) == (image.digest,) * 3
    assert back.disk.read_bytes() == image.disk.read_bytes()
    assert sent.moved_bytes == got.moved_bytes == image.stored_bytes - len(store.blob(image.digest).read_bytes())
    assert (got.moved_bytes, got.moved_bytes) in report.seen
    assert all(done <= total for done, total in report.seen)
    assert not (other_store.root / "incoming" / image.digest[7:]).exists()


def test_the_tag_comes_last(registry, repository, store, make_image):
    image = make_image(store)

    pushed(store, repository(registry))

    puts = [path for path, _ in registry.asked("PUT")]
    assert puts[-2:] == [f"/v2/team/kiro/manifests/{image.digest}", "/v2/team/kiro/manifests/1"]


def test_a_second_push_sends_nothing(registry, repository, store, make_image):
    make_image(store)
    pushed(store, repository(registry))
    before = len(registry.asked("POST"))

    again = pushed(store, repository(registry))

    assert (again.moved_bytes, again.moved_parts) == (0, 0)
    assert len(registry.asked("POST")) == before


def test_a_push_that_failed_goes_on(registry, repository, store, make_image):
    make_image(store)
    registry.faults.answers["PUT /v2/team/kiro/blobs/uploads"] = [400]
    with pytest.raises(Exception, match="did not do as asked"):
        pushed(store, repository(registry), workers=1)
    assert ("team/kiro", "1") not in registry.manifests

    pushed(store, repository(registry))

    stored = [path for path, _ in registry.asked("PUT", "blobs")]
    assert len(stored) == len(registry.blobs["team/kiro"]) + 1


def test_a_tag_that_means_another_image_is_not_moved_when_asked(registry, repository, store, make_image):
    first = make_image(store)
    pushed(store, repository(registry), never_move_tag=True)
    pushed(store, repository(registry), never_move_tag=True)
    make_image(store, "other:1", seed=2)

    with pytest.raises(Refused, match="another image"):
        pushed(store, repository(registry), "other:1", never_move_tag=True)

    assert digest_of(registry.manifests["team/kiro", "1"][1]) == first.digest


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_image_is_not_pushed(registry, repository, store, make_image, damage):
    image = make_image(store)
    part = store.blob(store.manifest(image.digest).chunks[0].blob.digest)
    part.chmod(0o600)
    part.write_bytes(b"x" + part.read_bytes()[1:]) if damage == "flip" else part.unlink()

    with pytest.raises(Refused):
        pushed(store, repository(registry))

    assert registry.manifests == {}


def test_an_image_that_is_not_here_is_not_pushed(registry, repository, store):
    with pytest.raises(NotFound):
        pushed(store, repository(registry))


def test_chunks_of_another_image_are_not_fetched(registry, repository, store, other_store, make_image):
    make_image(store, chunks=5)
    make_image(other_store, "base:1", chunks=4)
    pushed(store, repository(registry))

    _, got = pulled(other_store, repository(registry))

    assert got.kept_parts == 5  # four chunks and the kernel
    assert len(registry.asked("GET", "blobs")) == 2


def test_a_damaged_chunk_of_another_image_is_fetched_and_healed(registry, repository, store, other_store, make_image):
    image = make_image(store)
    pushed(store, repository(registry))
    pulled(other_store, repository(registry))
    part = other_store.blob(store.manifest(image.digest).chunks[0].blob.digest)
    part.chmod(0o600)
    part.write_bytes(b"x" + part.read_bytes()[1:])

    _, got = pulled(other_store, repository(registry), "again:1")

    assert got.moved_parts == 1
    assert digest_of(part.read_bytes()) == f"sha256:{part.name}"


def test_a_pull_that_was_cut_goes_on(registry, repository, store, other_store, make_image):
    image = make_image(store)
    pushed(store, repository(registry))
    last = store.manifest(image.digest).chunks[-1].blob.digest
    registry.faults.answers[f"GET /v2/team/kiro/blobs/{last}"] = [503] * 50
    with pytest.raises(Unreachable):
        pull("kiro:1", store=other_store, source=repository(registry), version="1", report=Silent(), workers=1)
    assert other_store.find("kiro:1") is None
    registry.faults.answers.clear()
    registry.requests.clear()

    _, got = pulled(other_store, repository(registry))

    assert [path for path, _ in registry.asked("GET", "blobs")] == [f"/v2/team/kiro/blobs/{last}"]
    assert got.moved_parts == 1


def test_what_was_denied_half_way_keeps_what_came(registry, repository, store, other_store, make_image):
    image = make_image(store)
    pushed(store, repository(registry))
    last = store.manifest(image.digest).chunks[-1].blob.digest
    registry.faults.answers[f"GET /v2/team/kiro/blobs/{last}"] = [403]

    with pytest.raises(Denied):
        pull("kiro:1", store=other_store, source=repository(registry), version="1", report=Silent(), workers=1)
    _, got = pulled(other_store, repository(registry))

    assert got.moved_parts == 1


def test_every_flipped_part_is_refused_and_nothing_stays(registry, repository, store, other_store, make_image):
    image = make_image(store)
    opened = repository(registry)
    pushed(store, opened)

    for blob in store.manifest(image.digest).blobs:
        registry.faults.flipped = {blob.digest}
        with pytest.raises(Refused):
            pulled(other_store, opened)
        assert left_over(other_store) == []


def test_every_flipped_byte_of_a_manifest_is_refused_before_a_chunk_is_fetched(
    registry, repository, store, other_store, make_image
):
    image = make_image(store, chunks=1)
    pushed(store, repository(registry))
    content, opened = store.blob(image.digest).read_bytes(), repository(registry)

    for position in range(0, len(content), 7):
        flipped = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        registry.faults.manifest, registry.faults.says_digest = flipped, image.digest
        registry.requests.clear()
        with pytest.raises(Refused):
            pulled(other_store, opened)
        assert registry.asked("GET", "blobs") == []

    assert left_over(other_store) == []


@pytest.mark.parametrize("key", ["content_digest", "virtual_bytes", "chunk_bytes", "user", "boot", "kernel_arguments"])
def test_a_config_that_cannot_be_is_refused_before_a_chunk_is_fetched(
    registry, repository, store, other_store, make_image, key
):
    image = make_image(store)
    manifest = json.loads(store.blob(image.digest).read_bytes())
    config = json.loads(store.blob(manifest["config"]["digest"]).read_bytes())
    config[key] = {"content_digest": digest_of(b""), "virtual_bytes": 1 << 50, "chunk_bytes": 3}.get(
        key, "\x1b; rm -rf"
    )
    content = json.dumps(config).encode()
    manifest["config"] |= {"digest": registry.keep("team/kiro", content), "size": len(content)}
    registry.tag("team/kiro", "1", json.dumps(manifest).encode())

    with pytest.raises(Refused):
        pulled(other_store, repository(registry))

    assert len(registry.asked("GET", "blobs")) == 1
    assert left_over(other_store) == []


def test_a_chunk_that_unpacks_to_something_else_is_refused_and_nothing_stays(
    registry, repository, store, other_store, make_image
):
    image = make_image(store)
    pushed(store, repository(registry))
    manifest = json.loads(store.blob(image.digest).read_bytes())
    bomb = b"\x28\xb5\x2f\xfd" + bytes(100)
    manifest["layers"][1] |= {"digest": registry.keep("team/kiro", bomb), "size": len(bomb)}
    registry.tag("team/kiro", "1", json.dumps(manifest).encode())

    with pytest.raises(Refused):
        pulled(other_store, repository(registry))

    assert left_over(other_store) == []


def test_one_part_with_two_sizes_is_refused(registry, repository, store, other_store, make_image):
    image = make_image(store)
    pushed(store, repository(registry))
    manifest = json.loads(store.blob(image.digest).read_bytes())
    manifest["layers"][2] |= {"digest": manifest["layers"][1]["digest"], "size": 5}
    registry.tag("team/kiro", "1", json.dumps(manifest).encode())

    with pytest.raises(Refused, match="two sizes"):
        pulled(other_store, repository(registry))


def test_something_that_is_no_image_of_ours_is_refused(registry, repository, other_store):
    registry.tag("team/kiro", "1", b'{"schemaVersion":2,"layers":[]}')

    with pytest.raises(Refused, match="not a vmkit image"):
        pulled(other_store, repository(registry))


class FullDisk:
    """A repository whose blobs cannot be written."""

    def __init__(self, inner) -> None:
        self._inner = inner
        self.manifest = inner.manifest

    def fetch(self, blob, target, *, on_bytes) -> None:
        if blob.media_type.endswith("zstd"):
            raise OSError(errno.ENOSPC, "No space left on device")
        self._inner.fetch(blob, target, on_bytes=on_bytes)


def test_a_full_disk_is_named_and_the_store_unchanged(registry, repository, store, other_store, make_image):
    make_image(store)
    make_image(other_store, "mine:1", seed=9)
    pushed(store, repository(registry))

    with pytest.raises(HostLacks, match="no space"):
        pulled(other_store, FullDisk(repository(registry)))

    assert [image.name for image in other_store.list()] == ["mine:1"]


def test_a_repository_that_was_seen_may_lend(store, make_image):
    image = make_image(store)
    remember(store, parse_remote("r.example/base:1"), image.digest)
    remember(store, parse_remote("s.example/other:1"), image.digest)

    found = lenders(store, parse_remote("r.example/kiro:1"))

    assert found == {blob.digest: "base" for blob in store.manifest(image.digest).blobs}
    assert lenders(store, parse_remote("r.example/base:2")) == {}


@pytest.mark.parametrize("content", ["", "5", "[5]", '[["a","b"]]', '[["r.example","base","sha256:x"]]', "x" * 100_000])
def test_a_damaged_list_of_what_was_seen_lends_nothing(store, make_image, content):
    make_image(store)
    (store.root / "seen.json").write_text(content)

    assert lenders(store, parse_remote("r.example/kiro:1")) == {}
