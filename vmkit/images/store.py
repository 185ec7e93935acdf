"""The images of this computer: an OCI image layout, and beside it each image's disk, assembled, for machines to use.

ROOT/oci-layout, index.json, blobs/sha256/…   what push and pull copy
ROOT/assembled/DIGEST/disk.raw, kernel, initrd  read-only; the backing files of machines
ROOT/staging, store.lock
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from vmkit.errors import NotFound, Refused, WrongState
from vmkit.host.computer import clone_file, fsync_directory
from vmkit.host.files import Lock, own_directory, read_bounded, require_space, staging, write_atomically
from vmkit.host.report import Report, Silent
from vmkit.images.index import Index, parse_index, render_index
from vmkit.images.layout import (
    CONFIG_TYPE,
    INITRD_TYPE,
    KERNEL_TYPE,
    MANIFEST_TYPE,
    MAX_FILE_BYTES,
    MAX_JSON_BYTES,
    Blob,
    Image,
    ImageMeta,
    Manifest,
    choose_chunk_bytes,
    digest_of,
    parse_config_blob,
    parse_manifest,
    parse_reference,
    render_config,
    render_manifest,
)
from vmkit.images.signing.referrer import SignatureManifest, parse_signature_manifest, require_complete


class ImageStore:
    """The images under `root`. Reading takes no lock: everything appears by a rename."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, reference: str) -> Image | None:
        """Return the image, or None. Raises UsageError for a name that cannot be one, Refused for a damaged image."""
        name = parse_reference(reference)
        digest = self._entries().get(name)
        return self._image(name, self.manifest(digest)) if digest else None

    def get(self, reference: str, *, report: Report | None = None) -> Image:
        """Return the image, its disk in place: assembled now from its blobs when it is not there yet.

        Raises NotFound, naming what comes near; Refused when a blob is not what its digest says.
        """
        image = self.find(reference)
        if image is None:
            raise self._not_found(parse_reference(reference))
        return self.ready(image, report=report)

    def ready(self, image: Image, *, report: Report | None = None) -> Image:
        """Put the disk of this very image in place, whatever its name means by now. Raises as `get` does."""
        if not self.assembled(image.digest).is_dir():
            self._assemble(self.manifest(image.digest), report or Silent())
        return image

    def by_digest(self, digest: str, *, name: str) -> Image:
        """Return a stored image, whatever its name means by now. Raises Refused when it is gone or damaged."""
        return self._image(name, self.manifest(digest))

    def list(self) -> tuple[Image, ...]:
        """Return all images by name. Raises Refused for a damaged one."""
        return tuple(self._image(name, self.manifest(digest)) for name, digest in sorted(self._entries().items()))

    def add(
        self,
        reference: str,
        *,
        disk: Path,
        kernel: Path | None = None,
        initrd: Path | None = None,
        meta: ImageMeta,
        report: Report,
        replace: bool = True,
    ) -> Image:
        """Store a raw disk, which is copied, under a name, which may have meant another image until now.

        Raises HostLacks when there is no space, WrongState when the name is taken and `replace` is off.
        """
        name = parse_reference(reference)
        own_directory(self.root)
        from vmkit.images.assembled import publish_assembled  # noqa: PLC0415  # as in _cut

        require_space(self.root, needed_bytes=2 * disk.stat().st_blocks * 512, what=f'the image "{name}"')
        with staging(self.root / "staging") as stage:
            blobs, ready = stage / "blobs", stage / "ready"
            blobs.mkdir()
            ready.mkdir()
            clone_file(disk, ready / "disk.raw")
            for source, title in ((kernel, "kernel"), (initrd, "initrd")):
                if source:
                    clone_file(source, ready / title)
            manifest = self._cut(ready, blobs, meta, report)
            with self.locked("adding an image"):
                entries = self._entries()
                if not replace and entries.get(name, manifest.digest) != manifest.digest:
                    raise WrongState(f'the image "{name}" exists', hint="choose another tag")
                with self._kept(blobs, manifest.digest):
                    publish_assembled(ready, self.assembled(manifest.digest))
                    self.write_index(entries | {name: manifest.digest})
        return self._image(name, manifest)

    def tag(self, reference: str, name: str, *, replace: bool) -> str:
        """Give an image one more name, and return its digest.

        Raises NotFound, WrongState when the name is taken and `replace` is off.
        """
        target = parse_reference(name)
        with self.locked("naming an image"):
            entries, digest = self._entries(), self.digest(reference)
            if target in entries and not replace:
                raise WrongState(f'the image "{target}" exists, and its tag is not moved', hint="choose another tag")
            self.write_index(entries | {target: digest})
        return digest

    def delete(self, reference: str, *, used: Collection[str] = ()) -> None:
        """Remove a name, and the bytes that only it used. `used`: what machines stand on, which keeps its own.

        Raises NotFound.
        """
        from vmkit.images.unused import remove  # noqa: PLC0415  # which knows the store

        name = parse_reference(reference)
        remove({name: self.digest(name)}, store=self, used=used)

    def digest(self, reference: str) -> str:
        """Return what a name stands for. Raises NotFound, naming what comes near."""
        name = parse_reference(reference)
        digest = self._entries().get(name)
        if not digest:
            raise self._not_found(name)
        return digest

    def manifest(self, digest: str) -> Manifest:
        """Return a stored manifest with its config. Raises Refused when either is not what its digest says."""
        content = self._read_json(digest)
        config = parse_config_blob(content)
        return parse_manifest(content, self._read_json(config.digest))

    def blob(self, digest: str) -> Path:
        """Return where the blob of that digest is or would be."""
        return self.root / "blobs/sha256" / digest.removeprefix("sha256:")

    def assembled(self, digest: str) -> Path:
        """Return the folder where the image's disk is, put together, or would be."""
        return self.root / "assembled" / digest.removeprefix("sha256:")

    def adopt(self, reference: str, digest: str) -> None:
        """Give a name to a manifest whose blobs lie in the store already, as after a pull. Raises Refused."""
        name = parse_reference(reference)
        self.manifest(digest)
        with self.locked("naming an image"):
            self.write_index(self._entries() | {name: digest})

    def receive(self, reference: str, digest: str, *, blobs: Path, report: Report) -> Image:
        """Take an image in whose manifest and parts lie in the folder `blobs`, as after a pull.

        Its disk is assembled unless it is already.
        The parts move, and the name appears, when the disk has proven right. Raises Refused; then nothing was taken.
        """
        name = parse_reference(reference)

        def incoming(part: str) -> Path:
            return blobs / part.removeprefix("sha256:")

        content = self._read_json(digest, incoming)
        manifest = parse_manifest(content, self._read_json(parse_config_blob(content).digest, incoming))
        if not self.assembled(digest).is_dir():
            self._assemble(manifest, report, incoming)
        with self.locked("adding an image"), self._kept(blobs, digest):
            self.write_index(self._entries() | {name: digest})
        return self._image(name, manifest)

    def referrers(self, digest: str) -> tuple[str, ...]:
        """Return the digests of the artifacts that are kept as referring to a manifest: its signatures."""
        return tuple(key for key, subject in sorted(self.index().referrers.items()) if subject == digest)

    def referrer(self, digest: str) -> SignatureManifest:
        """Return a stored signature's manifest. Raises Refused when it is not what its digest says, or is none."""
        return parse_signature_manifest(self._read_json(digest))

    def add_referrer(self, manifest: bytes, blobs: Sequence[bytes]) -> SignatureManifest:
        """Keep a signature's manifest and the blobs it names. What it says is not believed. Raises Refused."""
        referrer = parse_signature_manifest(manifest)
        require_complete(referrer, blobs)
        with self.locked("adding a signature"):
            kept = own_directory(self.root / "blobs/sha256")
            for content in (manifest, *blobs):
                write_atomically(kept / digest_of(content).removeprefix("sha256:"), content, mode=0o444)
            referrers = {**self.index().referrers, referrer.digest: referrer.subject.digest}
            self.write_index(self._entries(), referrers)
        return referrer

    def locked(self, purpose: str) -> Lock:
        """Wait for the lock under which names change and blobs come and go."""
        return Lock(self.root / "store.lock").acquire(purpose, wait=True)

    def index(self) -> Index:
        """Return what each name means, and which signatures are of what. Raises Refused."""
        try:
            return parse_index(read_bounded(self.root / "index.json", max_bytes=MAX_JSON_BYTES))
        except FileNotFoundError:
            return Index()

    def write_index(self, entries: dict[str, str], referrers: dict[str, str] | None = None) -> None:
        """Write the index, for the holder of the lock; without `referrers` it keeps those it has."""
        index = Index(names=entries, referrers=self.index().referrers if referrers is None else referrers)
        sizes = {digest: self.blob(digest).stat().st_size for digest in (*index.names.values(), *index.referrers)}
        write_atomically(self.root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        write_atomically(self.root / "index.json", render_index(index, sizes=sizes))

    def _read_json(self, digest: str, where: Callable[[str], Path] | None = None) -> bytes:
        try:
            content = read_bounded((where or self.blob)(digest), max_bytes=MAX_JSON_BYTES)
        except FileNotFoundError:
            raise Refused("a part of the image is missing", detail=digest) from None
        if digest_of(content) != digest:
            raise Refused("a part of the image has been changed", detail=digest)
        return content

    def _entries(self) -> dict[str, str]:
        """Return what the index says: name to digest."""
        return dict(self.index().names)

    def _cut(self, ready: Path, blobs: Path, meta: ImageMeta, report: Report) -> Manifest:
        from vmkit.images.chunks import cut  # noqa: PLC0415  # concurrent.futures, which listing does not need

        size = (ready / "disk.raw").stat().st_size
        chunk_bytes = choose_chunk_bytes(size)
        with report.phase("chunk", "Storing the disk"):
            chunks = cut(
                ready / "disk.raw",
                chunk_bytes=chunk_bytes,
                into=blobs,
                on_bytes=lambda done: report.progress(done, size),
            )
        kernel = _stage_file(ready / "kernel", blobs, KERNEL_TYPE)
        initrd = _stage_file(ready / "initrd", blobs, INITRD_TYPE)
        config = render_config(meta, virtual_bytes=size, chunk_bytes=chunk_bytes, chunks=chunks)
        config_blob = _stage(config, blobs, CONFIG_TYPE)
        content = render_manifest(config=config_blob, kernel=kernel, initrd=initrd, chunks=chunks)
        _stage(content, blobs, MANIFEST_TYPE)
        return parse_manifest(content, config)

    @contextlib.contextmanager
    def _kept(self, blobs: Path, digest: str) -> Iterator[None]:
        """Move parts in. When the block fails, as on a full disk, they go back: what has no name is never deleted."""
        import shutil  # noqa: PLC0415  # only a failure needs it

        kept = own_directory(self.root / "blobs/sha256")
        fresh = [path.name for path in blobs.iterdir() if not (kept / path.name).exists()]
        is_new = digest not in self._entries().values()
        try:
            for path in list(blobs.iterdir()):
                path.chmod(0o444)
                path.rename(kept / path.name)
            fsync_directory(kept)
            yield
        except BaseException:
            for name in fresh:
                with contextlib.suppress(FileNotFoundError):
                    (kept / name).rename(blobs / name)
            if is_new:
                shutil.rmtree(self.assembled(digest), ignore_errors=True)
            raise

    def _assemble(self, manifest: Manifest, report: Report, where: Callable[[str], Path] | None = None) -> None:
        from vmkit.images.assembled import assembling  # noqa: PLC0415  # as in _cut
        from vmkit.images.chunks import join  # noqa: PLC0415  # as in _cut

        place = where or self.blob
        target = self.assembled(manifest.digest)
        with (
            assembling(manifest, root=self.root, target=target, where=place) as disk,
            report.phase("assemble", "Assembling the disk"),
        ):
            join(
                manifest.chunks,
                to=disk,
                blob=place,
                on_bytes=lambda done: report.progress(done, manifest.virtual_bytes),
            )

    def _image(self, name: str, manifest: Manifest) -> Image:
        folder = self.assembled(manifest.digest)
        sizes = {blob.digest: blob.size for blob in manifest.blobs}
        return Image(
            name=name,
            digest=manifest.digest,
            arch=manifest.meta.arch,
            boot=manifest.meta.boot,
            user=manifest.meta.user,
            kernel_arguments=manifest.meta.kernel_arguments,
            virtual_bytes=manifest.virtual_bytes,
            stored_bytes=sum(sizes.values()) + manifest.size,
            created=manifest.meta.created,
            release=manifest.meta.release,
            disk=folder / "disk.raw",
            kernel=folder / "kernel" if manifest.kernel else None,
            initrd=folder / "initrd" if manifest.initrd else None,
            sealed=manifest.meta.seal is not None,
        )

    def _not_found(self, name: str) -> NotFound:
        import difflib  # noqa: PLC0415  # only a failure needs it

        near = difflib.get_close_matches(name, self._entries(), n=3, cutoff=0.5)
        return NotFound(
            f'there is no image "{name}"',
            detail=f"did you mean {' or '.join(near)}?" if near else None,
            hint="vmkit image build debian-13",
        )


def _stage(content: bytes, blobs: Path, media_type: str) -> Blob:
    blob = Blob(media_type=media_type, digest=digest_of(content), size=len(content))
    write_atomically(blobs / blob.digest.removeprefix("sha256:"), content)
    return blob


def _stage_file(path: Path, blobs: Path, media_type: str) -> Blob | None:
    return _stage(read_bounded(path, max_bytes=MAX_FILE_BYTES), blobs, media_type) if path.exists() else None
