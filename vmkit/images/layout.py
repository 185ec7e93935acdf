"""What an image is and how its manifest says so: an OCI image whose layers are a kernel, an initrd and disk chunks.

Bytes in, values out. Everything read here may come from a registry and is checked against an allow-list.
"""

import hashlib
import json
import re
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from vmkit.errors import Refused, UsageError
from vmkit.host.text import printable
from vmkit.images.packages import listed_sources
from vmkit.images.provenance import (
    ImagePolicy,
    Lock,
    Seal,
    parse_lock,
    parse_policy,
    parse_seal,
    render_provenance,
)

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
ARTIFACT_TYPE = "application/vnd.vmkit.image.v1"
CONFIG_TYPE = "application/vnd.vmkit.image.config.v1+json"
KERNEL_TYPE = "application/vnd.vmkit.image.kernel.v1"
INITRD_TYPE = "application/vnd.vmkit.image.initrd.v1"
CHUNK_TYPE = "application/vnd.vmkit.image.chunk.v1+zstd"
REF_NAME = "org.opencontainers.image.ref.name"
OFFSET, LENGTH, RAW_DIGEST = "dev.vmkit.chunk.offset", "dev.vmkit.chunk.length", "dev.vmkit.chunk.digest"

MAX_VIRTUAL_BYTES = 2 << 40
MAX_CHUNK_BYTES = 512 << 20
MAX_JSON_BYTES = 4 << 20  # what registries accept of a manifest
MAX_FILE_BYTES = 512 << 20  # a kernel or an initrd

_REFERENCE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}(:[A-Za-z0-9][A-Za-z0-9._-]{0,62})?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_ARGUMENTS = re.compile(r"[A-Za-z0-9 ._=/,:+-]{0,1024}")
_TEXT = re.compile(r"[ -~]{0,200}")


class Boot(StrEnum):
    """How a machine starts this image."""

    DIRECT = "direct"
    UEFI = "uefi"
    BIOS = "bios"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageMeta:
    """What is said of an image besides its bytes. `created`: ISO 8601, UTC; `packages`, `sources`: see packages.py."""

    arch: str
    boot: Boot
    user: str
    created: str
    kernel_arguments: str = ""
    release: str = ""
    packages: tuple[str, ...] = ()
    lock: Lock | None = None
    seal: Seal | None = None
    policy: ImagePolicy | None = None
    sources: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """A file in the store, addressed by its digest."""

    media_type: str
    digest: str
    size: int

    def descriptor(self) -> dict[str, Any]:
        """Return the OCI descriptor."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A stretch of the raw disk that is not all zeros, and the zstd frame that holds it."""

    offset: int
    length: int
    raw_digest: str
    blob: Blob

    def descriptor(self) -> dict[str, Any]:
        """Return the OCI descriptor."""
        where = {OFFSET: str(self.offset), LENGTH: str(self.length), RAW_DIGEST: self.raw_digest}
        return self.blob.descriptor() | {"annotations": where}


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A parsed manifest with its config."""

    digest: str
    size: int
    config: Blob
    meta: ImageMeta
    virtual_bytes: int
    chunk_bytes: int
    content_digest: str
    kernel: Blob | None
    initrd: Blob | None
    chunks: tuple[Chunk, ...]

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every blob it names."""
        files = (self.config, self.kernel, self.initrd, *(chunk.blob for chunk in self.chunks))
        return tuple(blob for blob in files if blob)


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image of this computer's store. `disk` is raw and read-only: machines stand on it."""

    name: str
    digest: str
    arch: str
    boot: Boot
    user: str
    kernel_arguments: str
    virtual_bytes: int
    stored_bytes: int
    created: str
    release: str
    disk: Path
    kernel: Path | None
    initrd: Path | None
    sealed: bool = False


def parse_reference(text: str) -> str:
    """Return `name:tag`; the tag is `latest` when none is given. Raises UsageError."""
    match = _REFERENCE.fullmatch(text)
    if not match:
        raise UsageError(
            f'"{printable(text, max_chars=80)}" is not the name of an image',
            hint="write NAME or NAME:TAG: letters, digits, dot, dash, underscore; the name in lower case",
        )
    return text if match[1] else f"{text}:latest"


