"""Fetch files over https, `file://`, or http on loopback: bounded, resumed, and hashed while they stream."""

import contextlib
import errno
import hashlib
import ipaddress
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from vmkit import __version__
from vmkit.errors import HostLacks, NotFound, Refused, UsageError
from vmkit.host.computer import fsync_directory, fsync_file
from vmkit.host.files import require_space
from vmkit.host.report import Report
from vmkit.host.text import printable

T = TypeVar("T")

PARTIAL = ".partial"

_BLOCK = 256 << 10
_MAX_REDIRECTS = 5
_MAX_CONNECTIONS = 100  # for one file; each must bring something
_FRUITLESS = 3  # connections in a row that brought nothing, once one has
_CONNECT_S, _READ_S = 15.0, 60.0


class Unreachable(HostLacks):
    """The server does not answer, answers with an error of its own, or hung up."""

    kind = "unreachable"


class Absent(NotFound):
    """The server answers, but has no such file."""


@dataclass(frozen=True, kw_only=True)
class _Stream:
    start: int  # the offset of the first block; 0 when the server ignored the range
    total: int | None  # how long the file is, as the server says
    blocks: Iterator[bytes]


def check_source(url: str, *, what: str) -> str:
    """Return `url` without a trailing slash. Raises UsageError unless it is https, file, or http on loopback."""
    try:
        parts = urlsplit(url)
        fine = _may_fetch(parts) and not (parts.query or parts.fragment or parts.username or parts.password)
    except ValueError:
        fine = False
    if not fine or printable(url) != url or " " in url:
        raise UsageError(
            f'{what} "{printable(url, max_chars=200)}" cannot be used',
            detail="it must be an https:// or file:// address, or http:// on this computer's loopback",
        )
    return url.rstrip("/")


def read_small(url: str, *, max_bytes: int) -> bytes:
    """Fetch a small file into memory. Raises Refused over `max_bytes`, Absent, Unreachable."""
    content = bytearray()
    with _opened(url, offset=0) as stream:
        for block in stream.blocks:
            content += block
            if len(content) > max_bytes:
                raise Refused(f'"{url}" is larger than {max_bytes} bytes')
    return bytes(content)


