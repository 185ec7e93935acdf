"""Releases over real sockets: a good mirror, and each way in which one can be bad."""

import contextlib
import datetime as dt
import hashlib
import http.server
import os
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.kirosim.mirror import VERSION, Fault, build_mirror
from tests.kirosim.server import Server
from vmkit.errors import HostLacks, NotFound, Refused, UsageError, VmkitError
from vmkit.host.report import Silent
from vmkit.kiro.release import Libc, Release, choose, fetch, fetch_release, read_manifest

NAME = "kirocli-x86_64-linux.tar.gz"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    root = build_mirror(tmp_path / "mirror", service="http://10.0.2.2:1")
    with Server(mirror=root) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def get(base: str, cache: Path, *, version: str | None = None, arch: str = "x86_64") -> Release:
    return fetch_release(
        arch=arch, libc=Libc.GLIBC, glibc_version=(2, 41), cache=cache, report=Silent(), version=version, base=base
    )


def archive_requests(server: Server) -> list[str | None]:
    return [ranges for _, path, ranges in server.requests if path.endswith(NAME)]


@pytest.mark.parametrize("version", [None, VERSION])
def test_release_is_fetched_and_verified(server: Server, cache: Path, version: str | None) -> None:
    release = get(server.releases, cache, version=version)

    assert release.version == VERSION
    assert release.archive == cache / "kiro" / f"sha256-{release.sha256}" / NAME
    assert hashlib.sha256(release.archive.read_bytes()).hexdigest() == release.sha256
    with tarfile.open(release.archive) as archive:
        assert "kirocli/bin/kiro-cli-chat" in archive.getnames()


def test_release_is_fetched_from_a_folder(tmp_path: Path, cache: Path) -> None:
    root = build_mirror(tmp_path / "with space", service="http://10.0.2.2:1")

    release = get(root.as_uri(), cache)

    assert release.archive.read_bytes() == (root / VERSION / NAME).read_bytes()


def test_release_is_fetched_once(server: Server, cache: Path) -> None:
    get(server.releases, cache)
    get(server.releases, cache)

    assert archive_requests(server) == [None]


def test_damaged_cache_is_fetched_again(server: Server, cache: Path) -> None:
    archive = get(server.releases, cache).archive
    good = archive.read_bytes()
    archive.write_bytes(b"?" * len(good))

    get(server.releases, cache)

    assert archive.read_bytes() == good


def test_connection_that_breaks_is_taken_up_where_it_was(server: Server, cache: Path) -> None:
    server.faults.cut_after, server.faults.cuts = 3000, 2

    release = get(server.releases, cache)

    assert hashlib.sha256(release.archive.read_bytes()).hexdigest() == release.sha256
    assert archive_requests(server) == [None, "bytes=3000-", "bytes=6000-"]


def test_server_without_ranges_is_asked_for_everything(server: Server, cache: Path) -> None:
    server.faults.cut_after, server.faults.ignore_ranges = 3000, True

    release = get(server.releases, cache)

    assert hashlib.sha256(release.archive.read_bytes()).hexdigest() == release.sha256


def test_killed_download_is_resumed(tmp_path: Path, cache: Path) -> None:
    root = build_mirror(tmp_path / "mirror", service="http://10.0.2.2:1")
    with _dripping(root / VERSION / NAME, first=4000) as port, Server(mirror=root) as server:
        server.faults.redirect_to = f"http://127.0.0.1:{port}/"
        program = (
            "import sys; from pathlib import Path; from vmkit.host.report import Silent\n"
            "from vmkit.kiro.release import *\n"
            "fetch_release(arch='x86_64', libc=Libc.GLIBC, glibc_version=(2, 41), cache=Path(sys.argv[1]),"
            " report=Silent(), base=sys.argv[2])"
        )
        child = subprocess.Popen([sys.executable, "-c", program, str(cache), server.releases])
        partial = _wait_for_partial(cache, size=4000)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()

        assert partial.stat().st_size == 4000
        assert not partial.with_name(NAME).exists()

        server.faults.redirect_to = None
        release = get(server.releases, cache)

    assert hashlib.sha256(release.archive.read_bytes()).hexdigest() == release.sha256
    assert archive_requests(server)[-1] == "bytes=4000-"
    assert not partial.exists()


def test_two_at_once_fetch_once(server: Server, cache: Path) -> None:
    releases: list[Release] = []
    threads = [threading.Thread(target=lambda: releases.append(get(server.releases, cache))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({release.archive for release in releases}) == 1
    assert archive_requests(server) == [None]


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (Fault.DIGEST, Refused, "does not have the digest that was promised"),
        (Fault.TRUNCATED, Refused, f'"{NAME}" is truncated: the server has'),
        (Fault.HTML, Refused, "is a web page, not a release manifest"),
        (Fault.MISSING, NotFound, "is in the manifest but not on the server"),
    ],
)
@pytest.mark.parametrize("scheme", ["file", "http"])
def test_bad_mirror_has_its_own_message(
    tmp_path: Path, cache: Path, scheme: str, fault: Fault, kind: type[VmkitError], message: str
) -> None:
    root = build_mirror(tmp_path / "mirror", service="http://10.0.2.2:1", fault=fault)
    with Server(mirror=root) as server, pytest.raises(kind, match=message):
        get(server.releases if scheme == "http" else root.as_uri(), cache)

    assert list(cache.rglob(NAME)) == []


