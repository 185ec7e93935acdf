"""Take signatures along: out of the store for a push, into it after a pull."""

from collections.abc import Iterator

from vmkit.images.chunks import read_blob
from vmkit.images.store import ImageStore


def signatures_of(digest: str, *, images: ImageStore) -> Iterator[tuple[bytes, dict[str, bytes]]]:
    """Give each signature of the manifest `digest`: its own manifest, and the blobs of that by digest.

    `ImageStore.add_referrer` takes them in again. Raises Refused for one that was changed.
    """
    for each in images.referrers(digest):
        known = images.referrer(each)
        manifest = read_blob(images.blob(each), digest=each, size=known.size)
        yield (
            manifest,
            {
                blob.digest: read_blob(images.blob(blob.digest), digest=blob.digest, size=blob.size)
                for blob in known.blobs
            },
        )
