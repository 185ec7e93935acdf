"""Files that come from the host into a guest: what the caller supplies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vmkit.host.report import Report
from vmkit.recipes.facts import Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetIdentity:
    """Which file is wanted, known before it is fetched."""

    version: str
    sha256: str
    size_bytes: int


class AssetProvider(Protocol):
    """Supplies one file for guests."""

    def wanted(self, facts: Facts) -> AssetIdentity:
        """Tell which file this guest should have, without fetching it.

        Called at every provisioning: it must be quick. When its source cannot be reached, it answers what its lock
        says was installed; a guest stamped with that is complete, and nothing is fetched.
        """

    def fetch(self, facts: Facts, report: Report) -> Path:
        """Return the file on this computer, verified; called only when the guest lacks it."""
