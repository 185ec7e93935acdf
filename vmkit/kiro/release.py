"""Kiro CLI's releases: read the manifest, choose the archive for a guest, fetch it once and verify it.

Addresses, names and the glibc floors are the vendor's, as of 2.24: `<base>/latest/manifest.json`,
`<base>/<version>/manifest.json`, `<base>/<version>/kirocli-<arch>-linux[-musl].<tar.gz|tar.xz|tar.zst|zip>`.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from vmkit.errors import Busy, HostLacks, NotFound, Refused, UsageError
from vmkit.host.download import PARTIAL, Absent, Unreachable, check_source, download, read_small, sha256_of
from vmkit.host.files import Lock, own_directory, require_space
from vmkit.host.report import Report
from vmkit.host.text import printable

DEFAULT_RELEASES = "https://prod.download.cli.kiro.dev/stable"
RELEASES_VARIABLE = "VMKIT_KIRO_RELEASES"

_MAX_MANIFEST = 1 << 20
_MAX_ARCHIVE = 4 << 30
_GLIBC_FLOORS = {"x86_64": (2, 34), "aarch64": (2, 39)}
_NAME = re.compile(r"[0-9A-Za-z._-]{1,128}", re.ASCII)
_ARCHIVE = re.compile(r"kirocli-(x86_64|aarch64)-linux(-musl)?\.(tar\.gz|tar\.xz|tar\.zst|zip)", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Libc(StrEnum):
    """What a guest's programs, or an archive's, are linked against."""

    GLIBC = "glibc"
    MUSL = "musl"


class Format(StrEnum):
    """How an archive is packed; the first needs the least in the guest."""

    TAR_GZ = "tar.gz"
    TAR_XZ = "tar.xz"
    TAR_ZST = "tar.zst"
    ZIP = "zip"


@dataclass(frozen=True, kw_only=True)
class Package:
    """One archive of a release, as the manifest promises it."""

    url: str
    file_name: str
    arch: str
    libc: Libc
    format: Format
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A release and its archives for Linux."""

    base: str
    version: str
    packages: tuple[Package, ...]


@dataclass(frozen=True, kw_only=True)
class Release:
    """A verified archive on this computer."""

    version: str
    package: Package
    archive: Path
    sha256: str


def releases_base(environment: Mapping[str, str] = os.environ) -> str:
    """Return where releases come from. Raises UsageError when `VMKIT_KIRO_RELEASES` is not https, file or loopback."""
    return check_source(environment.get(RELEASES_VARIABLE) or DEFAULT_RELEASES, what=RELEASES_VARIABLE)


def read_manifest(base: str, version: str | None = None) -> Manifest:
    """Fetch the manifest of `version`, or of the latest release.

    Raises UsageError (version), NotFound (no such version), Refused (not a manifest), Unreachable.
    """
    if version is not None and not _is_name(version):
        raise UsageError(f'"{printable(version, max_chars=60)}" is not a version', hint="write it like 2.24.1")
    url = f"{base}/{version or 'latest'}/manifest.json"
    try:
        content = read_small(url, max_bytes=_MAX_MANIFEST)
    except Absent as error:
        if version is not None:
            raise NotFound(
                f'there is no Kiro CLI "{version}" at {base}',
                detail=error.message,
                hint="leave the version out for the latest",
            ) from error
        raise HostLacks(
            f"there are no Kiro CLI releases at {base}", detail=error.message, hint=f"check {RELEASES_VARIABLE}"
        ) from error
    except Unreachable as error:
        error.hint = f"check the network, or set {RELEASES_VARIABLE} to a mirror you can reach"
        raise
    manifest = parse_manifest(content, base=base, url=url)
    if version is not None and manifest.version != version:
        raise Refused(f'the manifest of Kiro CLI "{version}" is that of "{manifest.version}"', detail=url)
    return manifest


