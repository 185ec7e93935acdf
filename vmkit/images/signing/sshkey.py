"""OpenSSH public keys as values: the bytes, their kind, the fingerprint that `ssh-keygen -l` shows."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from vmkit.errors import Refused
from vmkit.host.text import printable

# The kinds vmkit takes, and of how many strings each consists: OpenSSH's PROTOCOL.u2f, RFC 4253, 5656, 8709.
_FIELDS = {
    "ssh-ed25519": 2,
    "sk-ssh-ed25519@openssh.com": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
    "ssh-rsa": 3,
}
_MAX_KEY_BYTES = 4096  # an RSA key of 16384 bits takes half of it
_MIN_RSA_BITS = 2048
_LINE = re.compile(r"([a-z0-9@.-]{1,64})[ \t]+([A-Za-z0-9+/]{1,6000}={0,2})(?:[ \t][^\r\n]{0,500})?\r?\n?")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key, as the bytes of its wire format (RFC 4253, 6.6). Made by `parse_public_key` and `parse_key_bytes`."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as OpenSSH writes it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """`KIND BASE64`, as in a `.pub` file, without the comment."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"


def parse_public_key(text: bytes, *, what: str) -> PublicKey:
    """Read the one line of a `.pub` file. Raises Refused for anything else: a private key, a certificate, two keys."""
    try:
        match = _LINE.fullmatch(text.decode("ascii", "replace"))
        blob = base64.b64decode(match[2], validate=True) if match else b""
    except binascii.Error:
        match = None
    if not match:
        hint = "ssh-keygen -y -f KEY prints a key's public half" if b"PRIVATE KEY" in text else "use a .pub file"
        raise Refused(f"{what} is not an OpenSSH public key", hint=hint)
    key = parse_key_bytes(blob, what=what)
    if key.kind != match[1]:
        raise Refused(f"{what} says {printable(match[1])} and holds {key.kind}")
    return key


def parse_key_bytes(blob: bytes, *, what: str) -> PublicKey:
    """Read a key's wire format. Raises Refused for a kind that vmkit does not take, or a short RSA key."""
    fields = split_strings(blob, what=what) if len(blob) <= _MAX_KEY_BYTES else []
    kind = fields[0].decode("ascii", "replace") if fields else ""
    if kind not in _FIELDS:
        raise Refused(f"{what} is of a kind that vmkit does not take", detail=printable(kind, max_chars=80))
    if len(fields) != _FIELDS[kind]:
        raise Refused(f"{what} is cut short")
    if kind == "ssh-rsa":
        bits = int.from_bytes(fields[2]).bit_length()
        if bits < _MIN_RSA_BITS:
            raise Refused(f"{what} is a short RSA key", detail=f"{bits} bits; {_MIN_RSA_BITS} are the least")
    return PublicKey(kind, blob)


def split_strings(blob: bytes, *, what: str) -> list[bytes]:
    """Split SSH strings, each with its length in four bytes before it (RFC 4251, 5). Raises Refused."""
    fields: list[bytes] = []
    while blob:
        length = int.from_bytes(blob[:4])
        if len(blob) < 4 + length or len(blob) < 4:
            raise Refused(f"{what} is cut short")
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields
