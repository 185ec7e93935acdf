"""Supply the recipe `srt` with its programs: npm's archives, each pinned in provision/srt/packages.toml, as one file.

The host fetches them, so that no guest has to reach a registry where anyone can publish.
"""

import tarfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import NotFound, VmkitError
from vmkit.host.download import download, sha256_of
from vmkit.host.files import Lock, own_directory, read_bounded, require_space
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.recipes.assets import AssetIdentity
from vmkit.recipes.facts import Facts

_MAX_BYTES = 64 << 10
_MAX_ARCHIVE = 256 << 20
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """One archive of the registry, and where it lies in the bundle."""

    place: str
    url: str
    digest: str  # the registry's own, in hex
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What one architecture gets."""

    version: str
    sha256: str
    archives: tuple[Pinned, ...]

    @property
    def size_bytes(self) -> int:
        """How long the bundle is: a header and whole blocks for each archive, and two empty blocks."""
        return sum(_BLOCK * (1 + -(-one.size_bytes // _BLOCK)) for one in self.archives) + 2 * _BLOCK


def read_bundle(arch: str, *, folder: Path | None = None) -> Bundle:
    """Return what is pinned for `arch`, as `uname -m`. Raises NotFound, VmkitError when the file is damaged."""
    path = (folder or data_folder("provision") / "srt") / "packages.toml"
    try:
        data = tomllib.loads(read_bounded(path, max_bytes=_MAX_BYTES).decode())
        if arch not in data["bundle"]:
            raise NotFound(f'srt is not pinned for "{arch}"', detail=f"there are: {', '.join(data['bundle'])}")
        fit = [table for table in data["package"] if table.get("arch", arch) == arch]
        archives = tuple(
            Pinned(place=table["place"], url=table["url"], digest=str(table["digest"]), size_bytes=table["size"])
            for table in fit
        )
        return Bundle(version=data["version"], sha256=data["bundle"][arch], archives=archives)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise VmkitError(f'"{path}" cannot be read', detail=str(error)) from error


class SrtArchive:
    """Implements `AssetProvider` for the asset `srt`."""

    def __init__(self, *, cache: Path) -> None:
        self._cache = cache / "srt"

    def wanted(self, facts: Facts) -> AssetIdentity:
        """Return what is pinned for the guest's architecture."""
        bundle = read_bundle(facts.arch)
        return AssetIdentity(version=bundle.version, sha256=bundle.sha256, size_bytes=bundle.size_bytes)

    def fetch(self, facts: Facts, report: Report) -> Path:
        """Return the bundle, from the cache or put together from what the registry gives.

        Raises Refused (a digest), Absent, Unreachable, HostLacks.
        """
        bundle = read_bundle(facts.arch)
        root = own_directory(self._cache)
        target = root / f"{bundle.sha256}.tar"
        with Lock(root / "srt.lock").acquire("downloading srt", wait=True):
            if target.exists() and sha256_of(target) == bundle.sha256:
                return target
            require_space(root, needed_bytes=2 * bundle.size_bytes, what="srt")
            with report.phase("download", f"srt {bundle.version}"):
                archives = [self._fetch_one(one, root, report) for one in bundle.archives]
            make_bundle(target, list(zip(bundle.archives, archives, strict=True)))
            for archive in archives:
                archive.unlink()
            if sha256_of(target) != bundle.sha256:
                target.unlink()
                raise VmkitError(f"srt {bundle.version} came whole, but its bundle is not the one that is pinned")
        return target

    def _fetch_one(self, pinned: Pinned, root: Path, report: Report) -> Path:
        target = root / f"{pinned.digest[-32:]}.tgz"
        if not target.exists():
            download(
                pinned.url,
                target,
                digest=pinned.digest,
                size_bytes=pinned.size_bytes,
                max_bytes=_MAX_ARCHIVE,
                report=report,
            )
        return target


def make_bundle(target: Path, archives: Sequence[tuple[Pinned, Path]]) -> None:
    """Write archives into one tar, the same bytes from the same archives."""
    partial = target.with_suffix(".part")
    with partial.open("wb") as file:
        for pinned, path in archives:
            entry = tarfile.TarInfo(pinned.place)
            entry.size, entry.mode = path.stat().st_size, 0o644
            file.write(entry.tobuf(format=tarfile.USTAR_FORMAT))
            with path.open("rb") as source:
                while block := source.read(1 << 20):
                    file.write(block)
            file.write(bytes(-entry.size % _BLOCK))
        file.write(bytes(2 * _BLOCK))
    partial.replace(target)
