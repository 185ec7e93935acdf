"""Fetching a cloud image over real TLS: a good publisher, and each way in which one, or the line to it, can be bad."""

import concurrent.futures
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tlsserver import Faults, TlsServer
from vmkit.errors import Refused, VmkitError
from vmkit.host.download import Unreachable
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.images.catalog import CloudImage, Publisher, Signer, find_cloud_image
from vmkit.images.fetch import fetch_image
from vmkit.images.layout import Image
from vmkit.images.store import ImageStore

NAME = "debian-13-genericcloud-amd64.qcow2"
DATA = Path(__file__).parents[1] / "data/cloud-images"
SCRIPT = Path(sys.executable).with_name("vmkit")

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


class Noting(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.seen: list[tuple[float, float | None]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, done: float, total: float | None, unit: str = "bytes") -> None:
        self.seen.append((done, total))


class WithoutGpgv(Runner):
    def find(self, program: str) -> Path | None:
        return None if program == "gpgv" else super().find(program)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    root = tmp_path / "publisher"
    (root / "trixie/latest").mkdir(parents=True)
    with TlsServer(root, tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.ca_file))
        publish(running)
        yield running


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def publish(server: TlsServer, *, content: bytes | None = None) -> Path:
    """Put an image, new random bytes in it, and its list of digests where Debian has them."""
    image = server.root / "trixie/latest" / NAME
    raw = server.root / "raw"
    raw.write_bytes(os.urandom(3 << 20) + bytes(5 << 20))
    subprocess.run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, image], check=True)
    if content is not None:
        image.write_bytes(content)
    write_sums(image)
    return image


def write_sums(image: Path) -> None:
    digest = hashlib.sha512(image.read_bytes()).hexdigest()
    (image.parent / "SHA512SUMS").write_text(f"{'0' * 128}  other.qcow2\n{digest}  {image.name}\n")


def wanted(server: TlsServer) -> CloudImage:
    return find_cloud_image("debian-13", arch="x86_64", environment={"VMKIT_DEBIAN_IMAGES": server.address})


def fetch(server: TlsServer, store: ImageStore, report: Silent | None = None) -> Image:
    return fetch_image(wanted(server), store=store, runner=Runner(), report=report or Silent(), tag="cloud")


def kept(store: ImageStore) -> list[Path]:
    return [path for path in (store.root / "downloads").rglob("*") if path.is_file() and path.suffix != ".lock"]


def refused(server: TlsServer, store: ImageStore, match: str, kind: type[VmkitError] = Refused) -> VmkitError:
    with pytest.raises(kind, match=match) as caught:
        fetch(server, store)
    assert store.list() == ()
    return caught.value


def test_an_image_is_fetched_checked_and_stored(server: TlsServer, store: ImageStore) -> None:
    report = Noting()

    image = fetch(server, store, report)

    digest = hashlib.sha512((server.root / "trixie/latest" / NAME).read_bytes()).hexdigest()
    assert (image.name, image.arch, image.boot) == ("debian-13:cloud", "x86_64", "uefi")
    assert image.release == f"{NAME} sha512:{digest}"
    assert image.disk.read_bytes() == (server.root / "raw").read_bytes()
    assert any("Debian does not sign" in note for note in report.notes)
    assert (server.root / "trixie/latest" / NAME).stat().st_size in {total for _, total in report.seen}
    assert kept(store) == []


def test_what_is_there_is_not_fetched_again_and_what_is_new_is(server: TlsServer, store: ImageStore) -> None:
    first = fetch(server, store)
    again = fetch(server, store)
    asked = len(server.ranges())
    publish(server)
    newer = fetch(server, store)

    assert again.digest == first.digest
    assert asked == 1
    assert newer.digest != first.digest
    assert store.get("debian-13:cloud").digest == newer.digest


def test_an_image_of_another_kind_of_computer_gets_a_tag_of_its_own(server: TlsServer, store: ImageStore) -> None:
    other = replace(wanted(server), arch="aarch64")
    ours = replace(wanted(server), arch="x86_64")

    names = {
        fetch_image(image, store=store, runner=Runner(), report=Silent()).name.partition(":")[2]
        for image in (other, ours)
    }

    assert len(names) == 2
    assert "latest" in names


