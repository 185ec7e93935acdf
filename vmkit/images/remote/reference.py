"""How an image elsewhere is named: `HOST[:PORT]/NAME:TAG`, `HOST[:PORT]/NAME@sha256:…`, `oci-dir:PATH[:NAME]`."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import UsageError
from vmkit.host.text import printable

FOLDER = "oci-dir:"

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"({_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]{{2,45}}\])(?::([1-9][0-9]{{0,4}}))?")
_WORD = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_WORD}(?:/{_WORD})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ENTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}")
_LOCAL_NAME = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryReference:
    """An image in a registry, by its tag or by its digest. `host` has the port when one was written."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def version(self) -> str:
        """The tag or the digest, as the protocol writes it."""
        return self.tag or self.digest or ""

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}{':' if self.tag else '@'}{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderReference:
    """An image in a folder that is an OCI image layout, by the name its index gives; empty for the only one."""

    path: Path
    name: str = ""

    def __str__(self) -> str:
        return f"{FOLDER}{self.path}{':' if self.name else ''}{self.name}"


Remote = RegistryReference | FolderReference


def parse_remote(text: str) -> Remote:
    """Return what `text` names. Raises UsageError for anything else, also for what other programs would guess at."""
    if text.startswith(FOLDER):
        path, colon, name = text.removeprefix(FOLDER).partition(":")
        if path and "\0" not in path and (_ENTRY.fullmatch(name) if colon else True):
            return FolderReference(path=Path(path).expanduser(), name=name)
        raise _not_one(text)
    host, _, rest = text.partition("/")
    host = host.lower()
    repository, at, digest = rest.partition("@")
    tag = ""
    if not at:
        repository, _, tag = rest.rpartition(":")
    fine = _is_host(host) and _REPOSITORY.fullmatch(repository) and len(repository) <= 255
    if fine and at and _DIGEST.fullmatch(digest):
        return RegistryReference(host=host, repository=repository, digest=digest)
    if fine and not at and _TAG.fullmatch(tag):
        return RegistryReference(host=host, repository=repository, tag=tag)
    raise _not_one(text)


def local_name(remote: Remote, *, digest: str) -> str:
    """Return the name an image gets here when nobody gave one: the last word of the repository, and the tag."""
    if isinstance(remote, FolderReference):
        return remote.name if ":" in remote.name else f"{remote.name or remote.path.name.lower()}:latest"
    word = _LOCAL_NAME.sub("-", remote.repository.rpartition("/")[2])
    return f"{word}:{remote.tag or digest.removeprefix('sha256:')[:12]}"


def is_loopback(host: str) -> bool:
    """Tell whether `host`, with or without a port, is this computer as nobody else can reach it."""
    name = split_host(host)[0].strip("[]")
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def split_host(host: str) -> tuple[str, int | None]:
    """Return name and port of `HOST[:PORT]`."""
    match = _HOST.fullmatch(host.lower())
    return (match[1], int(match[2]) if match[2] else None) if match else (host, None)


def _is_host(host: str) -> bool:
    match = _HOST.fullmatch(host)
    if not match or len(host) > 255 or (match[2] and int(match[2]) > 65535):
        return False
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(match[1].strip("[]"))
        except ValueError:
            return False
        return True
    # Without a dot or a port it may be a folder of some other registry, as `docker` would take it.
    return match[2] is not None or "." in match[1] or match[1] == "localhost"


def _not_one(text: str) -> UsageError:
    return UsageError(
        f'"{printable(text, max_chars=200)}" is not an image in a registry',
        detail="the host has a dot or a port, or is localhost; the name is in lower case; tag or digest is needed",
        hint=f"write HOST[:PORT]/NAME:TAG, HOST[:PORT]/NAME@sha256:DIGEST, or {FOLDER}PATH",
    )
