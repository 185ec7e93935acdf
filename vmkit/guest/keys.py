"""Make a machine's keys: one for its user, one for its sshd, both known before it first starts."""

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import WrongState
from vmkit.host.files import own_directory, write_atomically


@dataclass(frozen=True, kw_only=True)
class Keys:
    """A machine's two Ed25519 key pairs, in OpenSSH's format. The private halves stay in their files."""

    user_key: Path
    user_public: str  # "ssh-ed25519 AAAA… vmkit", one line
    host_key: Path
    host_public: str


def make_keys(folder: Path) -> Keys:
    """Make `user_key` and `host_key`, each with its `.pub`, in `folder`. Raises FileExistsError, never overwrites."""
    make_user_key(folder)
    _make_pair(folder / "host_key")
    return load_keys(folder)


def make_user_key(folder: Path) -> str:
    """Make `user_key` alone, for a guest with a host key of its own; return the public line."""
    own_directory(folder)
    _make_pair(folder / "user_key")
    return (folder / "user_key.pub").read_text().strip()


def is_pinned(folder: Path) -> bool:
    """Tell whether the guest's host key is known."""
    return (folder / "host_key.pub").is_file()


def pin_host_key(folder: Path, line: str) -> None:
    """Keep the public host key that somebody vouched for."""
    write_atomically(folder / "host_key.pub", line.encode() + b"\n", mode=0o644)


def fingerprint(line: str) -> str:
    """Return what `ssh-keygen -l` shows of a public line: `SHA256:` and 43 characters. Raises ValueError."""
    blob = base64.b64decode(line.split()[1], validate=True)
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def load_keys(folder: Path) -> Keys:
    """Read the keys that `make_keys` made. Raises WrongState when nobody has vouched for the host key yet."""
    if not (folder / "host_key.pub").is_file():
        name = folder.parent.name
        raise WrongState(f'the host key of "{name}" is not known yet', hint=f"vmkit adopt {name} --host-key SHA256:…")
    return Keys(
        user_key=folder / "user_key",
        user_public=(folder / "user_key.pub").read_text().strip(),
        host_key=folder / "host_key",
        host_public=(folder / "host_key.pub").read_text().strip(),
    )


def _make_pair(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # 40 ms that only `create` needs
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  # the same

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    _write_new(path, private, mode=0o600)
    _write_new(path.with_suffix(".pub"), public + b" vmkit\n", mode=0o644)


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