def download(
    url: str,
    target: Path,
    *,
    digest: str,
    size_bytes: int | None,
    max_bytes: int,
    report: Report,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch `url` to `target`, which appears only when its digest, `sha256:…` or `sha512:…`, is right.

    What has come stays in `target.partial`, whatever kills us, and the next call goes on from there. The caller holds
    a lock on `target`. Raises Refused (digest, truncated, too large), Absent, Unreachable, HostLacks (no space).
    """
    algorithm, _, promised = digest.partition(":")
    partial = target.with_name(target.name + PARTIAL)
    resumed = partial.exists()

    def complete() -> str:
        try:
            return _complete(
                url,
                partial,
                algorithm=algorithm,
                size_bytes=size_bytes,
                max_bytes=max_bytes,
                report=report,
                sleep=sleep,
            )
        except BaseException:
            if partial.exists() and not partial.stat().st_size:
                partial.unlink()
            raise

    received = complete()
    if received != promised and resumed:  # the beginning may be from another day: once more, all of it
        partial.unlink()
        report.note("what an earlier download left does not fit; starting again")
        received = complete()
    if received != promised:
        partial.unlink()
        raise Refused(
            f'"{target.name}" does not have the digest that was promised',
            detail=f"{url}\nexpected {algorithm} {promised}\nreceived {algorithm} {received}",
            hint="it was not kept; try again, and do not use this server if it stays so",
        )
    with partial.open("rb") as file:
        fsync_file(file.fileno())
    partial.replace(target)
    fsync_directory(target.parent)


def download_judged(
    url: str,
    target: Path,
    *,
    judge: Callable[[Path], T],
    max_bytes: int,
    report: Report,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Fetch `url`, whose digest nobody published, to `target`, which appears only when `judge` does not raise Refused.

    Return what `judge` returns. Resumes, and raises, as `download` does.
    """
    partial = target.with_name(target.name + PARTIAL)
    for resumed in (True, False) if partial.exists() else (False,):
        _complete(url, partial, algorithm="sha256", size_bytes=None, max_bytes=max_bytes, report=report, sleep=sleep)
        try:
            verdict = judge(partial)
        except Refused:
            partial.unlink()
            if not resumed:
                raise
            report.note("what an earlier download left does not fit; starting again")
        else:
            break
    with partial.open("rb") as file:
        fsync_file(file.fileno())
    partial.replace(target)
    fsync_directory(target.parent)
    return verdict


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _complete(
    url: str,
    partial: Path,
    *,
    algorithm: str,
    size_bytes: int | None,
    max_bytes: int,
    report: Report,
    sleep: Callable[[float], None],
) -> str:
    """Bring `partial` to its full length, going on after each break, and return its digest."""
    patience = 0  # a server that never answered is not asked again
    for _ in range(_MAX_CONNECTIONS):
        before = partial.stat().st_size if partial.exists() else 0
        try:
            return _append(url, partial, algorithm=algorithm, size_bytes=size_bytes, max_bytes=max_bytes, report=report)
        except Unreachable as error:
            patience = _FRUITLESS if partial.exists() and partial.stat().st_size > before else patience - 1
            if patience <= 0:
                if before:
                    error.hint = f"{before} bytes are kept: the same command goes on from there"
                raise
            sleep(1.0)
    raise Unreachable(f'"{url}" hung up {_MAX_CONNECTIONS} times', hint="the same command goes on from there")


def _append(url: str, partial: Path, *, algorithm: str, size_bytes: int | None, max_bytes: int, report: Report) -> str:
    digest = hashlib.new(algorithm)
    limit = max_bytes if size_bytes is None else size_bytes
    with partial.open("a+b") as file:
        file.seek(0)
        while block := file.read(_BLOCK):
            digest.update(block)
        have = file.tell()
        if have == size_bytes:
            return digest.hexdigest()
        with _opened(url, offset=have if have < limit else 0) as stream:
            total = size_bytes if size_bytes is not None else stream.total
            if stream.start != have:
                file.truncate(0)
                digest, have = hashlib.new(algorithm), 0
            if size_bytes is None and total is not None and total <= limit:
                require_space(partial.parent, needed_bytes=total - have, what=f'"{partial.stem}"')
            for block in stream.blocks:
                have += len(block)
                if have > limit:
                    file.truncate(0)
                    raise Refused(f'"{url}" is larger than it should be', detail=f"more than {limit} bytes came")
                _write(file, block)
                digest.update(block)
                report.progress(have, total)
    if size_bytes is not None and have < size_bytes:
        raise Refused(
            f'"{partial.stem}" is truncated: the server has {have} of {size_bytes} bytes',
            detail=url,
            hint="try again later, or use another mirror",
        )
    return digest.hexdigest()


def _write(file: IO[bytes], block: bytes) -> None:
    try:
        file.write(block)
        file.flush()  # a kill loses nothing that came
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise HostLacks(
            "no space is left for the download",
            detail=str(file.name),
            hint="what has come is kept: free some space, and the same command goes on from there",
        ) from error


@contextlib.contextmanager
def _opened(url: str, *, offset: int) -> Iterator[_Stream]:
    parts = urlsplit(url)
    with _opened_file(parts, offset=offset) if parts.scheme == "file" else _opened_http(url, offset=offset) as stream:
        yield stream


@contextlib.contextmanager
def _opened_file(parts: SplitResult, *, offset: int) -> Iterator[_Stream]:
    path = Path(unquote(parts.path))
    try:
        with path.open("rb") as file:
            total = file.seek(0, os.SEEK_END)
            file.seek(offset)
            yield _Stream(start=offset, total=total, blocks=iter(lambda: file.read(_BLOCK), b""))
    except FileNotFoundError:
        raise Absent(f'there is no "{path}"') from None
    except (IsADirectoryError, PermissionError) as error:
        raise Unreachable(f'"{path}" cannot be read', detail=error.strerror) from error


@contextlib.contextmanager
def _opened_http(url: str, *, offset: int) -> Iterator[_Stream]:
    import httpx  # noqa: PLC0415  # 100 ms and more that only a download pays

    headers = {"User-Agent": f"vmkit/{__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    # A proxy from the environment is for the world outside; loopback is reached directly.
    direct = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
    timeout = httpx.Timeout(_READ_S, connect=_CONNECT_S)
    try:
        with httpx.Client(headers=headers, timeout=timeout, mounts=direct, follow_redirects=False) as client:
            address = url
            for _ in range(_MAX_REDIRECTS + 1):
                with client.stream("GET", address) as response:
                    if not response.has_redirect_location:
                        start = _start(response.status_code, response.headers, url=address, offset=offset)
                        nothing_more = response.status_code == 416
                        total = None if nothing_more else _total(response.headers, start=start)
                        # No chunk size: it would hold back, and lose, what came last before a break.
                        blocks = iter(()) if nothing_more else response.iter_raw()
                        yield _Stream(start=start, total=total, blocks=blocks)
                        return
                    address = _redirected(address, response.headers["location"])
            raise Refused(f'"{url}" redirects more than {_MAX_REDIRECTS} times')
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(
            f'cannot fetch "{url}"',
            detail=printable(f"{type(error).__name__}: {error}", max_chars=300),
            hint="check the network and any proxy, then run the same command again",
        ) from error


def _start(status: int, headers: object, *, url: str, offset: int) -> int:
    """Judge an answer's head; return the offset its body starts at."""
    found = {str(name).lower(): str(value) for name, value in getattr(headers, "items", dict)()}
    if status in {403, 404, 410}:  # object stores without a listing right say 403 for what is not there
        raise Absent(f'the server has no "{url}"', detail=f"HTTP {status}")
    if status == 416 and offset:  # it has nothing past `offset`
        return offset
    if status not in {200, 206}:
        raise Unreachable(f'"{url}" was answered with HTTP {status}', hint="try again later, or use another mirror")
    if found.get("content-type", "").lower().startswith("text/html"):
        raise Refused(
            f'"{url}" was answered with a web page',
            detail="a login page of the network, or a mirror that is not one",
            hint="open the address in a browser to see it",
        )
    if status == 200:
        return 0
    if not found.get("content-range", "").startswith(f"bytes {offset}-"):
        raise Refused(f'"{url}" was answered with other bytes than were asked for')
    return offset


def _total(headers: Mapping[str, str], *, start: int) -> int | None:
    """Return how long the file is, as far as an answer from `start` on says it."""
    length = headers.get("content-length", "")
    if length.isascii() and length.isdecimal() and len(length) < 16:
        return start + int(length)
    return None


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    parts = urlsplit(target)
    downgraded = urlsplit(url).scheme == "https" and parts.scheme != "https"
    if downgraded or parts.scheme == "file" or not _may_fetch(parts):
        raise Refused(f'"{url}" redirects to an address that is not https', detail=printable(target, max_chars=300))
    return target


def _may_fetch(parts: SplitResult) -> bool:
    if parts.scheme == "file":
        return parts.netloc in {"", "localhost"} and parts.path.startswith("/")
    if not parts.hostname or parts.scheme not in {"http", "https"}:
        return False
    return parts.scheme == "https" or _is_loopback(parts.hostname)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
