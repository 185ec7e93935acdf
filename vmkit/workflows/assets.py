"""Supply recipes with the files they ask for: Kiro CLI's archive, pinned by the machine's lock."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import Refused
from vmkit.host.files import read_bounded, write_atomically
from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.kiro.release import Libc, Package, choose, fetch, read_manifest, releases_base
from vmkit.machines.model import Machine
from vmkit.recipes.assets import AssetIdentity, AssetProvider
from vmkit.recipes.facts import Facts
from vmkit.workflows.container_base import ContainerBase
from vmkit.workflows.srt_bundle import SrtArchive

LATEST = "latest"
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def asset_providers(
    machine: Machine, *, paths: Paths, report: Report, upgrade: bool = False
) -> Mapping[str, AssetProvider]:
    """Return what recipes may ask for. `upgrade`: read the manifest again although the machine has a lock."""
    return {
        "kiro-cli": KiroArchive(machine, cache=paths.cache, upgrade=upgrade),
        "srt": SrtArchive(cache=paths.cache),
        "container-base": ContainerBase(cache=paths.cache, runner=Runner(), report=report, upgrade=upgrade),
    }


class KiroArchive:
    """The archive of Kiro CLI for one machine.

    The version is the machine's `kiro_version` option, or the latest when the machine was first provisioned: the lock
    (`kiro.lock` in the machine's folder) keeps what was chosen, so that a later run changes nothing by itself and
    needs no network.
    """

    def __init__(self, machine: Machine, *, cache: Path, upgrade: bool) -> None:
        self._lock_file = lock_of(machine)
        self._pinned = str(machine.options.get("kiro_version", LATEST))
        self._cache, self._upgrade = cache, upgrade
        self._package: Package | None = None

    def wanted(self, facts: Facts) -> AssetIdentity:
        """Return the locked archive, or the one that the manifest names."""
        locked = None if self._upgrade else self._locked()
        if locked and self._pinned in (LATEST, locked.version):
            return locked
        package, version = self._choose(facts, None if self._pinned == LATEST else self._pinned)
        return AssetIdentity(version=version, sha256=package.sha256, size_bytes=package.size_bytes)

    def fetch(self, facts: Facts, report: Report) -> Path:
        """Return the verified archive, and lock the machine to it. Raises Refused when the release was replaced."""
        locked = None if self._upgrade else self._locked()
        if self._package is None:
            wanted = locked.version if locked else None if self._pinned == LATEST else self._pinned
            self._choose(facts, wanted)
        package = self._package
        if package is None:
            raise AssertionError("unreachable: _choose returns or raises")
        if locked and locked.sha256 != package.sha256:
            raise Refused(
                f"Kiro CLI {locked.version} is not the archive that this machine was locked to",
                detail=f"locked to sha256 {locked.sha256}\nthe manifest says {package.sha256}",
            )
        with report.phase("download", f"Kiro CLI {package.file_name}"):
            archive = fetch(package, cache=self._cache, report=report)
        content = {"schema": 1, "version": self._version, "sha256": package.sha256, "size": package.size_bytes}
        write_atomically(self._lock_file, (json.dumps(content | {"file": package.file_name}) + "\n").encode())
        return archive

    def _choose(self, facts: Facts, version: str | None) -> tuple[Package, str]:
        manifest = read_manifest(releases_base(), version)
        major, minor, *_ = (*facts.libc_version, 0, 0)
        glibc = (major, minor) if facts.libc == Libc.GLIBC else None
        self._package = choose(manifest, arch=facts.arch, libc=Libc(facts.libc), glibc_version=glibc)
        self._version = manifest.version
        return self._package, manifest.version

    def _locked(self) -> AssetIdentity | None:
        lock = read_lock(self._lock_file)
        return lock.identity if lock else None


def lock_of(machine: Machine) -> Path:
    """Return the file that says which Kiro CLI the machine has."""
    return machine.folder / "kiro.lock"


@dataclass(frozen=True, kw_only=True)
class KiroLock:
    """Which archive a machine has."""

    identity: AssetIdentity
    file_name: str | None  # as the release calls it


def read_lock(path: Path) -> KiroLock | None:
    """Return what a lock says, or None when there is none that can be read."""
    try:
        data = json.loads(read_bounded(path, max_bytes=4096))
        version, sha256, size = data["version"], data["sha256"], data["size"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(version, str) or not isinstance(size, int) or not _SHA256.fullmatch(str(sha256)):
        return None
    name = data.get("file")
    identity = AssetIdentity(version=version, sha256=sha256, size_bytes=size)
    return KiroLock(identity=identity, file_name=name if isinstance(name, str) else None)
