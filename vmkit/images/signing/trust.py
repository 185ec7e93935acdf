"""Whose signatures count: an allowed-signers file as OpenSSH reads it, and beside it a list of revoked keys.

FOLDER/allowed_signers  `SIGNER namespaces="…"[,valid-before="…Z"] KIND BASE64`, see ssh-keygen(1)
FOLDER/revoked_keys     `KIND BASE64`, which ssh-keygen takes with -r
"""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import NotFound, Refused, UsageError, WrongState
from vmkit.host.files import Lock, own_directory, read_bounded, write_atomically
from vmkit.host.text import printable
from vmkit.images.signing.sshkey import PublicKey, parse_public_key
from vmkit.images.signing.sshsig import NAMESPACE

_MAX_FILE_BYTES = 1 << 20
_SIGNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")  # no pattern, no list: neither *, ? nor a comma
_ALLOWED = re.compile(
    rf'(?P<signer>[!-~]+) namespaces="{re.escape(NAMESPACE)}"(?:,valid-before="(?P<until>\d{{14}})Z")? '
    r"(?P<key>[!-~]+ [!-~]+)",
    re.ASCII,
)
_UNTIL = "%Y%m%d%H%M%S"


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """A signer's key. After `until`, if there is one, no signature by it counts."""

    signer: str
    key: PublicKey
    until: dt.datetime | None = None

    @property
    def line(self) -> str:
        """The line of the allowed-signers file."""
        before = f',valid-before="{self.until.astimezone(dt.UTC).strftime(_UNTIL)}Z"' if self.until else ""
        return f'{self.signer} namespaces="{NAMESPACE}"{before} {self.key.line}'


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """What the two files say. A key is one signer's at most; a signer may have several keys."""

    allowed: tuple[Allowed, ...] = ()
    revoked: tuple[PublicKey, ...] = ()

    def find(self, key: PublicKey) -> Allowed | None:
        """Return whose key it is, revoked or not, or None."""
        return next((allowed for allowed in self.allowed if allowed.key == key), None)


class TrustStore:
    """The trust files in a folder. Reading takes no lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> Trust:
        """Read both files; a missing one is empty. Raises UsageError naming file and line, Refused for a bad folder."""
        if not self.folder.exists():
            return Trust()
        own_directory(self.folder)  # who can write here decides what is trusted
        allowed = tuple(_allowed(line, where) for line, where in _lines(self._allowed))
        if len({each.key for each in allowed}) != len(allowed):
            raise UsageError(f'"{self._allowed}" has a key twice', hint="vmkit trust list")
        revoked = tuple(_key(line, where) for line, where in _lines(self._revoked))
        return Trust(allowed=allowed, revoked=revoked)

    def add(self, signer: str, key: PublicKey, *, until: dt.datetime | None = None) -> Allowed:
        """Trust what this key signs; for a key that is trusted already, change until when.

        Raises UsageError for a name that is none, Refused for a revoked key, WrongState when it is another signer's.
        """
        added = Allowed(signer=checked_signer(signer), key=key, until=until)
        with self._locked():
            trust = self.load()
            if key in trust.revoked:
                raise Refused(f"the key {key.fingerprint} is revoked", hint="trust another key of that signer")
            known = trust.find(key)
            if known and known.signer != signer:
                raise WrongState(f'the key {key.fingerprint} is of "{known.signer}"', hint="vmkit trust list")
            self._write(self._allowed, [each.line for each in trust.allowed if each.key != key] + [added.line])
        return added

    def remove(self, signer: str) -> tuple[Allowed, ...]:
        """Trust none of the signer's keys any more; what is revoked stays so. Raises NotFound."""
        with self._locked():
            trust = self.load()
            removed = self._of(signer, trust)
            self._write(self._allowed, [each.line for each in trust.allowed if each not in removed])
        return removed

    def revoke(self, keys: tuple[PublicKey, ...]) -> None:
        """Refuse what these keys have signed and will sign, for good."""
        with self._locked():
            kept = dict.fromkeys([*self.load().revoked, *keys])
            self._write(self._revoked, [key.line for key in kept])

    def keys_of(self, signer: str) -> tuple[PublicKey, ...]:
        """Return the signer's keys. Raises NotFound."""
        return tuple(each.key for each in self._of(signer, self.load()))

    @property
    def _allowed(self) -> Path:
        return self.folder / "allowed_signers"

    @property
    def _revoked(self) -> Path:
        return self.folder / "revoked_keys"

    def _of(self, signer: str, trust: Trust) -> tuple[Allowed, ...]:
        found = tuple(each for each in trust.allowed if each.signer == signer)
        if not found:
            raise NotFound(f'there is no signer "{printable(signer, max_chars=80)}"', hint="vmkit trust list")
        return found

    def _locked(self) -> Lock:
        own_directory(self.folder)
        return Lock(self.folder / "trust.lock").acquire("changing whom to trust", wait=True)

    def _write(self, path: Path, lines: list[str]) -> None:
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def checked_signer(name: str) -> str:
    """Return `name` when it may name a signer. Raises UsageError."""
    if not _SIGNER.fullmatch(name):
        raise UsageError(
            f'"{printable(name, max_chars=80)}" cannot name a signer',
            hint="letters, digits and . _ @ + -, as in alice@example.com",
        )
    return name


def read_public_key(path: Path) -> PublicKey:
    """Read a `.pub` file. Raises NotFound, Refused."""
    try:
        content = read_bounded(path, max_bytes=16 << 10)
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound(f'there is no file "{printable(str(path))}"') from None
    return parse_public_key(content, what=f'"{printable(path.name)}"')


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Give each line that says something, and where it is."""
    try:
        text = read_bounded(path, max_bytes=_MAX_FILE_BYTES).decode("ascii")
    except FileNotFoundError:
        return
    except UnicodeDecodeError:
        raise UsageError(f'"{path}" is not ASCII') from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            yield line, f'line {number} of "{path}"'


def _allowed(line: str, where: str) -> Allowed:
    match = _ALLOWED.fullmatch(line)
    if not match or not _SIGNER.fullmatch(match["signer"]):
        raise UsageError(
            f"{where} is not as vmkit writes it",
            detail=printable(line, max_chars=200),
            hint="remove the line, then vmkit trust add SIGNER PUBLIC_KEY_FILE",
        )
    try:
        until = dt.datetime.strptime(match["until"], _UNTIL).replace(tzinfo=dt.UTC) if match["until"] else None
    except ValueError:
        raise UsageError(f"{where} has a time that is none", detail=match["until"]) from None
    return Allowed(signer=match["signer"], key=_key(match["key"], where), until=until)


def _key(line: str, where: str) -> PublicKey:
    try:
        return parse_public_key(line.encode(), what=where)
    except Refused as error:
        raise UsageError(error.message, detail=error.detail, hint="remove the line") from None
