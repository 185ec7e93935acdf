"""Read one proxy request's head, byte by byte strict: what two parsers could read differently is refused."""

import asyncio
import re
from dataclasses import dataclass

from vmkit.errors import Refused

MAX_HEAD_BYTES = 16 << 10
MAX_HEADERS = 64

_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(rb"[\x20-\x7e\t]*")
_PORT = re.compile(rb"[1-9][0-9]{0,4}")
_PATH = re.compile(rb"/[\x21\x22\x24-\x7e]*")  # no blank, no "#"
_SCHEME = b"http://"
_PLAIN_PORT = 80
_PLAIN_METHODS = (b"GET", b"HEAD")
# Said between two neighbours, not through them (RFC 9110, 7.6.1), or promising a body.
_HOP_BY_HOP = frozenset(
    b"connection proxy-connection proxy-authorization proxy-authenticate keep-alive te trailer upgrade expect"
    b" content-length host".split()
)


class Denied(Refused):
    """A request is turned down. `status` is HTTP's word for why, the hint what the user could do."""

    def __init__(self, message: str, *, status: int = 400, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `host` is as sent and not checked; `forward` is the head for the server, empty for CONNECT."""

    host: bytes
    port: int
    forward: bytes = b""

    @property
    def is_tunnel(self) -> bool:
        """Tell whether the guest asked for a tunnel (CONNECT) rather than for a page."""
        return not self.forward


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read and judge a head. Raises Denied, EOFError when the peer hung up before its end."""
    first = await reader.readexactly(1)
    if not b"A" <= first <= b"Z":  # TLS, SOCKS, or anything else that would never send a line
        raise Denied("this is an HTTP proxy, and what came is not HTTP")
    line = first + await _line(reader, MAX_HEAD_BYTES - 1)
    method, target, version = _request_line(line)
    headers = await _headers(reader, MAX_HEAD_BYTES - len(line))
    if method == b"CONNECT":
        host, port = _authority(target)
        _check_host_header(headers, host, port, required=False)
        _check_no_body(headers)
        return Request(host=host, port=port)
    if method not in _PLAIN_METHODS:
        raise Denied("this proxy knows CONNECT, and GET and HEAD of http:// addresses", status=405)
    if not target.startswith(_SCHEME):
        raise Denied("this is a proxy: the request needs CONNECT, or a whole http:// address")
    authority, _, path = target[len(_SCHEME) :].partition(b"/")
    host, port = _authority(authority) if b":" in authority else (authority, _PLAIN_PORT)
    if port != _PLAIN_PORT:
        raise Denied("plain HTTP is passed on to port 80 only; use https", status=403)
    if not _PATH.fullmatch(b"/" + path):
        raise Denied("the path of the address has a character that may not be in it")
    _check_host_header(headers, host, port, required=version == b"HTTP/1.1")
    _check_no_body(headers)
    return Request(host=host, port=port, forward=_forward(method, b"/" + path, version, host, headers))


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    words = line.split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0") or not _TOKEN.fullmatch(words[0]):
        raise Denied("the request line is not METHOD TARGET HTTP/1.1")
    return words[0], words[1], words[2]


async def _headers(reader: asyncio.StreamReader, room: int) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    while line := await _line(reader, room):
        room -= len(line) + 2
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Denied("a header is not NAME: VALUE")
        if len(headers) == MAX_HEADERS:
            raise Denied(f"more than {MAX_HEADERS} headers", status=431)
        headers.append((name.lower(), value.strip(b" \t")))
    return headers


async def _line(reader: asyncio.StreamReader, room: int) -> bytes:
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        line = b""
        room = 0
    if len(line) > room:
        raise Denied(f"the request's head is longer than {MAX_HEAD_BYTES >> 10} KiB", status=431)
    if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
        raise Denied("a line of the request does not end with CR LF, or has a CR or NUL in it")
    return line[:-2]


def _authority(text: bytes) -> tuple[bytes, int]:
    host, colon, port = text.rpartition(b":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
        raise Denied("the target is not HOST:PORT")
    return host, int(port)


def _check_host_header(headers: list[tuple[bytes, bytes]], host: bytes, port: int, *, required: bool) -> None:
    named = [value.lower() for name, value in headers if name == b"host"]
    if len(named) > 1:
        raise Denied("more than one Host header")
    if required and not named:
        raise Denied("no Host header")
    if named and named[0] not in (host.lower(), b"%b:%d" % (host.lower(), port)):
        raise Denied("the Host header names another host")


def _check_no_body(headers: list[tuple[bytes, bytes]]) -> None:
    lengths = [value for name, value in headers if name == b"content-length"]
    if any(name == b"transfer-encoding" for name, _ in headers) or lengths not in ([], [b"0"]):
        raise Denied("a request with a body is not passed on")


def _forward(method: bytes, path: bytes, version: bytes, host: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the head for the server: written anew, so that it says what was judged; one request a connection."""
    named = {
        word.strip(b" \t").lower() for name, value in headers if name == b"connection" for word in value.split(b",")
    }
    kept = [(name, value) for name, value in headers if name not in _HOP_BY_HOP and name not in named]
    head = [(b"host", host.lower()), *kept, (b"connection", b"close")]
    return b"%b %b %b\r\n" % (method, path, version) + b"".join(b"%b: %b\r\n" % pair for pair in head) + b"\r\n"
