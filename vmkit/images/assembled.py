"""The disks that machines stand on: put together once; nothing looks at their bytes again but the check here."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vmkit.errors import Refused
from vmkit.host.files import publish, require_space, staging
from vmkit.images.chunks import Joining, read_blob
from vmkit.images.layout import Chunk, Manifest, digest_of

_PIECE_BYTES = 4 << 20


@contextlib.contextmanager
def assembling(manifest: Manifest, *, root: Path, target: Path, where: Callable[[str], Path]) -> Iterator[Joining]:
    """Give the disk of an image to put its chunks in; in the end the folder `target` appears with all that is needed.

    `root` is the store; the kernel and the initrd lie in `where`. Raises Refused, HostLacks (space).
    """
    require_space(root, needed_bytes=sum(chunk.length for chunk in manifest.chunks), what="the image's disk")
    with staging(root / "staging") as stage:
        ready = stage / "ready"
        ready.mkdir()
        joining = Joining(
            ready / "disk.raw",
            manifest.chunks,
            virtual_bytes=manifest.virtual_bytes,
            expected_digest=manifest.content_digest,
        )
        with joining:
            yield joining
            joining.finish()
        for blob, title in ((manifest.kernel, "kernel"), (manifest.initrd, "initrd")):
            if blob:
                content = read_blob(where(blob.digest), digest=blob.digest, size=blob.size)
                (ready / title).write_bytes(content)
        publish_assembled(ready, target)


def publish_assembled(ready: Path, target: Path) -> None:
    """Move a folder to where machines look for it, read-only: one that wrote to its disk would change every other."""
    for path in ready.iterdir():
        path.chmod(0o444)
    with contextlib.suppress(FileExistsError):  # the same digest is the same content
        publish(ready, target)


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
        if piece != bytes(len(piece)):
            raise _changed(disk, f"between {offset} and {offset + len(piece)}")
        offset += max(1, len(piece))


def _changed(disk: Path, where: str) -> Refused:
    return Refused(
        "the disk that machines of this image stand on has been changed",
        detail=f"{disk}: {where}",
        hint="delete the image and the machines made from it, then get it again",
    )
