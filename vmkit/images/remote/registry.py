"""A repository of a registry: the OCI distribution protocol, as far as images and what is attached to them need it."""

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from vmkit.errors import Refused
from vmkit.host.computer import fsync_directory, fsync_file
from vmkit.host.text import printable
from vmkit.images.layout import INDEX_TYPE, MANIFEST_TYPE, MAX_JSON_BYTES, Blob, digest_of
from vmkit.images.remote.base import (
    MAX_REFERRERS,
    Absent,
    OnBytes,
    Referrer,
    RegistryFailed,
    Unreachable,
    describe_attachment,
    is_digest,
    parse_index,
    parse_referrer,
    render_index,
)
from vmkit.images.remote.transport import Transport

PARTIAL = ".partial"

_BLOCK = 256 << 10
_MAX_BODY = 1 << 20  # of answers whose body does not matter
_FRUITLESS = 3  # connections in a row that brought nothing
_MAX_CONNECTIONS = 50  # for one blob
_WINDOW_S, _WINDOW_BYTES = 60.0, 64 << 10  # slower than this is not an answer
_FALLBACK_TRIES = 6
_BOTH = f"{MANIFEST_TYPE}, {INDEX_TYPE}"


class TooSlow(Unreachable):
    """The registry sends, and so little that nobody waits for it."""


