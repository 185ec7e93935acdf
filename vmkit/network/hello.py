"""Read the ClientHello that opens a TLS connection, whole or in fragments, for the one name it asks for."""

import asyncio
from dataclasses import dataclass

from vmkit.errors import Refused

MAX_HELLO_BYTES = 16 << 10
MAX_RECORD_BYTES = 1 << 14  # RFC 8446, 5.1

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0


@dataclass(frozen=True, slots=True)
class Hello:
    """What was read, byte for byte, and the server name in it (as sent: not checked)."""

    raw: bytes
    server_name: bytes


async def read_hello(reader: asyncio.StreamReader) -> Hello:
    """Read records until the first handshake message is whole. Raises Refused, EOFError when the peer hung up."""
    raw, message = b"", b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4]):
        header = await reader.readexactly(5)
        size = int.from_bytes(header[3:])
        if header[0] != _HANDSHAKE or header[1] != 3:
            raise Refused("what follows CONNECT is not TLS")
        if not 0 < size <= MAX_RECORD_BYTES:
            raise Refused("a TLS record of impossible length")
        if len(raw) + 5 + size > MAX_HELLO_BYTES:
            raise Refused(f"the TLS hello is longer than {MAX_HELLO_BYTES >> 10} KiB")
        payload = await reader.readexactly(size)
        raw += header + payload
        message += payload
        if message[0] != _CLIENT_HELLO:
            raise Refused("TLS does not begin with a hello")
        if len(message) >= 4 and int.from_bytes(message[1:4]) > MAX_HELLO_BYTES:
            raise Refused(f"the TLS hello is longer than {MAX_HELLO_BYTES >> 10} KiB")
    return Hello(raw, server_name(message))


def server_name(message: bytes) -> bytes:
    """Return the one host name in a ClientHello. Raises Refused when there is none, or more than one, or a bad length.

    With Encrypted Client Hello this is the outer name, the one that the network sees.
    """
    handshake = _Reader(message)
    handshake.take(1)
    body = _Reader(handshake.block(3))
    handshake.end()
    body.take(2 + 32)  # version, random
    body.block(1)  # session
    body.block(2)  # cipher suites
    body.block(1)  # compression
    extensions = _Reader(body.block(2)) if body.left else body
    body.end()
    names: list[bytes] = []
    seen = set()
    while extensions.left:
        kind, content = extensions.number(2), extensions.block(2)
        if kind in seen:
            raise Refused("the TLS hello names an extension twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            names = _names(content)
    if len(names) != 1:
        raise Refused("the TLS hello has no server name" if not names else "the TLS hello has several server names")
    return names[0]


def _names(content: bytes) -> list[bytes]:
    outer = _Reader(content)
    entries = _Reader(outer.block(2))
    outer.end()
    names = []
    while entries.left:
        if entries.number(1) != _HOST_NAME:
            raise Refused("the TLS hello has a server name of an unknown kind")
        names.append(entries.block(2))
    return names


class _Reader:
    """Numbers and length-prefixed blocks; a length that does not fit is Refused."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise Refused("a length in the TLS hello is wrong")
        self._at += size
        return self._content[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def block(self, size: int) -> bytes:
        return self.take(self.number(size))

    def end(self) -> None:
        if self.left:
            raise Refused("a length in the TLS hello is wrong")
