"""A signature as an OCI artifact: a manifest that refers to the image's, with the statement and its signature."""

from collections.abc import Iterable
from dataclasses import dataclass

from vmkit.errors import Refused
from vmkit.host.text import printable
from vmkit.images.layout import (
    MANIFEST_TYPE,
    MAX_JSON_BYTES,
    Blob,
    canonical_json,
    digest_of,
    parse_blob,
    parse_object,
)

SIGNATURE_TYPE = "application/vnd.vmkit.signature.v1"
STATEMENT_LAYER_TYPE = "application/vnd.in-toto+json"
SSHSIG_LAYER_TYPE = "application/vnd.vmkit.signature.ssh.v1"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"  # the OCI image specification's config of an artifact that has none
EMPTY = b"{}"
SUBJECT = "dev.vmkit.subject"  # an annotation of the store's index: what the artifact refers to
MAX_REFERRER_BYTES = 64 << 10
MAX_STATEMENT_BYTES = 16 << 10
MAX_SIGNATURE_BYTES = 16 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SignatureManifest:
    """A parsed signature artifact: of the manifest `subject`, which its own manifest claims and nobody has checked."""

    digest: str
    size: int
    subject: Blob
    config: Blob
    statement: Blob
    signature: Blob

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every blob it names."""
        return (self.config, self.statement, self.signature)


def render_signature_manifest(*, subject: Blob, statement: bytes, signature: bytes) -> tuple[bytes, ...]:
    """Return the artifact's manifest and then the blobs it names."""
    layers = ((STATEMENT_LAYER_TYPE, statement), (SSHSIG_LAYER_TYPE, signature))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": SIGNATURE_TYPE,
        "config": _descriptor(EMPTY_TYPE, EMPTY),
        "layers": [_descriptor(media_type, content) for media_type, content in layers],
        "subject": subject.descriptor(),
    }
    return canonical_json(manifest), EMPTY, statement, signature


def parse_signature_manifest(content: bytes) -> SignatureManifest:
    """Read the manifest of a signature artifact. Raises Refused for any other artifact."""
    if len(content) > MAX_REFERRER_BYTES:
        raise Refused("a signature's manifest is too long")
    value = parse_object(content, what="a signature's manifest")
    layers = value.get("layers")
    if value.get("schemaVersion") != 2 or value.get("artifactType") != SIGNATURE_TYPE:
        raise Refused("this is not a signature", detail=f"artifactType {printable(str(value.get('artifactType')))}")
    if not isinstance(layers, list) or len(layers) != 2:
        raise Refused("a signature's manifest is incomplete", detail="it has not two layers")
    return SignatureManifest(
        digest=digest_of(content),
        size=len(content),
        subject=parse_blob(value.get("subject"), media_type=MANIFEST_TYPE, max_bytes=MAX_JSON_BYTES),
        config=parse_blob(value.get("config"), media_type=EMPTY_TYPE, max_bytes=len(EMPTY)),
        statement=parse_blob(layers[0], media_type=STATEMENT_LAYER_TYPE, max_bytes=MAX_STATEMENT_BYTES),
        signature=parse_blob(layers[1], media_type=SSHSIG_LAYER_TYPE, max_bytes=MAX_SIGNATURE_BYTES),
    )


def require_complete(referrer: SignatureManifest, blobs: Iterable[bytes]) -> None:
    """Raise Refused unless `blobs` are those that the artifact names."""
    if {digest_of(blob) for blob in blobs} != {blob.digest for blob in referrer.blobs}:
        raise Refused("the parts of a signature are not those its manifest names", detail=referrer.digest)


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return Blob(media_type=media_type, digest=digest_of(content), size=len(content)).descriptor()
