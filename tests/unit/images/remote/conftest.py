"""Small images and repositories of a registry that a test can make misbehave."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakeregistry import FakeRegistry
from vmkit.host.report import Silent
from vmkit.images.layout import Boot, Image, ImageMeta
from vmkit.images.remote.registry import RegistryRepository
from vmkit.images.remote.transport import Endpoint, Transport
from vmkit.images.store import ImageStore


class Recorder:
    """A clock that sleeping moves, and what was slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as world:
        yield world


@pytest.fixture
def repository() -> Iterator[Callable[..., RegistryRepository]]:
    """Open a repository of a fake registry; nothing sleeps."""
    with ExitStack() as stack:

        def opened(
            world: FakeRegistry,
            name: str = "team/kiro",
            *,
            credential=None,
            mount_from=None,
            sleep=lambda _: None,
            **more,
        ):
            transport = Transport(
                Endpoint(host=world.host),
                scopes=(f"repository:{name}:pull,push",),
                find_credential=lambda _: credential,
                sleep=sleep,
                **more,
            )
            stack.callback(transport.close)
            return RegistryRepository(transport, name, mount_from=mount_from, sleep=sleep)

        yield opened


@pytest.fixture
def make_image() -> Callable[..., Image]:
    """Add an image of `chunks` chunks of random bytes to a store."""

    def make(store: ImageStore, name: str = "kiro:1", *, chunks: int = 5, seed: int = 1) -> Image:
        store.root.mkdir(parents=True, exist_ok=True)
        source, disk, kernel = random.Random(seed), store.root.parent / f"{seed}.raw", store.root.parent / "kernel"
        with disk.open("wb") as file:
            for number in range(chunks):
                file.seek(number << 22)
                file.write(source.randbytes(100_000))
            file.truncate((chunks << 22) + 512)
        kernel.write_bytes(b"kernel")
        meta = ImageMeta(arch="x86_64", boot=Boot.DIRECT, user="agent", created="2026-01-02T03:04:05Z")
        return store.add(name, disk=disk, kernel=kernel, meta=meta, report=Silent())

    return make


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "here" / "images")


@pytest.fixture
def other_store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "there" / "images")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
