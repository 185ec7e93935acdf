"""Where images of this store have been pushed to or pulled from: a hint what another repository can lend, no more."""

import contextlib
import json
from pathlib import Path

from vmkit.errors import Refused
from vmkit.host.files import Lock, read_bounded, write_atomically
from vmkit.images.remote.base import is_digest
from vmkit.images.remote.reference import RegistryReference
from vmkit.images.store import ImageStore

_MAX_ENTRIES = 64
_MAX_BYTES = 64 << 10
_MAX_LENDERS = 3  # repositories that one token is asked for


def remember(store: ImageStore, remote: RegistryReference, digest: str) -> None:
    """Note that the repository has the manifest."""
    entry = [remote.host, remote.repository, digest]
    with Lock(store.root / "seen.lock").acquire("noting where an image is", wait=True):
        entries = [other for other in _load(store.root) if other != entry]
        write_atomically(_path(store.root), json.dumps([entry, *entries][:_MAX_ENTRIES]).encode())


def lenders(store: ImageStore, remote: RegistryReference) -> dict[str, str]:
    """Return which other repository of the same registry is likely to have a blob: digest to repository."""
    found: dict[str, str] = {}
    for host, repository, digest in _load(store.root):
        known = set(found.values())
        if host != remote.host or repository == remote.repository:
            continue
        if repository not in known and len(known) >= _MAX_LENDERS:
            continue
        with contextlib.suppress(Refused):  # deleted meanwhile, or damaged
            for blob in store.manifest(digest).blobs:
                found.setdefault(blob.digest, repository)
    return found


def _load(root: Path) -> list[list[str]]:
    try:
        entries = json.loads(read_bounded(_path(root), max_bytes=_MAX_BYTES))
    except (FileNotFoundError, ValueError, Refused):
        return []
    return [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, list)
        and len(entry) == 3
        and all(isinstance(word, str) for word in entry)
        and is_digest(entry[2])
    ]


def _path(root: Path) -> Path:
    return root / "seen.json"