@pytest.mark.parametrize("ignore_ranges", [False, True])
def test_a_line_that_breaks_twice_is_taken_up_again(server: TlsServer, store: ImageStore, ignore_ranges: bool) -> None:
    server.faults = Faults(cut_after=1 << 20, cuts=2, ignore_ranges=ignore_ranges)

    fetch(server, store)

    assert server.ranges()[0] is None
    assert all(ranges and ranges != "bytes=0-" for ranges in server.ranges()[1:])
    assert len(server.ranges()) == 3


def test_a_killed_fetch_goes_on_where_it_was(server: TlsServer, store: ImageStore, tmp_path: Path) -> None:
    server.faults = Faults(stall_after=1 << 20)
    home = tmp_path / "home"
    environment = {**os.environ, "VMKIT_HOME": str(home), "VMKIT_DEBIAN_IMAGES": server.address}
    argv = [SCRIPT, "image", "fetch", "debian-13", "--arch", "x86_64", "--tag", "cloud"]

    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE) as first:
        end = time.monotonic() + 60
        while not [path for path in kept(ImageStore(home / "images")) if path.stat().st_size >= 1 << 20]:
            assert time.monotonic() < end
            assert first.poll() is None
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
    [partial] = kept(ImageStore(home / "images"))
    size = partial.stat().st_size
    server.faults.release.set()
    server.faults = Faults()
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "debian-13:cloud" in done.stdout
    assert server.ranges()[-1] == f"bytes={size}-"
    assert kept(ImageStore(home / "images")) == []


def test_two_at_once_download_once(server: TlsServer, store: ImageStore) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as both:
        images = [future.result() for future in [both.submit(fetch, server, store) for _ in range(2)]]

    assert images[0].digest == images[1].digest
    assert len(server.ranges()) == 1


def test_a_wrong_digest_is_refused_and_nothing_is_kept(server: TlsServer, store: ImageStore) -> None:
    server.faults = Faults(flip=True)

    error = refused(server, store, "does not have the digest")

    assert "expected sha512" in (error.detail or "")
    assert kept(store) == []


def test_what_came_of_an_older_image_is_not_joined_to_a_newer(server: TlsServer, store: ImageStore) -> None:
    server.faults = Faults(cut_after=1 << 20, cuts=100, says_more=0, ignore_ranges=True)
    refused(server, store, "cannot fetch", Unreachable)
    assert len(kept(store)) == 1
    server.faults = Faults()
    publish(server)

    fetch(server, store)

    assert server.ranges()[-1] is None
    assert kept(store) == []


def test_a_server_that_promises_more_than_it_has_is_given_up(server: TlsServer, store: ImageStore) -> None:
    server.faults = Faults(says_more=1000, ignore_ranges=True)

    error = refused(server, store, "cannot fetch", Unreachable)

    assert "kept" in (error.hint or "")


def test_a_server_nobody_vouches_for_is_not_talked_to(
    server: TlsServer, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")

    error = refused(server, store, "cannot fetch", Unreachable)

    assert "certificate" in (error.detail or "").lower()
    assert server.requests == []


@pytest.mark.parametrize(
    ("faults", "match"),
    [
        (Faults(redirect_to="http://mirror.example/image.qcow2"), "redirects to an address that is not https"),
        (Faults(suffix="SHA512SUMS", redirect_to="http://mirror.example/SHA512SUMS"), "not https"),
        (Faults(redirect_to="file:///etc/passwd"), "not https"),
        (Faults(html=True), "answered with a web page"),
        (Faults(suffix="SHA512SUMS", html=True), "answered with a web page"),
        (Faults(suffix="SHA512SUMS", status=404), "no list of digests"),
        (Faults(status=404), "in the list of digests but not on the server"),
    ],
)
def test_a_server_that_answers_something_else_is_refused(
    server: TlsServer, store: ImageStore, faults: Faults, match: str
) -> None:
    server.faults = faults

    refused(server, store, match)

    assert kept(store) == []


def test_a_list_without_the_image_is_refused_before_the_image_is_asked_for(
    server: TlsServer, store: ImageStore
) -> None:
    (server.root / "trixie/latest/SHA512SUMS").write_text(f"{'0' * 128}  other.qcow2\n")

    refused(server, store, "no digest for")

    assert server.ranges() == []


def test_a_redirect_that_stays_with_tls_is_followed(server: TlsServer, store: ImageStore) -> None:
    elsewhere = server.root / "mirror.img"
    shutil.copy(server.root / "trixie/latest" / NAME, elsewhere)
    server.faults = Faults(redirect_to=f"{server.address}/mirror.img")

    assert fetch(server, store).name == "debian-13:cloud"


def test_an_image_that_names_another_file_is_refused_and_not_kept(
    server: TlsServer, store: ImageStore, tmp_path: Path
) -> None:
    image = server.root / "trixie/latest" / NAME
    (tmp_path / "secret").write_bytes(b"canary" * 1000)
    backing = ["-F", "raw", "-b", str(tmp_path / "secret")]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(image)], check=True)
    write_sums(image)

    refused(server, store, "backing file")

    assert kept(store) == []