def parse_manifest(content: bytes, *, base: str, url: str = "manifest.json") -> Manifest:
    """Read a manifest, passing over what is not an archive for Linux. Raises Refused."""
    if content.lstrip()[:1] == b"<":
        raise Refused(
            f'"{url}" is a web page, not a release manifest', hint="a network's login page, or a wrong mirror"
        )
    try:
        found = json.loads(content)
        version, entries = found["version"], found["packages"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise _not_a_manifest(url, "it is not JSON with a version and packages") from error
    if not isinstance(version, str) or not _is_name(version):
        raise _not_a_manifest(url, f"version {printable(repr(version), max_chars=60)}")
    if not isinstance(entries, list):
        raise _not_a_manifest(url, "packages is not a list")
    packages = (_package(entry, base=base, url=url) for entry in entries)
    return Manifest(base=base, version=version, packages=tuple(package for package in packages if package))


def choose(manifest: Manifest, *, arch: str, libc: Libc, glibc_version: tuple[int, int] | None = None) -> Package:
    """Return the archive for a guest: glibc where the guest's is new enough, else musl; tar.gz before all others.

    Raises NotFound when the release has none.
    """
    of_arch = [package for package in manifest.packages if package.arch == arch]
    if not of_arch:
        known = ", ".join(sorted({package.arch for package in manifest.packages})) or "none"
        raise NotFound(
            f'Kiro CLI {manifest.version} has no archive for "{printable(arch, max_chars=40)}"',
            detail=f"for Linux there are: {known}",
            hint="use a machine of one of these, or another version",
        )
    floor = _GLIBC_FLOORS[arch]
    enough = libc is Libc.GLIBC and glibc_version is not None and glibc_version >= floor
    formats = list(Format)
    # A musl archive runs on glibc too, so it is the second choice there.
    wanted = (Libc.GLIBC, Libc.MUSL) if enough else (Libc.MUSL,)
    fit = sorted(
        (package for package in of_arch if package.libc in wanted),
        key=lambda package: (wanted.index(package.libc), formats.index(package.format)),
    )
    if not fit:
        has = "musl" if libc is Libc.MUSL else f"glibc {'.'.join(map(str, glibc_version or ('unknown',)))}"
        raise NotFound(
            f"Kiro CLI {manifest.version} has no musl archive for {arch}, and this guest needs one",
            detail=f"the guest has {has}; the glibc archive needs {floor[0]}.{floor[1]}",
            hint="use a guest with a newer glibc, such as Debian 13",
        )
    return fit[0]


def fetch(package: Package, *, cache: Path, report: Report) -> Path:
    """Return the verified archive under `cache`, downloading what is missing of it; one process at a time.

    A cached archive is hashed again each time: it takes a second where copying it into a guest takes many.
    Raises Refused (digest, truncated, too large), HostLacks (space, network), NotFound.
    """
    root = own_directory(cache / "kiro")
    with _locked(root / f"sha256-{package.sha256}.lock", report):
        folder = own_directory(root / f"sha256-{package.sha256}")
        target = folder / package.file_name
        if target.exists():
            if target.stat().st_size == package.size_bytes and sha256_of(target) == package.sha256:
                return target
            report.note(f"{package.file_name} in the cache is damaged; fetching it again")
            target.unlink()
        partial = target.with_name(target.name + PARTIAL)
        there = partial.stat().st_size if partial.exists() else 0
        require_space(folder, needed_bytes=max(0, package.size_bytes - there), what=package.file_name)
        try:
            download(
                package.url,
                target,
                digest=f"sha256:{package.sha256}",
                size_bytes=package.size_bytes,
                max_bytes=_MAX_ARCHIVE,
                report=report,
            )
        except Absent as error:
            raise NotFound(
                f'"{package.file_name}" is in the manifest but not on the server', detail=package.url
            ) from error
        return target


def fetch_release(
    *,
    arch: str,
    libc: Libc,
    glibc_version: tuple[int, int] | None,
    cache: Path,
    report: Report,
    version: str | None = None,
    base: str | None = None,
) -> Release:
    """Read the manifest, choose and fetch. `base` defaults to `releases_base()`; `version` to the latest."""
    manifest = read_manifest(releases_base() if base is None else check_source(base, what="release base"), version)
    package = choose(manifest, arch=arch, libc=libc, glibc_version=glibc_version)
    archive = fetch(package, cache=cache, report=report)
    return Release(version=manifest.version, package=package, archive=archive, sha256=package.sha256)


def _package(entry: Any, *, base: str, url: str) -> Package | None:
    path = entry.get("download") if isinstance(entry, dict) else None
    if not isinstance(path, str):
        return None
    *folders, file_name = path.split("/")
    match = _ARCHIVE.fullmatch(file_name)
    if not match:
        return None  # a disk image, a .deb, an AppImage: not for us
    if not all(_is_name(folder) for folder in folders):
        raise _not_a_manifest(url, f"download {printable(repr(path), max_chars=120)}")
    sha256, size = entry.get("sha256"), entry.get("size")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256.lower()):
        raise _not_a_manifest(url, f"{file_name} has no sha256")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= _MAX_ARCHIVE:
        raise _not_a_manifest(url, f"{file_name} has the size {printable(repr(size), max_chars=40)}")
    return Package(
        url=f"{base}/{path}",
        file_name=file_name,
        arch=match[1],
        libc=Libc.MUSL if match[2] else Libc.GLIBC,
        format=Format(match[3]),
        sha256=sha256.lower(),
        size_bytes=size,
    )


def _locked(path: Path, report: Report) -> Lock:
    try:
        return Lock(path).acquire("downloading Kiro CLI")
    except Busy:
        report.note("another vmkit is downloading Kiro CLI; waiting for it")
        return Lock(path).acquire("downloading Kiro CLI", wait=True)


def _is_name(text: str) -> bool:
    return bool(_NAME.fullmatch(text)) and text.strip(".") != ""


def _not_a_manifest(url: str, why: str) -> Refused:
    return Refused(f'"{url}" is not a release manifest', detail=why, hint=f"check {RELEASES_VARIABLE}")