def now() -> str:
    """Return the time as images say it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def digest_of(content: bytes) -> str:
    """Return `sha256:…`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def choose_chunk_bytes(virtual_bytes: int) -> int:
    """Return 4 MiB, doubled until a manifest of nothing but full chunks stays under 3.5 MiB."""
    chunk_bytes = 4 << 20
    while virtual_bytes // chunk_bytes * 400 > 3_670_016:  # a descriptor takes under 400 bytes
        chunk_bytes *= 2
    return chunk_bytes


def content_digest(virtual_bytes: int, chunks: tuple[Chunk, ...]) -> str:
    """Return the digest of the disk's content: of the table of its chunks, so that zeros cost nothing."""
    rows = [f"{chunk.offset} {chunk.length} {chunk.raw_digest}\n" for chunk in chunks]
    return digest_of("".join([f"{virtual_bytes}\n", *rows]).encode())


def render_config(meta: ImageMeta, *, virtual_bytes: int, chunk_bytes: int, chunks: tuple[Chunk, ...]) -> bytes:
    """Return the config blob."""
    return canonical_json(
        {
            "schema": 1,
            "arch": meta.arch,
            "boot": meta.boot.value,
            "user": meta.user,
            "kernel_arguments": meta.kernel_arguments,
            "virtual_bytes": virtual_bytes,
            "chunk_bytes": chunk_bytes,
            "content_digest": content_digest(virtual_bytes, chunks),
            "created": meta.created,
            "release": meta.release,
            "packages": list(meta.packages),
        }
        | ({} if meta.sources is None else {"sources": list(meta.sources)})
        | render_provenance(meta.lock, meta.seal, meta.policy)
    )


def render_manifest(*, config: Blob, kernel: Blob | None, initrd: Blob | None, chunks: tuple[Chunk, ...]) -> bytes:
    """Return the manifest."""
    layers = [blob.descriptor() for blob in (kernel, initrd) if blob] + [chunk.descriptor() for chunk in chunks]
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": config.descriptor(),
            "layers": layers,
        }
    )


def canonical_json(value: dict[str, Any]) -> bytes:
    """Return JSON whose bytes depend on nothing but the value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def parse_object(content: bytes, *, what: str) -> dict[str, Any]:
    """Return a JSON object, no key of which is there twice. Raises Refused."""
    if len(content) > MAX_JSON_BYTES:
        raise Refused(f"{what} is larger than {MAX_JSON_BYTES} bytes")
    try:
        value = json.loads(content, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{what} is not JSON", detail=printable(str(error), max_chars=200)) from error
    if not isinstance(value, dict):
        raise Refused(f"{what} is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):  # another reader might take the other one
        raise ValueError("a key is there twice")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def parse_config_blob(manifest: bytes) -> Blob:
    """Return where the manifest's config is. Raises Refused when it is not a vmkit image."""
    value = parse_object(manifest, what="the image manifest")
    if value.get("schemaVersion") != 2 or value.get("artifactType") != ARTIFACT_TYPE:
        raise Refused("this is not a vmkit image", detail=f"artifactType {printable(str(value.get('artifactType')))}")
    if value.get("mediaType") != MANIFEST_TYPE:
        raise Refused("the image manifest is not of the type it should be", detail=MANIFEST_TYPE)
    return parse_blob(value.get("config"), media_type=CONFIG_TYPE, max_bytes=MAX_JSON_BYTES)


