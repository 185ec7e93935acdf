"""A folder that is an OCI image layout, to carry images where no network goes; `skopeo copy oci:PATH:NAME` reads it.

Its files are hearsay as a registry's answers are: sizes and digests are checked as they are copied.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vmkit.errors import Refused
from vmkit.host.computer import fsync_directory, fsync_file
from vmkit.host.files import open_foreign, write_atomically
from vmkit.images.layout import MANIFEST_TYPE, MAX_JSON_BYTES, REF_NAME, Blob, digest_of, parse_object
from vmkit.images.remote.base import (
    Absent,
    OnBytes,
    Referrer,
    Unreachable,
    describe_attachment,
    is_digest,
    parse_index,
    parse_referrer,
    render_index,
)

_BLOCK = 1 << 20
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class FolderRepository:
    """The images of one folder. `make`: it may be made, to be written to."""

    def __init__(self, path: Path, *, make: bool = False) -> None:
        self._path = path
        if make:
            self._make()
        elif not (path / "oci-layout").is_file():
            raise Absent(f'"{path}" is not a folder of images', detail='it has no file "oci-layout"')

    def only_name(self) -> str:
        """Return the name of the only image. Raises Absent, naming them, when there are more or none."""
        # What is attached has no name.
        names = sorted({name for value in self._entries() if (name := _name(value))})
        if len(names) == 1:
            return names[0]
        hint = f"oci-dir:{self._path}:{names[0]}" if names else None
        raise Absent(f'"{self._path}" has {len(names)} images by name', detail="\n".join(names[:20]) or None, hint=hint)

    def find_digest(self, version: str) -> str | None:
        """Return the digest that a name stands for, or None."""
        if is_digest(version):
            return version if self._blob(version).exists() else None
        return next((str(value["digest"]) for value in self._entries() if _name(value) == version), None)

    def manifest(self, version: str) -> bytes:
        """Return the manifest of a name or a digest, which is checked. Raises Absent, Refused."""
        digest = self.find_digest(version)
        if digest is None:
            raise Absent(f'"{self._path}" has no image "{version}"')
        try:
            content = _read_json(self._blob(digest))
        except FileNotFoundError:
            raise Absent(f'"{self._path}" does not hold what its index names', detail=digest) from None
        if digest_of(content) != digest:
            raise Refused("the folder has another manifest than its name says", detail=digest)
        return content

    def has(self, blob: Blob) -> bool:
        """Tell whether the blob is there, whole."""
        path = self._blob(blob.digest)
        return path.is_file() and path.stat().st_size == blob.size and _digest(path) == blob.digest

    def fetch(self, blob: Blob, target: Path, *, on_bytes: OnBytes) -> None:
        """Copy the blob to `target`, which appears only when it is right."""
        _copy(self._blob(blob.digest), target, blob=blob, on_bytes=on_bytes)

    def send(self, blob: Blob, source: Path, *, on_bytes: OnBytes) -> int:
        """Copy a blob into the folder; return its size."""
        _copy(source, self._blob(blob.digest), blob=blob, on_bytes=on_bytes)
        return blob.size

    def put_manifest(self, content: bytes, *, version: str, media_type: str = MANIFEST_TYPE) -> None:
        """Put a manifest there and, when `version` is no digest, give it that name."""
        digest = digest_of(content)
        write_atomically(self._blob(digest), content, mode=0o644)
        if is_digest(version):
            return
        described = {"mediaType": media_type, "digest": digest, "size": len(content)}
        with self._locked():
            others = [value for value in self._entries() if _name(value) != version]
            self._write([*others, described | {"annotations": {REF_NAME: version}}])

    def referrers(self, digest: str) -> tuple[Referrer, ...]:
        """Return what says that it belongs to the manifest `digest`: the nameless of the index."""
        found = []
        for value in self._entries():
            if value["mediaType"] != MANIFEST_TYPE or _name(value):
                continue
            said = parse_object(self.manifest(value["digest"]), what="an artifact").get("subject")
            if isinstance(said, dict) and said.get("digest") == digest:
                found.append(parse_referrer(value))
        return tuple(found)

    def attach(self, content: bytes, *, subject: str, blobs: Mapping[str, bytes]) -> str:
        """Put a manifest there whose subject is the manifest `subject`, with its blobs by digest; return its digest."""
        described = describe_attachment(content, subject=subject)
        for digest, data in blobs.items():
            if digest_of(data) != digest:
                raise Refused("a part of the artifact is not what its digest says", detail=digest)
            write_atomically(self._blob(digest), data, mode=0o644)
        self.put_manifest(content, version=described.digest)
        with self._locked():
            others = [value for value in self._entries() if value["digest"] != described.digest]
            self._write([*others, described.descriptor()])
        return described.digest

    def _make(self) -> None:
        try:
            (self._path / "blobs/sha256").mkdir(parents=True, exist_ok=True)
            if not (self._path / "oci-layout").exists():
                if any(child.name != "blobs" for child in self._path.iterdir()):
                    raise Refused(f'"{self._path}" has other things in it', hint="name a folder that is new or empty")
                write_atomically(self._path / "oci-layout", _LAYOUT, mode=0o644)
                self._write([])
        except OSError as error:
            raise Unreachable(f'"{self._path}" cannot be written to', detail=error.strerror) from error

    def _entries(self) -> list[dict[str, Any]]:
        try:
            content = _read_json(self._path / "index.json")
        except FileNotFoundError:
            return []
        return parse_index(content, what="the folder's index")

    def _write(self, entries: list[dict[str, Any]]) -> None:
        pretty = json.dumps(json.loads(render_index(entries)), indent=1).encode()
        write_atomically(self._path / "index.json", pretty, mode=0o644)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Not host.files.Lock: that wants a folder nobody else can write to, which a stick that is passed on is not.
        with open_foreign(self._path / "oci-layout") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _blob(self, digest: str) -> Path:
        return self._path / "blobs/sha256" / digest.removeprefix("sha256:")


def _name(value: dict[str, Any]) -> str:
    annotations = value.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) and name.isprintable() else ""


def _read_json(path: Path) -> bytes:
    with open_foreign(path) as file:
        return file.read(MAX_JSON_BYTES + 1)  # what is longer is refused when it is parsed


def _digest(path: Path) -> str:
    with open_foreign(path) as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Path, target: Path, *, blob: Blob, on_bytes: OnBytes) -> None:
    digest, have = hashlib.sha256(), 0
    partial = target.with_name(target.name + ".partial")
    try:
        partial.unlink(missing_ok=True)  # it may be somebody's link to elsewhere
        with open_foreign(source) as reading, partial.open("xb") as writing:
            while block := reading.read(_BLOCK):
                have += len(block)
                if have > blob.size:
                    break
                writing.write(block)
                digest.update(block)
                on_bytes(len(block))
            writing.flush()
            fsync_file(writing.fileno())
    except FileNotFoundError:
        raise Refused("a part of the image is missing", detail=str(source)) from None
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise  # said by the transfer, as of a registry
        raise Unreachable("a part of the image cannot be copied", detail=f"{target}: {error.strerror}") from error
    if have != blob.size or f"sha256:{digest.hexdigest()}" != blob.digest:
        partial.unlink()
        raise Refused("a part of the image is not what its digest says", detail=blob.digest)
    partial.replace(target)
    fsync_directory(target.parent)
