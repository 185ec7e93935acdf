"""Check a disk that was put together earlier: nothing else looks at its bytes again before machines stand on it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vmkit.errors import Refused
from vmkit.images.chunks import read_blob
from vmkit.images.layout import Chunk, Manifest, digest_of

_PIECE_BYTES = 4 << 20


def check_assembled(folder: Path, manifest: Manifest, *, on_bytes: Callable[[int], None]) -> None:
    """Compare the disk, the kernel and the initrd in `folder` with what the manifest names.

    Raises Refused for a bit that differs. `on_bytes`: how many more bytes were read.
    """
    for blob, title in ((manifest.kernel, "kernel"), (manifest.initrd, "initrd")):
        if blob:
            read_blob(folder / title, digest=blob.digest, size=blob.size)
    disk = folder / "disk.raw"
    try:
        with disk.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != manifest.virtual_bytes:
                raise _changed(disk, "its size is another")
            for chunk in manifest.chunks:
                if digest_of(os.pread(file.fileno(), chunk.length, chunk.offset)) != chunk.raw_digest:
                    raise _changed(disk, f"between {chunk.offset} and {chunk.offset + chunk.length}")
                on_bytes(chunk.length)
            for start, end in _between(manifest.chunks, manifest.virtual_bytes):
                _require_zeros(file.fileno(), start, end, disk)
    except FileNotFoundError:
        raise _changed(disk, "it is missing") from None


def _between(chunks: tuple[Chunk, ...], size: int) -> Iterator[tuple[int, int]]:
    """Give the stretches in which no chunk lies."""
    end = 0
    for chunk in chunks:
        if chunk.offset > end:
            yield end, chunk.offset
        end = chunk.offset + chunk.length
    if end < size:
        yield end, size


def _require_zeros(descriptor: int, offset: int, end: int, disk: Path) -> None:
    while offset < end:
        try:
            offset = max(offset, os.lseek(descriptor, offset, os.SEEK_DATA))
        except OSError:  # ENXIO: only a hole is left
            return
        piece = os.pread(descriptor, max(0, min(_PIECE_BYTES, end - offset)), offset)
        if piece.count(0) != len(piece):
            raise _changed(disk, f"between {offset} and {offset + len(piece)}")
        offset += max(1, len(piece))


def _changed(disk: Path, where: str) -> Refused:
    return Refused(
        "the disk that machines of this image stand on has been changed",
        detail=f"{disk}: {where}",
        hint="delete the image and the machines made from it, then get it again",
    )
