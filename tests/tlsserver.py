"""A publisher on loopback: a folder over TLS with a certificate authority of its own, ranges, and faults on demand."""

import datetime as dt
import ipaddress
import re
import socket
import ssl
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_BLOCK = 256 << 10


@dataclass
class Faults:
    """What goes wrong with files whose names end with `suffix`."""

    suffix: str = ".qcow2"
    cut_after: int | None = None  # hang up after so many bytes of an answer
    cuts: int = 1  # how many times
    ignore_ranges: bool = False
    says_more: int = 0  # promise so many bytes more than come
    html: bool = False
    redirect_to: str | None = None
    status: int | None = None
    flip: bool = False  # the last byte is another
    stall_after: int | None = None  # send so many bytes of an answer, then nothing until `release` is set
    release: threading.Event = field(default_factory=threading.Event)


@dataclass
class TlsServer:
    """Serve `root`. `ca_file` is what a client has to trust; `requests` keeps path and Range."""

    root: Path
    work: Path
    faults: Faults = field(default_factory=Faults)
    name: str = "localhost"  # another one than this too
    listener: socket.socket | None = None  # to serve on, instead of a port of this computer
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ca_file, context = certificates(self.work, self.name)
        self._http = _Http(("127.0.0.1", 0), partial(_Handler, self), bind_and_activate=self.listener is None)
        if self.listener:
            self._http.socket.close()
            self._http.socket = self.listener
        self._http.daemon_threads = True
        # The handshake is each connection's own: one that stalls must not stop the others.
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self) -> int:
        return self._http.server_port

    @property
    def address(self) -> str:
        return f"https://localhost:{self.port}"

    def ranges(self, suffix: str = ".qcow2") -> list[str | None]:
        """Return the ranges asked of the files whose names end so."""
        return [wanted for path, wanted in self.requests if path.endswith(suffix)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that hang up or do not trust us."""
        if not isinstance(sys.exc_info()[1], ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, owner: TlsServer, *arguments: object) -> None:
        self.owner = owner
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.owner.requests.append((self.path, wanted))
        faults = self.owner.faults if self.path.endswith(self.owner.faults.suffix) else Faults()
        path = self.owner.root / self.path.partition("?")[0].lstrip("/")
        if faults.redirect_to is not None:
            return self._head(302, Location=faults.redirect_to)
        if faults.html:
            self._head(200, size=6, **{"Content-Type": "text/html"})
            self.wfile.write(b"<html>")
            return None
        if faults.status or ".." in self.path or not path.is_file():
            return self._head(faults.status or 404)
        return self._file(path, None if faults.ignore_ranges else wanted, faults)

    def _file(self, path: Path, wanted: str | None, faults: Faults) -> None:
        total = path.stat().st_size
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        start = int(match[1]) if match else 0
        if match and start >= total:
            return self._head(416, **{"Content-Range": f"bytes */{total}"})
        extra = {"Content-Range": f"bytes {start}-{total - 1}/{total}"} if match else {}
        self._head(206 if match else 200, size=total - start + faults.says_more, **extra)
        left = total - start
        cut = faults.cut_after if faults.cuts > 0 else None
        if cut is not None and cut < left:
            faults.cuts -= 1
            left = cut
        with path.open("rb") as file:
            file.seek(start)
            while left and (block := file.read(min(_BLOCK, left))):
                left -= len(block)
                if faults.flip and not left:
                    block = block[:-1] + bytes([block[-1] ^ 1])
                self.wfile.write(block)
                if faults.stall_after is not None and file.tell() - start >= faults.stall_after:
                    faults.release.wait(60)
        self.close_connection = cut is not None or faults.says_more > 0
        return None

    def _head(self, status: int, *, size: int = 0, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/octet-stream"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()


def certificates(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate authority and a server's certificate; return what to trust, and what to serve with."""
    now = dt.datetime.now(dt.UTC)

    def make(name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named("vmkit tests"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = make("vmkit tests", ca_key, ca=True).sign(ca_key, hashes.SHA256())
    names = x509.SubjectAlternativeName(
        [*map(x509.DNSName, {"localhost", name}), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    certificate = make("localhost", key, ca=False).add_extension(names, critical=False).sign(ca_key, hashes.SHA256())
    ca_file, chain = folder / "ca.pem", folder / "server.pem"
    ca_file.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return ca_file, context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
