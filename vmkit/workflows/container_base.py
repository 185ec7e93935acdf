"""Supply the recipe `container` with the base of its image: a Debian root, put together on this computer.

That takes a minute here, and half an hour in a guest whose instructions are emulated. Where it cannot be done (macOS, a
guest of another kind, no mmdebstrap) the file is empty, and the guest does it itself.
"""

import hashlib
import os
import re
from pathlib import Path

from vmkit.errors import HostLacks
from vmkit.host.download import sha256_of
from vmkit.host.files import Lock, own_directory, read_bounded, require_space, staging
from vmkit.host.process import BUILD_S, Runner
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.images.build import RELEASES, build_environment, chosen_mirror, mmdebstrap, require_host, sources
from vmkit.recipes.assets import AssetIdentity
from vmkit.recipes.facts import Facts

_PACKAGES = re.compile(rb'^ARG PACKAGES="([a-z0-9.+ -]{1,2000})"$', re.MULTILINE)
_MAX_BYTES = 64 << 10
_ROOM_BYTES = 2 << 30  # the root, its tar, and that compressed


class ContainerBase:
    """Implements `AssetProvider` for the asset `container-base`. What was made is kept until `upgrade`."""

    def __init__(self, *, cache: Path, runner: Runner, report: Report, upgrade: bool) -> None:
        self._cache, self._runner, self._report, self._upgrade = cache, runner, report, upgrade
        self._made: Path | None = None

    def wanted(self, facts: Facts) -> AssetIdentity:
        """Return which file it is, which the first time has to be made. Raises UsageError, TimedOut, ToolFailed."""
        self._made = self._made or self._make(facts)
        return AssetIdentity(
            version=self._made.name.partition("-")[0],
            sha256=sha256_of(self._made),
            size_bytes=self._made.stat().st_size,
        )

    def fetch(self, facts: Facts, report: Report) -> Path:  # noqa: ARG002  # the protocol's: it was made before
        """Return the file."""
        self._made = self._made or self._make(facts)
        return self._made

    def _make(self, facts: Facts) -> Path:
        release = f"{facts.os_id}-{facts.os_version}"
        return make_base(
            release, facts.arch, cache=self._cache, runner=self._runner, report=self._report, again=self._upgrade
        )


def make_base(release: str, arch: str, *, cache: Path, runner: Runner, report: Report, again: bool = False) -> Path:
    """Return the compressed tar, from the cache or made now; an empty file where this computer cannot make it.

    `release` as in `debian-13`. Raises UsageError (the mirror's address), HostLacks (space), TimedOut, ToolFailed.
    """
    folder = own_directory(cache / "container")
    if release not in RELEASES or not _can_make(arch, runner):
        (folder / "none").touch()
        return folder / "none"
    suite, packages, mirror = RELEASES[release], read_packages(), chosen_mirror()
    key = hashlib.sha256(" ".join([arch, mirror, *packages]).encode()).hexdigest()[:16]
    target = folder / f"{suite}-{key}.tar.gz"
    with Lock(folder / f"{suite}.lock").acquire("making the base of containers", wait=True):
        if target.exists() and not again:
            return target
        require_space(folder, needed_bytes=_ROOM_BYTES, what="the base of containers")
        with staging(folder / "staging") as stage, report.phase("base", f"Making a container's base: {suite}"):
            # fmt: off
            argv = [
                *mmdebstrap(as_root=os.geteuid() == 0), f"--include={','.join(packages)}",
                *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
                suite, str(stage / target.name), *sources(mirror, suite),
            ]
            # fmt: on
            runner.run(argv, timeout_s=BUILD_S, env=build_environment(stage))
            (stage / target.name).replace(target)
    return target


def _can_make(arch: str, runner: Runner) -> bool:
    try:
        require_host(arch, runner)
    except HostLacks:
        return False
    return True


def read_packages() -> list[str]:
    """Return the packages that the Dockerfile names."""
    content = read_bounded(data_folder("provision") / "container" / "Dockerfile", max_bytes=_MAX_BYTES)
    found = _PACKAGES.search(content)
    if not found:
        raise AssertionError("container/Dockerfile names no packages")
    return found[1].decode().split()