def parse_manifest(manifest: bytes, config: bytes) -> Manifest:
    """Return the manifest with its config, all of it checked. Raises Refused."""
    config_blob = parse_config_blob(manifest)
    said = parse_object(config, what="the image config")
    if said.get("schema") != 1:
        raise Refused("the image config has a schema this vmkit does not know", hint="update vmkit")
    virtual_bytes = _whole(said, "virtual_bytes", at_most=MAX_VIRTUAL_BYTES)
    chunk_bytes = _whole(said, "chunk_bytes", at_most=MAX_CHUNK_BYTES)
    if virtual_bytes == 0 or chunk_bytes < 1 << 16 or chunk_bytes & (chunk_bytes - 1):
        raise Refused("the image's sizes cannot be", detail=f"{virtual_bytes} bytes in chunks of {chunk_bytes}")
    files: dict[str, Blob] = {}
    chunks: list[Chunk] = []
    layers = parse_object(manifest, what="the image manifest").get("layers")
    for layer in layers if isinstance(layers, list) else []:
        media_type = layer.get("mediaType") if isinstance(layer, dict) else None
        if media_type == CHUNK_TYPE:
            chunks.append(_chunk(layer, virtual_bytes=virtual_bytes, chunk_bytes=chunk_bytes, after=chunks[-1:]))
        elif media_type in (KERNEL_TYPE, INITRD_TYPE) and media_type not in files:
            files[media_type] = parse_blob(layer, media_type=media_type, max_bytes=MAX_FILE_BYTES)
        else:
            raise Refused("the image has a layer vmkit does not know", detail=printable(str(media_type)))
    parsed = Manifest(
        digest=digest_of(manifest),
        size=len(manifest),
        config=config_blob,
        meta=_meta(said),
        virtual_bytes=virtual_bytes,
        chunk_bytes=chunk_bytes,
        content_digest=_matching(said, "content_digest", _DIGEST),
        kernel=files.get(KERNEL_TYPE),
        initrd=files.get(INITRD_TYPE),
        chunks=tuple(chunks),
    )
    if parsed.meta.boot is Boot.DIRECT and not parsed.kernel:
        raise Refused("the image says that it boots its own kernel, and has none")
    return parsed


def _meta(said: dict[str, Any]) -> ImageMeta:
    boot, packages = said.get("boot"), said.get("packages")
    if boot not in list(Boot) or not isinstance(packages, list) or len(packages) > 20_000:
        raise Refused("the image config is incomplete", detail=f"boot {printable(str(boot), max_chars=40)}")
    return ImageMeta(
        arch=_matching(said, "arch", re.compile(r"x86_64|aarch64")),
        boot=Boot(boot),
        user=_matching(said, "user", _USER),
        created=_matching(said, "created", _TEXT),
        kernel_arguments=_matching(said, "kernel_arguments", _ARGUMENTS),
        release=_matching(said, "release", _TEXT),
        packages=tuple(printable(str(package), max_chars=200) for package in packages),
        lock=parse_lock(said),
        seal=parse_seal(said),
        policy=parse_policy(said),
        sources=listed_sources(said),
    )


def _chunk(layer: dict[str, Any], *, virtual_bytes: int, chunk_bytes: int, after: list[Chunk]) -> Chunk:
    where = layer.get("annotations")
    if not isinstance(where, dict):
        raise Refused("a chunk does not say where it belongs")
    numbers = re.compile(r"[0-9]{1,15}")
    offset, length = (int(_matching(where, key, numbers)) for key in (OFFSET, LENGTH))
    expected = min(chunk_bytes, virtual_bytes - offset)
    in_order = not after or offset > after[0].offset
    if offset % chunk_bytes or length != expected or not in_order:
        raise Refused("a chunk lies where none can be", detail=f"offset {offset}, length {length}")
    # A zstd frame of incompressible data is larger than the data by less than 1/128.
    blob = parse_blob(layer, media_type=CHUNK_TYPE, max_bytes=length + length // 128 + 1024)
    return Chunk(offset=offset, length=length, raw_digest=_matching(where, RAW_DIGEST, _DIGEST), blob=blob)


def parse_blob(value: object, *, media_type: str, max_bytes: int) -> Blob:
    """Return a descriptor of that media type and no more than that size. Raises Refused."""
    if not isinstance(value, dict) or value.get("mediaType") != media_type:
        raise Refused("the image manifest is incomplete", detail=media_type)
    size = _whole(value, "size", at_most=max_bytes)
    return Blob(media_type=media_type, digest=_matching(value, "digest", _DIGEST), size=size)


def _whole(value: dict[str, Any], key: str, *, at_most: int) -> int:
    number = value.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= at_most:
        raise Refused(f'the image\'s "{key}" is out of bounds', detail=printable(str(number)[:80]))
    return number


def _matching(value: dict[str, Any], key: str, form: re.Pattern[str]) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not form.fullmatch(text):
        raise Refused(f'the image\'s "{key}" is not of the allowed form', detail=printable(str(text)[:200]))
    return text
