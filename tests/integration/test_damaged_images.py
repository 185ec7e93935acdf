"""One bit of an image is another, or its end is missing: it is refused before a boot, and nothing is left behind."""

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakeregistry import FakeRegistry
from vmkit.cli import main
from vmkit.errors import VmkitError
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.images.layout import Boot, ImageMeta, digest_of
from vmkit.images.remote.registry import RegistryRepository
from vmkit.images.remote.transfer import pull
from vmkit.images.remote.transport import Endpoint, Transport
from vmkit.images.store import ImageStore

pytestmark = [
    pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen"),
    pytest.mark.slow,
]

SEED = int(os.environ.get("VMKIT_TEST_SEED", "6"))
FLIPS = 200
STEP = 64  # bytes between the places where files are cut off
NAME = "kiro:1"
CREATE = ("create", "m", "--image", NAME, "--driver", "qemu", "--egress", "open", "--no-start")


def vmkit(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["--quiet", *(str(word) for word in words)])
    return ended.value.code


@dataclass(frozen=True)
class World:
    """A vmkit installation with one small signed image, whose disk is not assembled."""

    home: Path

    @property
    def images(self) -> ImageStore:
        return ImageStore(self.home / "images")

    def parts(self) -> dict[str, str]:
        """Return the digest of every part of the image by a name for people."""
        manifest = self.images.manifest(self.images.digest(NAME))
        chunks = {f"chunk {number}": chunk.blob.digest for number, chunk in enumerate(manifest.chunks)}
        files = {"kernel": manifest.kernel.digest, "initrd": manifest.initrd.digest}
        return {"manifest": manifest.digest, "config": manifest.config.digest, **files, **chunks}

    def listing(self) -> dict[str, str]:
        """Return every file with its digest, and every folder but those for what is under way; locks stay for ever."""
        return {
            str(path.relative_to(self.home)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "/"
            for path in self.home.rglob("*")
            if path.suffix != ".lock" and path.name not in {"guard", "locks", "staging", "incoming"}
        }


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    home = tmp_path / "home"
    monkeypatch.setenv("VMKIT_HOME", str(home))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    print(f"VMKIT_TEST_SEED={SEED}")
    noise = random.Random(SEED)
    for name in ("kernel", "initrd"):
        (tmp_path / name).write_bytes(noise.randbytes(3000))
    with (tmp_path / "disk").open("wb") as file:
        for number in range(3):
            file.seek(number << 22)
            file.write(noise.randbytes(20_000))
        file.truncate((8 << 20) + 65536)
    meta = ImageMeta(arch="x86_64", boot=Boot.DIRECT, user="agent", created="2026-01-02T03:04:05Z")
    made = World(home)
    home.mkdir(mode=0o700)
    made.images.add(
        NAME,
        disk=tmp_path / "disk",
        kernel=tmp_path / "kernel",
        initrd=tmp_path / "initrd",
        meta=meta,
        report=Silent(),
    )
    Runner().run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")])
    assert vmkit("trust", "add", "alice", tmp_path / "key.pub") == 0
    assert vmkit("image", "sign", NAME, "--key", tmp_path / "key") == 0
    assert vmkit("image", "verify", NAME) == 0
    return made


def forget_disk(world: World) -> None:
    shutil.rmtree(world.home / "images/assembled")


def flips(parts: dict[str, bytes], count: int = FLIPS) -> Iterator[tuple[str, bytes]]:
    """Give a part's name and its content with one bit changed, each part as often as another."""
    draw = random.Random(SEED)
    for _ in range(count):
        name = draw.choice(sorted(parts))
        content = bytearray(parts[name])
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        yield name, bytes(content)


def truncations(parts: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Give the JSON files cut off at every 64th byte."""
    for name, content in parts.items():
        for end in range(0, len(content), STEP):
            yield name, content[:end]


def both(parts: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    yield from flips(parts)
    yield from truncations({name: parts[name] for name in ("manifest", "config")})


def put(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def words(*command: object) -> Callable[[], int]:
    return lambda: vmkit(*command)


def survivors(
    damages: Iterable[tuple[str, bytes]],
    damage: Callable[[str, bytes | None], None],
    attempts: Sequence[Callable[[], int]],
    world: World,
) -> list[str]:
    """Damage one part after the other, and return what was not refused with 6, or left something."""
    wrong: list[str] = []
    for number, (name, content) in enumerate(damages):
        damage(name, content)
        before = world.listing()
        codes = [attempt() for attempt in attempts]
        if set(codes) != {6}:
            wrong.append(f"{number}: {name}, {len(content)} bytes: {codes}")
        if world.listing() != before:
            wrong.append(f"{number}: {name}: left {sorted(world.listing().items() ^ before.items())[:5]}")
        damage(name, None)
    return wrong


def test_what_the_store_holds_is_refused_and_no_machine_made(world):
    parts = {name: world.images.blob(digest) for name, digest in world.parts().items()}
    good = {name: path.read_bytes() for name, path in parts.items()}
    forget_disk(world)

    def damage(name: str, content: bytes | None) -> None:
        put(parts[name], good[name] if content is None else content)

    attempts = (words("image", "verify", NAME), words(*CREATE))
    assert survivors(both(good), damage, attempts, world) == []

    assert not (world.home / "machines").exists()
    assert vmkit("image", "verify", NAME) == 0
    assert vmkit(*CREATE) == 0


def test_an_index_that_is_cut_off_is_refused(world):
    path = world.home / "images/index.json"
    good = {"index": path.read_bytes()}
    forget_disk(world)

    def damage(_: str, content: bytes | None) -> None:
        put(path, good["index"] if content is None else content)

    named = [words("image", verb, NAME) for verb in ("verify", "show", "delete")]
    assert survivors(truncations(good), damage, (*named, words("image", "list"), words(*CREATE)), world) == []
    assert vmkit("image", "list") == 0


def test_a_changed_assembled_disk_is_found_by_verify(world):
    folder = world.home / "images/assembled" / world.images.digest(NAME).removeprefix("sha256:")
    good = {path.name: path.read_bytes() for path in folder.iterdir()}

    def damage(name: str, content: bytes | None) -> None:
        put(folder / name, good[name] if content is None else content)

    # Most of the disk is a hole: a bit that is set there is seen too.
    assert survivors(flips(good, 30), damage, [words("image", "verify", NAME)], world) == []
    shorter = [(name, content[:-1]) for name, content in good.items()]
    assert survivors(shorter, damage, [words("image", "verify", NAME)], world) == []
    assert vmkit("image", "verify", NAME) == 0


def test_what_a_folder_holds_is_refused_and_none_of_it_kept(world, tmp_path):
    stick = tmp_path / "stick"
    assert vmkit("image", "push", "--no-seal", NAME, f"oci-dir:{stick}") == 0
    parts = {name: stick / "blobs/sha256" / digest[7:] for name, digest in world.parts().items()}
    parts["index"] = stick / "index.json"
    good = {name: path.read_bytes() for name, path in parts.items()}
    assert vmkit("image", "delete", NAME) == 0

    def damage(name: str, content: bytes | None) -> None:
        put(parts[name], good[name] if content is None else content)

    flipped = {name: content for name, content in good.items() if name != "index"}
    pull_it = words("image", "pull", f"oci-dir:{stick}:{NAME}", "a:1")
    assert survivors(both(flipped), damage, [pull_it], world) == []
    assert survivors(truncations({"index": good["index"]}), damage, [pull_it], world) == []

    assert world.images.list() == ()
    assert pull_it() == 0


@dataclass(frozen=True)
class Registry:
    """A registry that has the image, and its parts by name."""

    running: FakeRegistry
    good: dict[str, bytes]
    repository: RegistryRepository
    images: ImageStore

    def pull(self) -> int:
        """Pull over one connection, and return what the command line would: a context for TLS takes 0.1 s each time."""
        try:
            pull("a:1", store=self.images, source=self.repository, version="1", report=Silent())
        except VmkitError as error:
            return error.exit_code
        return 0


@pytest.fixture
def registry(world) -> Iterator[Registry]:
    """The image is in the registry, and no more in the store."""
    with FakeRegistry() as running:
        assert vmkit("image", "push", "--no-seal", NAME, f"{running.host}/team/kiro:1") == 0
        blobs = running.blobs["team/kiro"]
        good = {name: blobs[digest] for name, digest in world.parts().items() if digest in blobs}
        good["manifest"] = running.manifests["team/kiro", "1"][1]
        assert vmkit("image", "delete", NAME) == 0
        transport = Transport(
            Endpoint(host=running.host), scopes=("repository:team/kiro:pull",), find_credential=lambda _: None
        )
        yield Registry(running, good, RegistryRepository(transport, "team/kiro"), world.images)
        transport.close()


def test_what_a_registry_sends_is_refused_and_none_of_it_kept(world, registry):
    good, faults = registry.good, registry.running.faults

    def damage(name: str, content: bytes | None) -> None:
        if name == "manifest":  # as a registry does whose disk is damaged: it says the digest that it knows
            faults.manifest = content
            faults.says_digest = None if content is None else digest_of(good[name])
        else:
            registry.running.blobs["team/kiro"][digest_of(good[name])] = good[name] if content is None else content

    assert survivors(both(good), damage, [registry.pull], world) == []
    on_the_line = words("image", "pull", f"{registry.running.host}/team/kiro:1", "a:1")
    assert survivors([(name, content[1:]) for name, content in good.items()], damage, [on_the_line], world) == []

    assert world.images.list() == ()
    assert on_the_line() == 0


def test_a_registry_that_makes_a_tag_mean_a_changed_manifest_is_refused(world, registry):
    def damage(_: str, content: bytes | None) -> None:
        registry.running.faults.manifest = content  # with a digest that fits

    manifest = {"manifest": registry.good["manifest"]}
    assert survivors([*flips(manifest), *truncations(manifest)], damage, [registry.pull], world) == []

    assert world.images.list() == ()