def test_architecture_that_is_missing_is_named(tmp_path: Path, cache: Path) -> None:
    root = build_mirror(tmp_path / "mirror", service="http://10.0.2.2:1", fault=Fault.NO_AARCH64)

    with pytest.raises(NotFound, match=r'Kiro CLI 2\.24\.1 has no archive for "aarch64"') as caught:
        get(root.as_uri(), cache, arch="aarch64")

    assert caught.value.exit_code == 3


def test_version_that_is_not_there_is_named(server: Server, cache: Path) -> None:
    with pytest.raises(NotFound, match=r'there is no Kiro CLI "9\.9\.9"') as caught:
        get(server.releases, cache, version="9.9.9")

    assert caught.value.exit_code == 3


def test_version_must_be_the_one_asked_for(server: Server, cache: Path) -> None:
    assert server.mirror is not None
    (server.mirror / "1.0.0").mkdir()
    (server.mirror / "1.0.0" / "manifest.json").write_bytes((server.mirror / "latest" / "manifest.json").read_bytes())

    with pytest.raises(Refused, match=f'the manifest of Kiro CLI "1.0.0" is that of "{VERSION}"'):
        get(server.releases, cache, version="1.0.0")


@pytest.mark.parametrize("version", ["../latest", "..", "", "2 24", "a/b", "\x1b[2J"])
def test_version_that_is_none_is_a_usage_error(server: Server, version: str) -> None:
    with pytest.raises(UsageError):
        read_manifest(server.releases, version)
    assert server.requests == []


def test_mirror_without_releases_says_so(tmp_path: Path) -> None:
    with pytest.raises(HostLacks, match="there are no Kiro CLI releases at"):
        read_manifest(tmp_path.as_uri())


def test_unreachable_host_is_named_with_the_way_out() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unused.getsockname()[1]}/stable"

        with pytest.raises(HostLacks, match="cannot fetch") as caught:
            read_manifest(base)

    assert caught.value.exit_code == 7
    assert f"{base}/latest/manifest.json" in caught.value.message
    assert "VMKIT_KIRO_RELEASES" in (caught.value.hint or "")


def test_server_that_fails_is_not_a_missing_release(server: Server, cache: Path) -> None:
    server.faults.status = 503

    with pytest.raises(HostLacks, match="was answered with HTTP 503"):
        get(server.releases, cache)


def test_web_page_instead_of_an_archive_is_refused(server: Server, cache: Path) -> None:
    server.faults.html = True

    with pytest.raises(Refused, match="was answered with a web page"):
        get(server.releases, cache)


def test_archive_that_never_ends_is_refused(server: Server, cache: Path) -> None:
    package = choose(read_manifest(server.releases), arch="x86_64", libc=Libc.GLIBC, glibc_version=(2, 41))
    smaller = replace(package, size_bytes=1000)

    with pytest.raises(Refused, match="larger than it should be"):
        fetch(smaller, cache=cache, report=Silent())


def test_manifest_that_never_ends_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "manifest.json").write_bytes(b" " * ((1 << 20) + 1))

    with pytest.raises(Refused, match="larger than 1048576 bytes"):
        read_manifest(tmp_path.as_uri())


@pytest.mark.parametrize("target", ["http://192.0.2.1/x", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirect_to_what_is_not_https_is_refused(server: Server, cache: Path, target: str) -> None:
    server.faults.redirect_to = target

    with pytest.raises(Refused, match="redirects to an address that is not https") as caught:
        get(server.releases, cache)

    assert caught.value.detail == target


def test_redirects_end(server: Server, cache: Path) -> None:
    server.faults.redirect_to = f"{server.releases}/{VERSION}/{NAME}"

    with pytest.raises(Refused, match="redirects more than 5 times"):
        get(server.releases, cache)


def test_redirect_from_https_to_http_is_refused_even_on_loopback(tmp_path: Path, server: Server) -> None:
    with _https_redirector(tmp_path, to=f"{server.releases}/latest/manifest.json") as (base, certificate):
        done = subprocess.run(
            [sys.executable, "-c", f"from vmkit.kiro.release import read_manifest; read_manifest({base!r})"],
            env={**os.environ, "SSL_CERT_FILE": str(certificate)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert "Refused" in done.stderr
    assert "redirects to an address that is not https" in done.stderr
    assert server.requests == []


def _wait_for_partial(cache: Path, *, size: int) -> Path:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for found in cache.rglob("*.partial"):
            if found.stat().st_size >= size:
                return found
        time.sleep(0.02)
    raise AssertionError("nothing came")


@contextlib.contextmanager
def _dripping(path: Path, *, first: int) -> Iterator[int]:
    """Serve `first` bytes of a file, then nothing more, and keep the connection open."""
    content, ended = path.read_bytes(), threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content[:first])
                ended.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()


@contextlib.contextmanager
def _https_redirector(folder: Path, *, to: str) -> Iterator[tuple[str, Path]]:
    """Answer everything over TLS with a redirect."""
    certificate = _self_signed(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", to)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"https://localhost:{server.server_port}", certificate
    finally:
        server.shutdown()
        server.server_close()


def _self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
