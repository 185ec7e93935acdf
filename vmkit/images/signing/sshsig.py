"""SSH signatures: read their envelope here, have `ssh-keygen -Y` make and check them.

The envelope (OpenSSH's PROTOCOL.sshsig) says which key and for which purpose; only ssh-keygen says whether it is true.
"""

import base64
import binascii
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import Refused, ToolFailed, UsageError
from vmkit.host.process import Runner
from vmkit.host.text import printable_lines
from vmkit.images.signing.referrer import MAX_SIGNATURE_BYTES
from vmkit.images.signing.sshkey import PublicKey, parse_key_bytes, split_strings

NAMESPACE = "vmkit-image@v1"  # nothing else that a key signs, a git commit for one, can stand for an image

_SIGNER = "signer"  # whose key it is, is not ssh-keygen's question
_TOUCH_S = 120.0  # a hardware key waits for a finger
_ARMOR = re.compile(
    rb"-----BEGIN SSH SIGNATURE-----\r?\n([A-Za-z0-9+/=\r\n]{1,16000})\r?\n-----END SSH SIGNATURE-----\r?\n?"
)
_MAGIC, _VERSION = b"SSHSIG", (1).to_bytes(4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """What a signature says of itself. Not checked: anybody can write one."""

    key: PublicKey
    namespace: str


def parse_envelope(armored: bytes) -> Envelope:
    """Read a signature's envelope. Raises Refused."""
    match = _ARMOR.fullmatch(armored) if len(armored) <= MAX_SIGNATURE_BYTES else None
    try:
        content = base64.b64decode(match[1].replace(b"\r", b"").replace(b"\n", b""), validate=True) if match else b""
    except binascii.Error:
        content = b""
    if not content.startswith(_MAGIC + _VERSION):
        raise Refused("the signature is not an SSH signature")
    fields = split_strings(content.removeprefix(_MAGIC + _VERSION), what="the signature")
    if len(fields) != 5:
        raise Refused("the signature is not an SSH signature", detail=f"{len(fields)} fields")
    key, namespace, _reserved, _hash, _signature = fields
    return Envelope(
        key=parse_key_bytes(key, what="the signature's key"), namespace=namespace.decode("utf-8", "backslashreplace")
    )


def sign(content: bytes, *, key: Path, runner: Runner) -> bytes:
    """Sign with a private key's file, or with a `.pub` file whose private half an agent or a hardware key holds.

    Raises UsageError when there is no such file, ToolFailed with what ssh-keygen said, HostLacks without it.
    """
    if not key.is_file():
        raise UsageError(f'there is no key "{key}"', hint="--key ~/.ssh/id_ed25519, or the .pub of a key in ssh-agent")
    with tempfile.TemporaryDirectory(prefix="vmkit-sign-") as name:
        statement = Path(name) / "statement"
        statement.write_bytes(content)
        agent = {
            name: os.environ[name] for name in ("SSH_AUTH_SOCK",) if name in os.environ
        }  # no other program gets it
        # Nobody can type a passphrase: stdin is closed, and the program has no terminal.
        # fmt: off
        argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key.absolute()), str(statement)]
        # fmt: on
        try:
            runner.run(argv, timeout_s=_TOUCH_S, env=agent)
        except ToolFailed as error:
            raise ToolFailed(
                f'ssh-keygen could not sign with "{key}"',
                detail=error.detail,
                hint=f"a key with a passphrase: ssh-add {key}, then --key {key}.pub",
            ) from None
        return statement.with_suffix(".sig").read_bytes()


def is_signed(
    content: bytes,
    armored: bytes,
    *,
    key: PublicKey,
    revoked: Sequence[PublicKey],
    runner: Runner,
) -> bool:
    """Tell whether ssh-keygen finds the signature good: of `content`, by that key, in our namespace.

    Raises HostLacks without ssh-keygen, TimedOut.
    """
    with tempfile.TemporaryDirectory(prefix="vmkit-verify-") as name:
        folder = Path(name)
        (folder / "signature").write_bytes(armored)
        # One key and one name: what ssh-keygen reads here cannot be read in two ways.
        (folder / "allowed").write_text(f'{_SIGNER} namespaces="{NAMESPACE}" {key.line}\n')
        (folder / "revoked").write_text("".join(f"{key.line}\n" for key in revoked))
        # fmt: off
        done = runner.run([
            "ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", _SIGNER, "-f", str(folder / "allowed"),
            "-s", str(folder / "signature"),
            *(["-r", str(folder / "revoked")] if revoked else []),
        ], stdin=content, ok_codes=None)
        # fmt: on
    return done.code == 0


def check_made(content: bytes, armored: bytes, *, runner: Runner) -> Envelope:
    """Return the envelope of a signature that was just made. Raises ToolFailed when it does not hold."""
    envelope = parse_envelope(armored)
    with tempfile.TemporaryDirectory(prefix="vmkit-verify-") as name:
        signature = Path(name) / "signature"
        signature.write_bytes(armored)
        argv = ["ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(signature)]
        done = runner.run(argv, stdin=content, ok_codes=None)
    if done.code != 0 or envelope.namespace != NAMESPACE:
        said = "\n".join(printable_lines(done.stderr, max_lines=6))
        raise ToolFailed("ssh-keygen made a signature that does not hold", detail=said)
    return envelope
