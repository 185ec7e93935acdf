"""Public keys: what OpenSSH writes is read, and nothing else."""

import base64

import pytest

from vmkit.errors import Refused
from vmkit.images.signing.sshkey import parse_key_bytes, parse_public_key

# made by ssh-keygen of OpenSSH 9.2, which prints this fingerprint for it
BASE64 = "AAAAC3NzaC1lZDI1NTE5AAAAIG/+NOja+pA3n5OJwFz5wfsEibsgdg0YgcBbqcHMIlT3"
LINE = f"ssh-ed25519 {BASE64}"
FINGERPRINT = "SHA256:rj3AaiRYvVUZ8q2YjUQT5FJmwsGIfna3KicGAPFGPOc"


def string(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content


def line(kind: str, *fields: bytes) -> bytes:
    blob = b"".join(string(field) for field in (kind.encode(), *fields))
    return f"{kind} {base64.b64encode(blob).decode()}".encode()


@pytest.mark.parametrize("text", [LINE, f"{LINE}\n", f"{LINE} alice@host\r\n", f"{LINE} any words \x1b[2J"])
def test_a_pub_file_is_read(text):
    key = parse_public_key(text.encode(), what="it")

    assert (key.kind, key.line, key.fingerprint) == ("ssh-ed25519", LINE, FINGERPRINT)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not an OpenSSH public key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nxx\n", "not an OpenSSH public key"),
        (f"{LINE}\n{LINE}\n".encode(), "not an OpenSSH public key"),
        (f'command="x" {LINE}'.encode(), "not an OpenSSH public key"),
        (b"ssh-ed25519 AAA", "not an OpenSSH public key"),
        (b"ssh-ed25519 " + b"A" * 9000, "not an OpenSSH public key"),
        (f"ssh-rsa {BASE64}".encode(), "says ssh-rsa and holds ssh-ed25519"),
        (f"ssh-ed25519 {BASE64[:40]}".encode(), "cut short"),
        (line("ssh-dss", b"1", b"2"), "does not take"),
        (line("ssh-ed25519-cert-v01@openssh.com", b"x"), "does not take"),
        (line("ssh-rsa", b"\x01\x00\x01", b"\x7f" * 128), "short RSA key"),
        (line("ssh-rsa"), "cut short"),
    ],
)
def test_anything_else_is_refused(text, words):
    with pytest.raises(Refused, match=words):
        parse_public_key(text, what="it")


def test_no_prefix_of_a_key_is_a_key():
    blob = base64.b64decode(BASE64)

    for length in range(len(blob)):
        with pytest.raises(Refused):
            parse_key_bytes(blob[:length], what="it")
