"""What a guest should become: recipes and their steps."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Account(StrEnum):
    """Who does a step in the guest."""

    ROOT = "root"
    USER = "user"


@dataclass(frozen=True, kw_only=True, slots=True)
class Packages:
    """Debian packages that must be installed. `a|b` is satisfied by either, and installs the first there is."""

    id: str
    names: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file of the recipe that must be at `target` (`/…` or `~/…`), whole, with this mode and owner."""

    id: str
    content: bytes
    target: str
    mode: int
    owner: Account
    timeout_s: float

    @property
    def sha256(self) -> str:
        """The digest of its content."""
        return _sha256(self.content)


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """A POSIX sh script of the recipe. `check` is a command that succeeds when there is nothing to do.

    `uses` names the asset whose path, version and SHA-256 the script gets.
    """

    id: str
    content: bytes
    account: Account
    check: str | None
    uses: str | None
    timeout_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PutAsset:
    """A file from the host that is in the guest only while the scripts that use it have work to do.

    `room`: the space in the guest that it needs to become what it is for, as a multiple of its size.
    """

    id: str
    asset: str
    room: int
    timeout_s: float


Step = Packages | File | Script | PutAsset


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A folder of `provision/`, or of the user's own recipes: what a guest should become.

    `generalise`: a POSIX sh script that takes out of a guest what this recipe made of it that no image may have.
    """

    name: str
    summary: str
    needs: tuple[str, ...]
    steps: tuple[Step, ...]
    folder: Path
    generalise: bytes | None = None
    remove: bytes | None = None  # a script, run as root, that undoes what its scripts did

    @property
    def assets(self) -> frozenset[str]:
        """The files that the host must supply."""
        return frozenset(step.asset for step in self.steps if isinstance(step, PutAsset))


def step_key(recipe: str, step: str) -> str:
    """Return the name of a step's stamp in the guest."""
    return f"{recipe}.{step}"


def digest_of(step: Step, asset_sha256: str | None = None) -> str:
    """Return the SHA-256 of all that decides what a step does; a step whose digest changed is done again."""
    match step:
        case Packages():
            parts: list[object] = ["packages", *step.names]
        case File():
            parts = ["file", step.target, step.mode, step.owner, step.sha256]
        case Script():
            parts = ["script", step.account, _sha256(step.content), asset_sha256]
        case PutAsset():
            parts = ["asset", step.asset, asset_sha256]
    return _sha256(json.dumps(parts).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
