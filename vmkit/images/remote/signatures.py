"""Take signatures along: out of the store with a push, into it with a pull."""

from collections.abc import Sequence
from itertools import islice

from vmkit.errors import Refused
from vmkit.host.files import staging
from vmkit.images.chunks import read_blob
from vmkit.images.layout import Blob
from vmkit.images.remote.base import Repository
from vmkit.images.signing.referrer import SIGNATURE_TYPE, parse_signature_manifest
from vmkit.images.store import ImageStore

_MAX_TAKEN = 64  # as many as are looked at


def send_signatures(digest: str, *, images: ImageStore, to: Repository) -> int:
    """Attach the signatures of the manifest `digest` to it there; return how many. Raises Refused for a changed one."""
    count = 0
    for each in images.referrers(digest):
        known = images.referrer(each)
        content = read_blob(images.blob(each), digest=each, size=known.size)
        blobs = {
            blob.digest: read_blob(images.blob(blob.digest), digest=blob.digest, size=blob.size) for blob in known.blobs
        }
        to.attach(content, subject=digest, blobs=blobs)
        count += 1
    return count


def bring_signatures(digest: str, *, images: ImageStore, source: Repository) -> int:
    """Keep the signatures that are attached to the manifest `digest` there; return how many.

    What is none, or of another manifest, is left where it is: it could not count, and must not hinder those that do.
    """
    count = 0
    attached = (each.digest for each in source.referrers(digest) if each.artifact_type == SIGNATURE_TYPE)
    for each in islice(attached, _MAX_TAKEN):
        try:
            content = source.manifest(each)
            known = parse_signature_manifest(content)
            if known.subject.digest == digest:
                images.add_referrer(content, _fetched(known.blobs, images=images, source=source))
                count += 1
        except Refused:
            continue
    return count


def _fetched(blobs: Sequence[Blob], *, images: ImageStore, source: Repository) -> list[bytes]:
    contents: list[bytes] = []
    with staging(images.root / "staging") as stage:
        for number, blob in enumerate(blobs):
            target = stage / str(number)
            source.fetch(blob, target, on_bytes=lambda _: None)
            contents.append(read_blob(target, digest=blob.digest, size=blob.size))
    return contents
