"""Push and pull meet the user's settings and credentials, and say the same in text and JSON."""

import json
import random

import pytest

from tests.fakeregistry import FakeRegistry
from tests.tlsserver import certificates
from vmkit.cli.run import run
from vmkit.errors import NotFound, UsageError
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.host.settings import Settings
from vmkit.images.layout import Boot, ImageMeta
from vmkit.images.remote.base import Absent, Unreachable
from vmkit.images.remote.credentials import Credential
from vmkit.images.remote.reference import parse_remote
from vmkit.images.store import ImageStore
from vmkit.workflows.transfer import endpoint_of, pull_image, push_image


@pytest.fixture
def store(tmp_path) -> ImageStore:
    return ImageStore(tmp_path / "home/images")


@pytest.fixture
def image(store):
    store.root.mkdir(parents=True)
    disk = store.root.parent / "disk.raw"
    disk.write_bytes(random.Random(1).randbytes(100_000))
    meta = ImageMeta(arch="x86_64", boot=Boot.UEFI, user="agent", created="2026-01-02T03:04:05Z")
    return store.add("kiro:1", disk=disk, meta=meta, report=Silent())


def push(store, target, *, settings=None, name="kiro:1", find=lambda _: None):
    return push_image(
        name,
        target,
        images=store,
        settings=settings or Settings(),
        runner=Runner(),
        report=Silent(),
        find_credential=find,
    )


def pull(store, source, name=None, *, settings=None):
    return pull_image(
        source,
        name,
        images=store,
        settings=settings or Settings(),
        runner=Runner(),
        report=Silent(),
        find_credential=lambda _: None,
    )


def test_loopback_is_spoken_to_without_tls(store, image):
    with FakeRegistry() as registry:
        done = push(store, f"{registry.host}/team/kiro:1")

    assert done.pinned == f"{registry.host}/team/kiro@{image.digest}"
    assert done.digest == image.digest


def test_a_registry_with_an_authority_of_its_own_is_trusted_when_set(store, image, tmp_path):
    ca_file, context = certificates(tmp_path, "registry.test")
    with FakeRegistry(tls=context) as registry:
        settings = Settings(registry={registry.host: {"ca_file": str(ca_file)}})

        assert push(store, f"{registry.host}/team/kiro:1", settings=settings).digest == image.digest


def test_a_registry_whose_authority_nobody_knows_is_not_spoken_to(store, image, tmp_path):
    with FakeRegistry(tls=certificates(tmp_path, "registry.test")[1]) as registry:
        settings = Settings(registry={registry.host: {"plain_http": False}})

        with pytest.raises(Unreachable) as caught:
            push(store, f"{registry.host}/team/kiro:1", settings=settings)

    assert "ca_file" in caught.value.hint
    assert registry.requests == []


def test_a_registry_without_tls_is_told_apart(store, image):
    with FakeRegistry() as registry:
        settings = Settings(registry={registry.host: {"plain_http": False}})

        with pytest.raises(Unreachable) as caught:
            push(store, f"{registry.host}/team/kiro:1", settings=settings)

    assert "plain_http" in caught.value.hint


def test_an_authority_that_is_no_file_is_named(store, image, tmp_path):
    settings = Settings(registry={"127.0.0.1:1": {"ca_file": str(tmp_path / "none.pem")}})

    with pytest.raises(UsageError, match=r"none\.pem"):
        push(store, "127.0.0.1:1/team/kiro:1", settings=settings)


def test_credentials_are_asked_for_by_host(store, image):
    asked = []

    def find(host: str) -> Credential:
        asked.append(host)
        return Credential(user="alice", password="secret")

    with FakeRegistry(login=("alice", "secret")) as registry:
        push(store, f"{registry.host}/team/kiro:1", find=find)

    assert set(asked) == {registry.host}


def test_a_second_repository_is_lent_what_the_first_has(store, image):
    with FakeRegistry() as registry:
        push(store, f"{registry.host}/team/base:1")
        lent = push(store, f"{registry.host}/team/kiro:1")

    assert lent.moved_bytes == 0


@pytest.mark.parametrize("target", ["kiro:1", "127.0.0.1:1/kiro@sha256:" + "0a" * 32])
def test_an_image_is_pushed_under_a_tag(store, image, target):
    with pytest.raises(UsageError):
        push(store, target)


def test_an_image_that_is_not_here_is_named_before_anybody_is_asked(store, image):
    with pytest.raises(NotFound, match="other"):
        push(store, "127.0.0.1:1/kiro:1", name="other:1")


def test_a_folder_keeps_the_image_s_name(store, image, tmp_path):
    push(store, f"oci-dir:{tmp_path}/stick")

    back, done = pull(ImageStore(tmp_path / "there/images"), f"oci-dir:{tmp_path}/stick")

    assert back.name == "kiro:1"
    assert done.remote == f"oci-dir:{tmp_path}/stick:kiro:1"


def test_a_folder_with_several_images_asks_which(store, image, tmp_path):
    push(store, f"oci-dir:{tmp_path}/stick")
    push(store, f"oci-dir:{tmp_path}/stick:kiro:2")

    with pytest.raises(Absent) as caught:
        pull(ImageStore(tmp_path / "there/images"), f"oci-dir:{tmp_path}/stick")

    assert caught.value.hint == f"oci-dir:{tmp_path}/stick:kiro:1"


def test_a_name_that_cannot_be_here_is_refused_before_anything_is_fetched(store, image):
    with FakeRegistry() as registry:
        push(store, f"{registry.host}/team/kiro:_1")
        registry.requests.clear()

        with pytest.raises(UsageError):
            pull(store, f"{registry.host}/team/kiro:_1")

    assert registry.requests == []


def test_the_commands_say_what_moved(store, image, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VMKIT_HOME", str(store.root.parent))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    with FakeRegistry() as registry:
        pushed = run(["image", "push", "kiro:1", f"{registry.host}/team/kiro:1"])
        text = capsys.readouterr()
        pulled = run(["--json", "image", "pull", f"{registry.host}/team/kiro:1", "again:1"])
        said = json.loads(capsys.readouterr().out)
        refused = run(["image", "push", "--immutable", "kiro:1", f"{registry.host}/team/kiro:1"])

    assert (pushed, pulled, refused) == (0, 0, 0)
    assert f"{registry.host}/team/kiro@{image.digest}" in text.out
    assert "sent" in text.err
    assert said == {
        "schema": 1,
        "transfer": {
            "name": "again:1",
            "digest": image.digest,
            "remote": f"{registry.host}/team/kiro:1",
            "pinned": f"{registry.host}/team/kiro@{image.digest}",
            "moved_bytes": 0,
            "kept_bytes": said["transfer"]["kept_bytes"],
            "moved_parts": 0,
            "kept_parts": 2,
            "signatures": 0,
        },
    }


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("docker.io/team/kiro:1", "https://registry-1.docker.io"),
        ("127.0.0.1:5000/kiro:1", "http://127.0.0.1:5000"),
        ("registry.example.org/kiro:1", "https://registry.example.org"),
    ],
)
def test_where_a_registry_is_asked(name, address):
    assert endpoint_of(parse_remote(name), Settings()).base == address


def test_a_refused_pull_ends_with_six(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VMKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    with FakeRegistry() as registry:
        registry.tag("team/kiro", "1", b'{"artifactType":"\\u001b[31m"}')

        code = run(["image", "pull", f"{registry.host}/team/kiro:1"])

    assert code == 6
    assert "\x1b" not in capsys.readouterr().err
