"""Write a small TLS hello, for probes that begin to speak TLS and go no further."""

import struct


def client_hello(name: str) -> bytes:
    """Return one TLS record with a ClientHello for `name`; without a server name when it is empty."""
    entry = struct.pack(">BH", 0, len(name)) + name.encode()
    extensions = _block(struct.pack(">H", len(entry)) + entry, kind=0) if name else b""
    extensions += _block(b"\x02\x03\x04", kind=43)  # supported_versions: TLS 1.3
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions
    message = b"\1" + len(body).to_bytes(3) + body
    return struct.pack(">BHH", 22, 0x0301, len(message)) + message


def _block(content: bytes, *, kind: int) -> bytes:
    return struct.pack(">HH", kind, len(content)) + content