@pytest.mark.parametrize("content", [bytes(1 << 20), b"KDMV" + bytes(1 << 20), b"QFI\xfb" + bytes(1 << 20)])
def test_a_file_that_is_no_qcow2_is_refused_whatever_its_digest(
    server: TlsServer, store: ImageStore, content: bytes
) -> None:
    publish(server, content=content)

    refused(server, store, "qcow2|VMDK")

    assert kept(store) == []


# A publisher that signs. The list was signed once with a key made for these tests; what it lists are no disks.


@pytest.fixture
def signing(server: TlsServer) -> CloudImage:
    folder = server.root / "noble"
    folder.mkdir()
    shutil.copy(DATA / "SHA256SUMS", folder)
    shutil.copy(DATA / "SHA256SUMS.gpg", folder)
    (folder / "ubuntu-24.04-server-cloudimg-amd64.img").write_bytes(b"one")
    signer = Signer(
        signature_name="SHA256SUMS.gpg",
        fingerprint="3ECC190CEB6F318931BC1941ED4FC88498DB37AB",
        keyring=DATA / "key.gpg",
    )
    publisher = Publisher(
        title="Ubuntu", base="https://x", variable="X", algorithm="sha256", sums_name="SHA256SUMS", signer=signer
    )
    return CloudImage(
        name="ubuntu-24.04",
        arch="x86_64",
        publisher=publisher,
        folder=f"{server.address}/noble",
        file_name="ubuntu-24.04-server-cloudimg-amd64.img",
    )


def fails(image: CloudImage, store: ImageStore, match: str, *, runner: Runner | None = None) -> list[str]:
    report = Noting()
    with pytest.raises(Refused, match=match):
        fetch_image(image, store=store, runner=runner or Runner(), report=report)
    return report.notes


@pytest.mark.skipif(shutil.which("gpgv") is None, reason="needs gpgv")
def test_a_signed_list_is_believed(server: TlsServer, signing: CloudImage, store: ImageStore) -> None:
    notes = fails(signing, store, "is not a qcow2 disk")

    assert len(server.ranges(".img")) == 1
    assert notes == []


@pytest.mark.skipif(shutil.which("gpgv") is None, reason="needs gpgv")
@pytest.mark.parametrize(("name", "match"), [("other.gpg", "not signed by"), (None, "has no signature")])
def test_without_the_publishers_signature_nothing_is_downloaded(
    server: TlsServer, signing: CloudImage, store: ImageStore, name: str | None, match: str
) -> None:
    signature = server.root / "noble/SHA256SUMS.gpg"
    signature.unlink()
    if name:
        shutil.copy(DATA / name, signature)

    fails(signing, store, match)

    assert server.ranges(".img") == []


def test_without_gpgv_the_user_is_told_what_vouches(signing: CloudImage, store: ImageStore) -> None:
    notes = fails(signing, store, "is not a qcow2 disk", runner=WithoutGpgv())

    assert any("was not checked" in note and "gpgv" in note for note in notes)
