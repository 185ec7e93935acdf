"""Fetch a publisher's cloud image: its list of digests, the signature on that, the image, then the way of every disk.

What has come of an image is kept under its digest: a download goes on where it was, and only with the same file.
"""

import hashlib
import re
from pathlib import Path

from vmkit.errors import Busy, Refused
from vmkit.host.computer import machine_arch
from vmkit.host.download import Absent, download, read_small
from vmkit.host.files import Lock, own_directory
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.images.catalog import CloudImage
from vmkit.images.importer import import_image
from vmkit.images.layout import Image, parse_reference
from vmkit.images.qcow2 import sniff_format
from vmkit.images.signature import require_signature
from vmkit.images.store import ImageStore

_MAX_SUMS = 1 << 20
_MAX_SIGNATURE = 64 << 10
_MAX_IMAGE = 16 << 30
_LINE = re.compile(rb"([0-9a-fA-F]{32,128}) [ *]([^\r\n]{1,255})")


def fetch_image(image: CloudImage, *, store: ImageStore, runner: Runner, report: Report, tag: str = "") -> Image:
    """Bring the publisher's newest `image` into the store, unless it is there; a name may have meant another till now.

    Without a tag it becomes `NAME:latest`, or `NAME:ARCH` when this computer is of another kind. One process at a time.
    Raises Refused (digest, signature, a file that is none), Unreachable, HostLacks (space); nothing half-made stays but
    the part that has come.
    """
    name = parse_reference(f"{image.name}:{tag or ('latest' if image.arch == machine_arch() else image.arch)}")
    own_directory(store.root)
    folder = own_directory(store.root / "downloads" / f"{image.name}-{image.arch}")
    with _locked(folder.with_suffix(f"{folder.suffix}.lock"), name, report):
        digest, signed = _promised_digest(image, runner=runner, report=report)
        release = f"{image.file_name} {digest}{' signed' if signed else ''}"
        there = store.find(name)
        if there is not None and there.release == release:
            report.note(f"{name} is the newest that {image.host} has")
            return store.get(name, report=report)
        file = _kept_under(folder, digest) / image.file_name
        if not file.exists():
            _download(image, file, digest=digest, report=report)
        try:
            _require_qcow2(file)
            made = import_image(file, name, store=store, runner=runner, report=report, arch=image.arch, release=release)
        except Refused:
            _remove(file)
            raise
        _remove(file)
    return made


def parse_sums(content: bytes, *, file_name: str, algorithm: str) -> str:
    """Return `ALGORITHM:HEX` of a file from what `sha512sum` and its kin print. Raises Refused, with the reason."""
    if content.lstrip()[:1] == b"<":
        raise Refused("the list of digests is a web page", hint="a login page of the network, or a mirror that is none")
    matches = [_LINE.fullmatch(line.rstrip(b"\r")) for line in content.split(b"\n")]
    found = {match[1].lower() for match in matches if match and match[2] == file_name.encode()}
    if not any(matches):
        raise Refused("the list of digests holds none", hint="try again later, or use another mirror")
    if len(found) != 1:
        how = "two digests" if found else "no digest"
        raise Refused(f'the list of digests has {how} for "{file_name}"', hint="try again later, or use another mirror")
    digest = found.pop().decode()
    if len(digest) != hashlib.new(algorithm).digest_size * 2:
        raise Refused(f'the digest of "{file_name}" is no {algorithm}', detail=digest)
    return f"{algorithm}:{digest}"


def _promised_digest(image: CloudImage, *, runner: Runner, report: Report) -> tuple[str, bool]:
    """Return the digest that the publisher gives, and whether its signature says so too."""
    publisher = image.publisher
    address = f"{image.folder}/{publisher.sums_name}"
    with report.phase("digests", f"Reading {address}"):
        try:
            content = read_small(address, max_bytes=_MAX_SUMS)
        except Absent as error:
            raise Refused(
                f'there is no list of digests for "{image.name}" at {image.host}',
                detail=error.message,
                hint=f"check {publisher.variable}" if not address.startswith(publisher.base) else "try again later",
            ) from error
        signed = _check_signature(image, content, runner=runner, report=report)
    return parse_sums(content, file_name=image.file_name, algorithm=publisher.algorithm), signed


def _check_signature(image: CloudImage, content: bytes, *, runner: Runner, report: Report) -> bool:
    publisher, signer = image.publisher, image.publisher.signer
    if signer is None:
        report.note(
            f"{publisher.title} does not sign {publisher.sums_name} of its cloud images: "
            f"TLS to {image.host} and the digest vouch for it"
        )
        return False
    if runner.find("gpgv") is None:
        report.note(
            f"the signature of {publisher.title} was not checked, since gpgv is not installed (it comes with GnuPG): "
            f"only TLS to {image.host} and the digest vouch for the image"
        )
        return False
    try:
        signature = read_small(f"{image.folder}/{signer.signature_name}", max_bytes=_MAX_SIGNATURE)
    except Absent as error:
        raise Refused(
            f"{publisher.title} signs {publisher.sums_name}, and {image.host} has no signature", detail=error.message
        ) from error
    require_signature(content, signature, signer=signer, what=publisher.sums_name, runner=runner)
    return True


def _download(image: CloudImage, file: Path, *, digest: str, report: Report) -> None:
    with report.phase("download", f"Fetching {image.file_name} from {image.host}"):
        try:
            download(image.url, file, digest=digest, size_bytes=None, max_bytes=_MAX_IMAGE, report=report)
        except Absent as error:
            raise Refused(
                f'"{image.file_name}" is in the list of digests but not on the server', detail=image.url
            ) from error


def _require_qcow2(file: Path) -> None:
    if sniff_format(file) != "qcow2":
        raise Refused(f'"{file.name}" is not a qcow2 disk')


def _locked(path: Path, name: str, report: Report) -> Lock:
    try:
        return Lock(path).acquire(f"fetching {name}")
    except Busy:
        report.note(f"another vmkit is fetching {name}; waiting for it")
        return Lock(path).acquire(f"fetching {name}", wait=True)


def _kept_under(folder: Path, digest: str) -> Path:
    """Return the folder for downloads with this digest, and remove what came of images that are no longer offered."""
    import shutil  # noqa: PLC0415  # nothing else here needs it

    wanted = folder / digest.replace(":", "-")[:64]
    for other in folder.iterdir():
        if other != wanted:
            shutil.rmtree(other)
    return own_directory(wanted)


def _remove(file: Path) -> None:
    file.unlink()
    file.parent.rmdir()
