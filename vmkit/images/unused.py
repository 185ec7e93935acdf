"""What the store holds that no image needs: blobs, assembled disks, what killed processes left; and removing it."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import Busy, Refused
from vmkit.host.files import Lock, is_locked, staging
from vmkit.images.store import ImageStore

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """A folder that something half-made lies in, and the lock that its maker holds while it lives."""

    folder: Path
    lock: Path


def remove(
    names: Mapping[str, str],
    *,
    store: ImageStore,
    used: Collection[str] = (),
    blobs: Collection[str] | None = None,
) -> int:
    """Remove names that still mean these digests, with their disks, then the blobs that no image needs any more.

    Of the blobs only those in `blobs`, if it is given, and none while another image is damaged: what it needs cannot be
    told. What is `used` keeps disk and blobs. Return how many bytes were freed.
    """
    with store.locked("deleting images"):
        index = store.index()
        left = {name: digest for name, digest in index.names.items() if names.get(name) != digest}
        kept = {*left.values(), *used}
        try:
            unneeded = unneeded_blobs(store, named=left.values(), used=used)
        except Refused:
            unneeded = ()
        referrers = {key: subject for key, subject in index.referrers.items() if subject in kept}
        doomed = [path for path in unneeded if blobs is None or path.name in blobs]
        gone = [store.assembled(digest) for digest in set(names.values()) - kept]
        freed = sum(allocated(path) for path in (*doomed, *gone))
        for folder in gone:  # first of all: on a full disk there is no room for an index
            shutil.rmtree(folder, ignore_errors=True)
        if left != index.names or referrers != index.referrers:
            store.write_index(left, referrers)
        for path in doomed:
            path.unlink(missing_ok=True)
    return freed


def unneeded_blobs(store: ImageStore, *, named: Collection[str], used: Collection[str]) -> tuple[Path, ...]:
    """Return the blobs that are part of none of these images, nor of their signatures, nor of what they were made from.

    An image can be renewed while its base is there. Raises Refused when a `named` image is damaged; of the others a
    part may be gone.
    """
    manifests = [store.manifest(digest) for digest in {*named}]
    others = {*used, *(manifest.meta.lock.base for manifest in manifests if manifest.meta.lock)} - {*named}
    for digest in others:
        with contextlib.suppress(Refused):
            manifests.append(store.manifest(digest))
    needed = {digest for one in manifests for digest in (one.digest, *(blob.digest for blob in one.blobs))}
    for key, subject in store.index().referrers.items():
        if subject in {*named, *used}:
            needed |= {key, *(blob.digest for blob in store.referrer(key).blobs)}
    folder = store.root / "blobs/sha256"
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(path for path in found if f"sha256:{path.name}" not in needed)


def disks(store: ImageStore) -> tuple[str, ...]:
    """Return the digests of the images whose disks are assembled."""
    folder = store.root / "assembled"
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(f"sha256:{path.name}" for path in found if _HEX.fullmatch(path.name))


def can_assemble(digest: str, *, store: ImageStore) -> bool:
    """Tell whether all blobs of an image are there, in their sizes."""
    try:
        blobs = store.manifest(digest).blobs
        return all(store.blob(blob.digest).stat().st_size == blob.size for blob in blobs)
    except (Refused, FileNotFoundError):
        return False


def remove_disk(digest: str, *, store: ImageStore, is_used: Callable[[], bool]) -> int:
    """Remove an assembled disk, unless it `is_used`; return how many bytes that were.

    It is asked when nobody can find the disk any more: who comes later assembles it again, who came before is seen.
    """
    folder = store.assembled(digest)
    with staging(store.root / "staging") as stage:
        doomed = stage / "disk"
        try:
            folder.rename(doomed)
        except FileNotFoundError:
            return 0
        if is_used():
            with contextlib.suppress(OSError):  # assembled again meanwhile
                doomed.rename(folder)
            return 0
        return allocated(doomed)


def leftovers(root: Path) -> Iterator[Leftover]:
    """Give what nobody works at any more: half-made images and disks, broken pulls and downloads."""
    for lock in sorted((root / "staging").glob("*.lock")):
        yield from _dead(lock.with_suffix(""), lock)
    for folder in sorted((root / "incoming").glob("*")):
        if _HEX.fullmatch(folder.name):
            yield from _dead(folder, folder.with_name(f"{folder.name[:2]}.lock"))
    for folder in sorted((root / "downloads").glob("*")):
        if folder.is_dir() and any(folder.iterdir()):
            yield from _dead(folder, folder.with_name(f"{folder.name}.lock"))


def _dead(folder: Path, lock: Path) -> Iterator[Leftover]:
    if folder.is_dir() and not folder.is_symlink() and not is_locked(lock):
        yield Leftover(folder=folder, lock=lock)


def remove_leftover(leftover: Leftover) -> int:
    """Remove it, unless somebody has begun to work at it; return how many bytes it took."""
    try:
        with Lock(leftover.lock).acquire("removing what was left"):
            freed = allocated(leftover.folder)
            shutil.rmtree(leftover.folder, ignore_errors=True)
    except Busy:
        return 0
    return freed


def allocated(path: Path) -> int:
    """Return how many bytes removing a file or a folder frees: those of its blocks that no other name keeps."""
    total = 0
    for one in (path, *path.rglob("*")) if path.is_dir() else (path,):
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(one)
            total += status.st_blocks * 512 if status.st_nlink == 1 else 0
    return total
