"""What push and pull ask of the other side, whatever it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vmkit.errors import HostLacks, NotFound, Refused, ToolFailed
from vmkit.host.text import printable
from vmkit.images.layout import INDEX_TYPE, MANIFEST_TYPE, MAX_JSON_BYTES, Blob, canonical_json, digest_of, parse_object

MAX_REFERRERS = 1000

OnBytes = Callable[[int], None]  # how many more bytes have gone; fewer than none when they have to go again


class Unreachable(HostLacks):
    """The registry does not answer, answers with an error of its own, or hung up."""

    kind = "unreachable"


class Absent(NotFound):
    """The registry answers, and has no such thing."""


class Denied(Refused):
    """The registry wants somebody else, or nobody, to do this."""

    kind = "denied"


class RegistryFailed(ToolFailed):
    """The registry does not take what it is sent, or does not keep to the protocol."""

    kind = "registry-failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Referrer:
    """A manifest that says of itself that it belongs to another: a signature, a statement. All of it is hearsay."""

    digest: str
    size: int
    media_type: str = MANIFEST_TYPE
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def descriptor(self) -> dict[str, Any]:
        """Return the OCI descriptor."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        return value | ({"annotations": dict(self.annotations)} if self.annotations else {})


class Repository(Protocol):
    """One repository of a registry, or a folder. Every method may raise Unreachable, Denied, RegistryFailed."""

    def find_digest(self, version: str) -> str | None:
        """Return the digest that a tag stands for, or None."""

    def manifest(self, version: str) -> bytes:
        """Return the manifest of a tag or a digest; a digest is checked. Raises Absent, Refused."""

    def has(self, blob: Blob) -> bool:
        """Tell whether the blob is there."""

    def fetch(self, blob: Blob, target: Path, *, on_bytes: OnBytes) -> None:
        """Bring the blob to `target`, which appears only when it is right. What has come outlives us beside it."""

    def send(self, blob: Blob, source: Path, *, on_bytes: OnBytes) -> int:
        """Put a blob there that was not; return how many bytes that took: none when it was near already."""

    def put_manifest(self, content: bytes, *, version: str, media_type: str = MANIFEST_TYPE) -> None:
        """Put a manifest there, whose blobs are there, under its digest or a tag."""

    def referrers(self, digest: str) -> tuple[Referrer, ...]:
        """Return what says that it belongs to the manifest `digest`."""

    def attach(self, content: bytes, *, subject: str, blobs: Mapping[str, bytes]) -> str:
        """Put a manifest there whose subject is the manifest `subject`, with its blobs by digest; return its digest."""


def parse_index(content: bytes, *, what: str) -> list[dict[str, Any]]:
    """Return the descriptors of an index, each with a media type, a digest and a size. Raises Refused."""
    manifests = parse_object(content, what=what).get("manifests")
    if not isinstance(manifests, list) or len(manifests) > MAX_REFERRERS:
        raise Refused(f"{what} has no list of manifests, or one that is too long")
    for value in manifests:
        fine = (
            isinstance(value, dict)
            and isinstance(value.get("mediaType"), str)
            and isinstance(value.get("digest"), str)
            and is_digest(value["digest"])
            and isinstance(value.get("size"), int)
            and 0 <= value["size"] <= MAX_JSON_BYTES
        )
        if not fine:
            raise Refused(f"{what} has an entry that is not one", detail=printable(str(value)[:200]))
    return manifests


def render_index(manifests: list[dict[str, Any]]) -> bytes:
    """Return an index."""
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests})


def parse_referrer(value: dict[str, Any]) -> Referrer:
    """Return a checked descriptor as a referrer; what has the wrong form in it is left out."""
    said, kind = value.get("annotations"), value.get("artifactType")
    annotations = said if isinstance(said, dict) and len(said) <= 100 else {}
    return Referrer(
        digest=value["digest"],
        size=value["size"],
        media_type=printable(value["mediaType"], max_chars=200),
        artifact_type=printable(kind, max_chars=200) if isinstance(kind, str) else "",
        annotations={
            printable(key, max_chars=200): printable(text, max_chars=1000)
            for key, text in annotations.items()
            if isinstance(text, str)
        },
    )


def describe_attachment(content: bytes, *, subject: str) -> Referrer:
    """Return what an index says of the artifact `content`. Raises Refused when it belongs to something else."""
    value = parse_object(content, what="the artifact")
    said = value.get("subject")
    if value.get("mediaType") != MANIFEST_TYPE or not isinstance(said, dict) or said.get("digest") != subject:
        raise Refused("the artifact does not say that it belongs to this image", detail=subject)
    return parse_referrer(
        {
            "mediaType": MANIFEST_TYPE,
            "digest": digest_of(content),
            "size": len(content),
            "artifactType": value.get("artifactType"),
            "annotations": value.get("annotations"),
        }
    )


def is_digest(text: str) -> bool:
    """Tell whether `text` is `sha256:` and 64 hexadecimal digits."""
    return len(text) == 71 and text.startswith("sha256:") and all(letter in "0123456789abcdef" for letter in text[7:])