class RegistryRepository:
    """One repository. `mount_from`: the digest of a blob to the repository of the same registry that has it too."""

    def __init__(
        self,
        transport: Transport,
        name: str,
        *,
        mount_from: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport, self.name, self._sleep = transport, name, sleep
        self._mount_from = mount_from or {}
        self._base = f"{transport.endpoint.base}/v2/{name}"

    def find_digest(self, version: str) -> str | None:
        """Return the digest that a tag stands for, or None."""
        answer = self._transport.small(
            "HEAD", self._manifest_url(version), ok={200, 404}, max_bytes=0, headers={"Accept": _BOTH}
        )
        if answer.status == 404:
            return None
        digest = answer.headers.get("docker-content-digest", "")
        return digest if is_digest(digest) else digest_of(self.manifest(version))

    def manifest(self, version: str) -> bytes:
        """Return the manifest of a tag or a digest; a digest is checked. Raises Absent, Refused."""
        content = self._read_manifest(version, accept=MANIFEST_TYPE)
        if content is None:
            image = f"{self.name}{'@' if is_digest(version) else ':'}{version}"
            raise Absent(f'"{self._transport.endpoint.host}" has no image "{image}"')
        return content

    def has(self, blob: Blob) -> bool:
        """Tell whether the blob is there."""
        url = f"{self._base}/blobs/{blob.digest}"
        return self._transport.small("HEAD", url, ok={200, 404}, max_bytes=0).status == 200

    def fetch(self, blob: Blob, target: Path, *, on_bytes: OnBytes) -> None:
        """Bring the blob to `target`, which appears only when it is right. What has come outlives us beside it."""
        partial = target.with_name(target.name + PARTIAL)
        resumed = partial.exists() and partial.stat().st_size > 0
        received = self._complete(blob, partial, on_bytes=on_bytes)
        if received != blob.digest and resumed:
            on_bytes(-partial.stat().st_size)
            partial.unlink()  # what was there may have been from a server that lied
            received = self._complete(blob, partial, on_bytes=on_bytes)
        if received != blob.digest:
            partial.unlink()
            raise Refused(
                "the registry sends other bytes than the image's manifest names",
                detail=f"wanted {blob.digest}\ncame   {received}",
                hint="it was not kept; do not use this registry if it stays so",
            )
        with partial.open("rb") as file:
            fsync_file(file.fileno())
        partial.replace(target)
        fsync_directory(target.parent)

    def send(self, blob: Blob, source: Path, *, on_bytes: OnBytes) -> int:
        """Put a blob there that was not; return how many bytes that took: none when it was near already."""
        for attempt in range(_FRUITLESS):
            if attempt and self.has(blob):
                return blob.size  # it came, and the answer did not
            gone = 0

            def count(more: int) -> None:
                nonlocal gone
                gone += more
                on_bytes(more)

            try:
                return self._send_once(blob, source, on_bytes=count)
            except Unreachable:
                if attempt == _FRUITLESS - 1:
                    raise
                on_bytes(-gone)
                self._sleep(2.0**attempt)
        raise AssertionError  # the last attempt returns or raises

    def put_manifest(self, content: bytes, *, version: str, media_type: str = MANIFEST_TYPE) -> None:
        """Put a manifest there, whose blobs are there, under its digest or a tag."""
        self._put(content, version=version, media_type=media_type)

    def referrers(self, digest: str) -> tuple[Referrer, ...]:
        """Return what says that it belongs to the manifest `digest`: by the API, else by the tag in its place."""
        answer = self._transport.small(
            "GET",
            f"{self._base}/referrers/{digest}",
            ok={200, 400, 404, 405},
            max_bytes=MAX_JSON_BYTES,
            headers={"Accept": INDEX_TYPE},
        )
        # Some answer 200 with a page about themselves to whatever they do not know.
        is_index = answer.status == 200 and answer.headers.get("content-type", "").partition(";")[0] == INDEX_TYPE
        listed = parse_index(answer.body, what="the list of what is attached") if is_index else []
        # An artifact that was attached before the registry learned the API is under the tag only.
        every = {value["digest"]: value for value in [*self._fallback(digest), *listed]}
        return tuple(parse_referrer(value) for value in every.values())

    def attach(self, content: bytes, *, subject: str, blobs: Mapping[str, bytes]) -> str:
        """Put a manifest there whose subject is the manifest `subject`, with its blobs by digest; return its digest."""
        described = describe_attachment(content, subject=subject)
        with tempfile.TemporaryDirectory(prefix="vmkit-attach-") as folder:
            for digest, data in blobs.items():
                if digest_of(data) != digest:
                    raise Refused("a part of the artifact is not what its digest says", detail=digest)
                blob = Blob(media_type="application/octet-stream", digest=digest, size=len(data))
                if not self.has(blob):
                    source = Path(folder) / digest[7:]
                    source.write_bytes(data)
                    self.send(blob, source, on_bytes=lambda _: None)
        if self._put(content, version=described.digest, media_type=MANIFEST_TYPE).get("oci-subject") != subject:
            self._list_under_tag(described, subject=subject)
        return described.digest

    def _complete(self, blob: Blob, partial: Path, *, on_bytes: OnBytes) -> str:
        """Bring `partial` to its full length, going on after each break, and return its digest."""
        fruitless = 0
        for _ in range(_MAX_CONNECTIONS):
            before = partial.stat().st_size if partial.exists() else 0
            try:
                received = self._append(blob, partial, on_bytes=on_bytes)
                if received is not None:
                    return received
            except Unreachable as error:
                if fruitless >= _FRUITLESS or isinstance(error, TooSlow):
                    raise
            gained = partial.exists() and partial.stat().st_size > before
            fruitless = 0 if gained else fruitless + 1
            if fruitless > _FRUITLESS:
                break
            self._sleep(1.0)
        raise Unreachable(
            f'"{self._transport.endpoint.host}" does not send all of a part of the image',
            detail=blob.digest,
            hint="what has come is kept: the same command goes on from there",
        )

    def _append(self, blob: Blob, partial: Path, *, on_bytes: OnBytes) -> str | None:
        """Add one connection's bytes; return the digest when all are there."""
        digest = hashlib.sha256()
        with partial.open("a+b") as file:
            if file.tell() > blob.size:
                file.truncate(0)
            file.seek(0)
            while block := file.read(_BLOCK):
                digest.update(block)
            have = file.tell()
            if have < blob.size or not have:
                with self._blob_body(blob, offset=have) as (start, blocks):
                    if start != have:
                        file.truncate(0)
                        on_bytes(-have)
                        digest, have = hashlib.sha256(), 0
                    for block in blocks:
                        have += len(block)
                        if have > blob.size:
                            file.truncate(0)
                            raise Refused("the registry sends more than the image's manifest names", detail=blob.digest)
                        file.write(block)
                        file.flush()  # a kill loses nothing that came
                        digest.update(block)
                        on_bytes(len(block))
        return f"sha256:{digest.hexdigest()}" if have == blob.size else None

    @contextlib.contextmanager
    def _blob_body(self, blob: Blob, *, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        url = f"{self._base}/blobs/{blob.digest}"
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._transport.opened("GET", url, headers=headers) as response:
            if response.status_code == 416:
                yield 0, iter(())  # begins again
                return
            if response.status_code not in {200, 206}:
                raise self._transport.failed(response, url)
            start = offset if response.status_code == 206 else 0
            said = response.headers.get("content-range", "")
            if response.status_code == 206 and not said.startswith(f"bytes {offset}-"):
                raise RegistryFailed(
                    "the registry sends another part than it was asked for", detail=printable(said[:80])
                )
            _require_size(blob, response.status_code, response.headers)
            yield start, self._paced(response)

    def _paced(self, response: Any) -> Iterator[bytes]:
        begun, came = self._transport.clock(), 0
        for block in response.iter_raw():
            came += len(block)
            yield block
            if self._transport.clock() - begun > _WINDOW_S:
                if came < _WINDOW_BYTES:
                    raise TooSlow(
                        f'"{self._transport.endpoint.host}" is too slow', hint="what has come is kept: try again"
                    )
                begun, came = self._transport.clock(), 0

    def _send_once(self, blob: Blob, source: Path, *, on_bytes: OnBytes) -> int:
        url = f"{self._base}/blobs/uploads/"
        other = self._mount_from.get(blob.digest)
        if other:
            url += "?" + urlencode({"mount": blob.digest, "from": other})
        opened = self._transport.small("POST", url, ok={201, 202}, max_bytes=_MAX_BODY, headers={"Content-Length": "0"})
        if opened.status == 201:
            on_bytes(blob.size)
            return 0
        location = self._transport.resolve(opened.headers.get("location", ""), what="the image")
        location += ("&" if "?" in location else "?") + f"digest={quote(blob.digest, safe='')}"

        def blocks() -> Iterator[bytes]:
            with source.open("rb") as file:
                while block := file.read(_BLOCK):
                    yield block
                    on_bytes(len(block))

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        # Not again: the upload that the address names is used up.
        self._transport.small("PUT", location, ok={201}, max_bytes=_MAX_BODY, headers=headers, body=blocks, again=False)
        return blob.size

    def _put(self, content: bytes, *, version: str, media_type: str) -> Mapping[str, str]:
        answer = self._transport.small(
            "PUT",
            self._manifest_url(version),
            ok={200, 201},
            max_bytes=_MAX_BODY,
            headers={"Content-Type": media_type},
            body=content,
        )
        said = answer.headers.get("docker-content-digest", digest_of(content))
        if said != digest_of(content):
            raise RegistryFailed("the registry keeps another manifest than it was sent", detail=printable(said[:80]))
        return answer.headers

    def _read_manifest(self, version: str, *, accept: str) -> bytes | None:
        answer = self._transport.small(
            "GET", self._manifest_url(version), ok={200, 404}, max_bytes=MAX_JSON_BYTES, headers={"Accept": accept}
        )
        if answer.status == 404:
            return None
        received = digest_of(answer.body)
        wanted = version if is_digest(version) else answer.headers.get("docker-content-digest", received)
        if received != wanted:
            raise Refused(
                "the registry sends another manifest than was asked for",
                detail=f"wanted {printable(wanted, max_chars=80)}\ncame   {received}",
            )
        return answer.body

    def _manifest_url(self, version: str) -> str:
        return f"{self._base}/manifests/{version}"

    def _fallback(self, subject: str) -> list[dict[str, Any]]:
        content = self._read_manifest(subject.replace(":", "-"), accept=INDEX_TYPE)
        return parse_index(content, what="the list of what is attached") if content is not None else []

    def _list_under_tag(self, described: Referrer, *, subject: str) -> None:
        """Add to the index under the tag that stands for the API. Two at once lose one of them: read it again."""
        for attempt in range(_FALLBACK_TRIES):
            listed = self._fallback(subject)
            if any(value["digest"] == described.digest for value in listed):
                return
            if len(listed) >= MAX_REFERRERS:
                raise Refused("there is too much attached to this image already", detail=subject)
            if attempt:
                self._sleep(0.2 * attempt)
            index = render_index([*listed, described.descriptor()])
            self._put(index, version=subject.replace(":", "-"), media_type=INDEX_TYPE)
        if all(value["digest"] != described.digest for value in self._fallback(subject)):
            raise RegistryFailed("the registry does not keep the list of what is attached", detail=subject)


def _require_size(blob: Blob, status: int, headers: Mapping[str, str]) -> None:
    """Raise Refused when the registry says that it has more or less of a blob: another try would not bring the rest."""
    said = headers.get("content-length", "") if status == 200 else headers.get("content-range", "").rpartition("/")[2]
    if said.isascii() and said.isdecimal() and len(said) < 16 and int(said) != blob.size:
        raise Refused(
            "the registry has another size of a part than the image's manifest names",
            detail=f"{blob.digest}\nnamed {blob.size} bytes, there are {int(said)}",
        )
