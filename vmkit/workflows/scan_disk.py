"""Look through a disk for secrets, with progress, and say what was found in lines that people can follow."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import Refused
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.images.secrets.places import locate
from vmkit.images.secrets.rules import OWN, Rule
from vmkit.images.secrets.scan import Finding, scan

_SHOWN = 20
_KEY_BYTES = 1024  # a file with an ed25519 key is shorter, in base64 too
# What a machine makes for itself at its first boot: every one has it, and none keeps it when it becomes an image.
_IDENTITY = re.compile(r"/etc/ssh/ssh_host_[a-z0-9]+_key|/var/lib/cloud/.+")


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """What a disk was scanned for: a line for each finding, with the secret in none. `bytes` leaves out holes."""

    bytes: int
    findings: tuple[str, ...]

    def refusal(self, message: str, *, hint: str) -> Refused:
        """Return the error that names the findings."""
        more = [f"and {len(self.findings) - _SHOWN} more"] if len(self.findings) > _SHOWN else []
        return Refused(message, detail="\n".join([*self.findings[:_SHOWN], *more]), hint=hint)


def scan_disk(disk: Path, *, runner: Runner, report: Report, known: Sequence[Rule] = ()) -> Scanned:
    """Scan every byte of a raw disk, for `known` secrets too.

    With rules `OWN` among these it is the disk of a machine that lives: what has to be in it is passed over.
    """
    lives = any(rule.id == OWN for rule in known)
    size = disk.stat().st_size
    with report.phase("scan", "looking for secrets in every byte"):
        found = scan(disk, known=known, on_bytes=lambda done: report.progress(done, size))
    findings = _not_own(found.findings) if lives else found.findings
    if not findings and found.complete:
        return Scanned(bytes=found.scanned_bytes, findings=())
    places = locate(findings, disk, runner=runner)
    if lives:
        findings = tuple(one for one in findings if not _IDENTITY.fullmatch(places[one.offset]))
    lines = [f"{places[one.offset]}: {one.title} ({one.rule}, offset {one.offset})" for one in findings]
    if not found.complete:
        lines.append("the scan ended here: there were too many")
    return Scanned(bytes=found.scanned_bytes, findings=tuple(lines))


def _not_own(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Leave out the machine's own secrets, and the beginnings of files that have one."""
    own = [one.offset for one in findings if one.rule == OWN]
    return tuple(
        one
        for one in findings
        if one.rule != OWN and not any(one.offset <= offset < one.offset + _KEY_BYTES for offset in own)
    )
