"""The archives of the recipe `srt`: each pinned, one file of them, the same bytes every time."""

import hashlib
import tarfile
from pathlib import Path

import pytest

from vmkit.errors import NotFound, VmkitError
from vmkit.workflows.srt_bundle import Bundle, Pinned, make_bundle, read_bundle


def pinned(place: str, path: Path) -> Pinned:
    digest = hashlib.sha512(path.read_bytes()).hexdigest()
    return Pinned(place=place, url=path.as_uri(), digest=f"sha512:{digest}", size_bytes=path.stat().st_size)


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_what_is_shipped_is_pinned_whole(arch: str) -> None:
    bundle = read_bundle(arch)

    assert bundle.version == "0.0.83"
    assert len(bundle.sha256) == 64
    assert [one.place for one in bundle.archives].count("node.tgz") == 1
    assert all(len(one.digest) == len("sha512:") + 128 for one in bundle.archives)
    assert all(one.url.startswith("https://registry.npmjs.org/") for one in bundle.archives)


def test_another_architecture_is_not_found() -> None:
    with pytest.raises(NotFound, match="riscv64"):
        read_bundle("riscv64")


def test_a_damaged_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "packages.toml").write_text('version = "1"\n')

    with pytest.raises(VmkitError, match=r"packages\.toml"):
        read_bundle("x86_64", folder=tmp_path)


def test_the_bundle_is_a_tar_of_the_length_that_was_said_and_the_same_again(tmp_path: Path) -> None:
    archives = []
    for name, size in (("node.tgz", 512), ("node_modules/@a/b.tgz", 5), ("c.tgz", 0)):
        path = tmp_path / name.replace("/", "_")
        path.write_bytes(b"x" * size)
        archives.append((pinned(name, path), path))

    for target in ("one.tar", "two.tar"):
        make_bundle(tmp_path / target, archives)

    bundle = Bundle(version="1", sha256="", archives=tuple(one for one, _ in archives))
    content = (tmp_path / "one.tar").read_bytes()
    assert len(content) == bundle.size_bytes
    assert content == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert [entry.name for entry in tar] == ["node.tgz", "node_modules/@a/b.tgz", "c.tgz"]
