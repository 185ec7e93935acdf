"""Where a macOS guest is installed from: a restore image of the user's, or Apple's newest one, checked before use."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from vmkit.bundle.ipsw import RestoreImage, check_ipsw
from vmkit.bundle.template import Template
from vmkit.errors import UsageError

INSTALLERS = ("latest", "boot-partition")  # UTM reads no boot partition: the second is the first by another name

_FLAGS = ("--ipsw", "--installer", "--install-by-hand")


@dataclass(frozen=True, kw_only=True)
class MacSource:
    """A restore image: `path` a file that was checked, `url` one to fetch, neither Apple's newest."""

    path: Path | None = None
    url: str | None = None
    image: RestoreImage | None = None
    by_hand: bool = False

    def __str__(self) -> str:
        """Say it as the plan does."""
        if self.image:
            return f"{self.path} (macOS {self.image.version}, build {self.image.build})"
        return self.url or "latest: Apple's newest restore image for this Mac"

    def to_json(self) -> dict[str, object]:
        """Return what `--dry-run --json` adds for a macOS guest."""
        return {
            "ipsw": str(self.path) if self.path else self.url,
            "installer": None if self.path or self.url else "latest",
            "macos": {"version": self.image.version, "build": self.image.build} if self.image else None,
            "install_by_hand": self.by_hand,
        }


def choose_mac_source(
    template: Template, *, ipsw: str | None, installer: str | None, by_hand: bool
) -> MacSource | None:
    """Return what the flags say for a macOS guest, None for another. A file is checked at once, a URL when it is there.

    Raises UsageError (flags that contradict each other or the template), NotFound, Refused (no such restore image).
    """
    given = [flag for flag, value in zip(_FLAGS, (ipsw, installer, by_hand), strict=True) if value]
    if template.system != "macos":
        if given:
            raise UsageError(
                f'{given[0]} is for macOS guests, and template "{template.name}" is none', hint="--template kiro-macos"
            )
        return None
    if ipsw and installer:
        raise UsageError("--ipsw and --installer exclude each other", hint="one of them says where macOS comes from")
    if installer and installer not in INSTALLERS:
        raise UsageError(f'--installer "{installer[:40]}" is unknown', hint=f"one of: {', '.join(INSTALLERS)}")
    if ipsw and "://" in ipsw:
        return MacSource(url=_checked_url(ipsw), by_hand=by_hand)
    if ipsw:
        path = Path(ipsw).expanduser().absolute()
        return MacSource(path=path, image=check_ipsw(path), by_hand=by_hand)
    return MacSource(by_hand=by_hand)


def _checked_url(url: str) -> str:
    from vmkit.host.download import check_source  # noqa: PLC0415  # only for a URL

    return check_source(url, what="restore image")


def cached_ipsw(url: str, *, cache: Path) -> Path:
    """Return where the restore image from `url` is kept: two addresses never share a file."""
    return cache / "ipsw" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.ipsw"
