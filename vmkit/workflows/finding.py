"""What `vmkit doctor` says of one thing."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding: `status` is ok, warn or fail."""

    id: str
    status: str
    detail: str
    fix: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the check as `doctor --json` prints it."""
        return {"id": self.id, "status": self.status, "detail": self.detail, "fix": self.fix}
