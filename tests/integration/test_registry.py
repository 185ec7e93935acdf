"""Push and pull with a real registry: what is killed goes on, and standard tools see the same image."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.realregistry import REGISTRY, RealRegistry, real_registry
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.host.settings import Settings
from vmkit.images.layout import MANIFEST_TYPE, Boot, Image, ImageMeta, canonical_json, digest_of
from vmkit.images.remote.reference import parse_remote
from vmkit.images.store import ImageStore
from vmkit.workflows.transfer import opened, pull_image, push_image

SKOPEO = Runner().find("skopeo")

pytestmark = pytest.mark.skipif(REGISTRY is None, reason="docker-registry is not installed")
needs_skopeo = pytest.mark.skipif(SKOPEO is None, reason="skopeo is not installed")


@pytest.fixture
def registry(tmp_path) -> Iterator[RealRegistry]:
    with real_registry(tmp_path) as registry:
        yield registry


def make_image(
    store: ImageStore, name: str = "kiro:1", *, chunks: int = 8, chunk_bytes: int = 400_000, seed: int = 1
) -> Image:
    store.root.mkdir(parents=True, exist_ok=True)
    source, disk, kernel = random.Random(seed), store.root.parent / "disk.raw", store.root.parent / "kernel"
    with disk.open("wb") as file:
        for number in range(chunks):
            file.seek(number << 22)
            file.write(source.randbytes(chunk_bytes))
        file.truncate(chunks << 22)
    kernel.write_bytes(b"kernel")
    meta = ImageMeta(arch="x86_64", boot=Boot.DIRECT, user="agent", created="2026-01-02T03:04:05Z")
    return store.add(name, disk=disk, kernel=kernel, meta=meta, report=Silent())


def stores(tmp_path: Path) -> tuple[ImageStore, ImageStore]:
    return ImageStore(tmp_path / "here/images"), ImageStore(tmp_path / "there/images")


def nobody(_: str) -> None:
    return None


def push(store: ImageStore, target: str, name: str = "kiro:1"):
    return push_image(
        name, target, images=store, settings=Settings(), runner=Runner(), report=Silent(), find_credential=nobody
    )


def pull(store: ImageStore, source: str, name: str | None = None):
    return pull_image(
        source, name, images=store, settings=Settings(), runner=Runner(), report=Silent(), find_credential=nobody
    )


def vmkit(home: Path, *words: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "VMKIT_HOME": str(home), "DOCKER_CONFIG": str(home / "docker")}
    return subprocess.Popen(
        [sys.executable, "-m", "vmkit", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill_when(child: "subprocess.Popen[bytes]", ready) -> bool:
    """Kill a program with SIGKILL as soon as `ready()`; tell whether it was still at work."""
    while child.poll() is None:
        if ready():
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    child.communicate()
    return child.returncode == -signal.SIGKILL


def test_an_image_goes_there_and_back_and_again_without_a_byte(registry, tmp_path):
    here, there = stores(tmp_path)
    image = make_image(here)

    first = push(here, f"{registry.host}/team/kiro:1")
    back, got = pull(there, f"{registry.host}/team/kiro:1")
    again = push(there, f"{registry.host}/team/kiro:2")

    assert first.digest == back.digest == got.digest == image.digest
    assert back.disk.read_bytes() == image.disk.read_bytes()
    assert first.moved_bytes == got.moved_bytes > 8 * 400_000
    assert (again.moved_bytes, again.moved_parts) == (0, 0)
    assert pull(there, got.pinned, "by-digest:1")[1].moved_bytes == 0


def test_another_repository_of_the_registry_lends_what_it_has(registry, tmp_path):
    here, _ = stores(tmp_path)
    make_image(here)
    push(here, f"{registry.host}/team/base:1")

    second = push(here, f"{registry.host}/team/kiro:1")

    assert second.moved_bytes == 0
    assert len(registry.answered(r'"POST \S+mount=\S+ HTTP/1.1" 201')) == 10


def test_a_changed_chunk_is_all_that_is_sent(registry, tmp_path):
    here, _ = stores(tmp_path)
    first = make_image(here)
    push(here, f"{registry.host}/team/kiro:1")
    disk = tmp_path / "changed.raw"
    disk.write_bytes(first.disk.read_bytes())
    with disk.open("r+b") as file:
        file.seek(3 << 22)
        file.write(b"changed")
    meta = ImageMeta(arch="x86_64", boot=Boot.UEFI, user="agent", created="2026-01-02T03:04:06Z")
    here.add("kiro:2", disk=disk, meta=meta, report=Silent())

    second = push(here, f"{registry.host}/team/kiro:2", "kiro:2")

    assert second.moved_parts == 2  # the chunk and the config


@pytest.mark.slow
@pytest.mark.parametrize("after", range(0, 20, 2))
def test_a_push_that_is_killed_goes_on(registry, tmp_path, after):
    here, there = stores(tmp_path)
    image = make_image(here, chunks=24, chunk_bytes=1_500_000)
    child = vmkit(here.root.parent, "image", "push", "kiro:1", f"{registry.host}/team/kiro:1")
    assert kill_when(child, lambda: len(registry.uploads()) >= after and '"POST ' in registry.log.read_text())

    push(here, f"{registry.host}/team/kiro:1")

    uploads = registry.uploads()
    assert len(uploads) <= len(set(uploads)) + 1
    assert set(uploads) == {blob.digest[7:] for blob in here.manifest(image.digest).blobs}
    assert pull(there, f"{registry.host}/team/kiro:1")[0].digest == image.digest


@pytest.mark.slow
@pytest.mark.parametrize("after", range(0, 20, 2))
def test_a_pull_that_is_killed_goes_on(registry, tmp_path, after):
    here, there = stores(tmp_path)
    image = make_image(here, chunks=24, chunk_bytes=1_500_000)
    push(here, f"{registry.host}/team/kiro:1")
    incoming = there.root / "incoming" / image.digest[7:]
    there.root.mkdir(parents=True, mode=0o700)
    child = vmkit(there.root.parent, "image", "pull", f"{registry.host}/team/kiro:1")

    def is_at_work() -> bool:
        return incoming.exists() and len([path for path in incoming.glob("*") if not path.suffix]) >= after

    assert kill_when(child, is_at_work)
    whole = {path.name for path in incoming.glob("*") if not path.suffix}
    partial = sum(path.stat().st_size for path in incoming.glob("*.partial"))
    asked = len(registry.downloads())
    back, got = pull(there, f"{registry.host}/team/kiro:1")

    assert back.digest == image.digest
    assert back.disk.read_bytes() == image.disk.read_bytes()
    assert not whole & set(registry.downloads()[asked:])
    total = sum(blob.size for blob in here.manifest(image.digest).blobs)
    kept = sum(blob.size for blob in here.manifest(image.digest).blobs if blob.digest[7:] in whole)
    assert got.moved_bytes == total - kept - partial
    assert not incoming.exists()


def test_what_is_attached_is_found_by_others(registry, tmp_path):
    here, _ = stores(tmp_path)
    image = make_image(here, chunks=1)
    push(here, f"{registry.host}/team/kiro:1")
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
    remote = parse_remote(f"{registry.host}/team/kiro:1")

    with opened(remote, settings=Settings(), runner=Runner(), writing=True, find_credential=nobody) as repository:
        digest = repository.attach(content, subject=image.digest, blobs={digest_of(layer): layer})
    with opened(remote, settings=Settings(), runner=Runner(), writing=False, find_credential=nobody) as repository:
        found = repository.referrers(image.digest)
        read = repository.manifest(found[0].digest)

    assert [(referrer.digest, referrer.artifact_type) for referrer in found] == [(digest, "application/vnd.test")]
    assert read == content


@needs_skopeo
def test_skopeo_mirrors_an_image_and_its_digest_stays(registry, tmp_path):
    here, there = stores(tmp_path)
    image = make_image(here)
    stick, mirror = tmp_path / "stick", tmp_path / "mirror"
    push(here, f"oci-dir:{stick}")
    skopeo = [str(SKOPEO), "--insecure-policy", "copy", "--quiet"]

    Runner().run(
        [*skopeo, "--dest-tls-verify=false", f"oci:{stick}:kiro:1", f"docker://{registry.host}/mirror/kiro:1"],
        timeout_s=120,
    )
    Runner().run(
        [*skopeo, "--src-tls-verify=false", f"docker://{registry.host}/mirror/kiro:1", f"oci:{mirror}:kiro:1"],
        timeout_s=120,
    )

    assert json.loads((mirror / "index.json").read_text())["manifests"][0]["digest"] == image.digest
    assert pull(there, f"{registry.host}/mirror/kiro:1", "a:1")[0].digest == image.digest
    assert pull(there, f"oci-dir:{mirror}", "b:1")[1].moved_bytes == 0
