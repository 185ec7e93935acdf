"""Files that come from the host into a guest: what the caller supplies."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vmkit.errors import Refused
from vmkit.host.report import Report
from vmkit.host.text import printable
from vmkit.recipes.facts import Facts

_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetIdentity:
    """Which file is wanted, known before it is fetched."""

    version: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        """Refuse what a manifest must not make us write into a path or a command."""
        if not _SHA256.fullmatch(self.sha256) or not _VERSION.fullmatch(self.version):
            raise Refused(
                "a file for the guest has no proper version and SHA-256",
                detail=printable(f"{self.version} {self.sha256}", max_chars=200),
            )


class AssetProvider(Protocol):
    """Supplies one file for guests."""

    def wanted(self, facts: Facts) -> AssetIdentity:
        """Tell which file this guest should have, without fetching it.

        Called at every provisioning: it must be quick. When its source cannot be reached, it answers what its lock
        says was installed; a guest stamped with that is complete, and nothing is fetched.
        """

    def fetch(self, facts: Facts, report: Report) -> Path:
        """Return the file on this computer, verified; called only when the guest lacks it."""
