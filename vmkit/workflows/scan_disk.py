"""Look through a disk for secrets, with progress, and say what was found in lines that people can follow."""

from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import Refused
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.images.secrets.places import locate
from vmkit.images.secrets.rules import Rule
from vmkit.images.secrets.scan import scan

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """What a disk was scanned for: a line for each finding, with the secret in none. `bytes` leaves out holes."""

    bytes: int
    findings: tuple[str, ...]

    def refusal(self, message: str, *, hint: str) -> Refused:
        """Return the error that names the findings."""
        more = [f"and {len(self.findings) - _SHOWN} more"] if len(self.findings) > _SHOWN else []
        return Refused(message, detail="\n".join([*self.findings[:_SHOWN], *more]), hint=hint)


def scan_disk(disk: Path, *, runner: Runner, report: Report, known: tuple[Rule, ...] = ()) -> Scanned:
    """Scan every byte of a raw disk, for `known` secrets too."""
    size = disk.stat().st_size
    with report.phase("scan", "looking for secrets in every byte"):
        found = scan(disk, known=known, on_bytes=lambda done: report.progress(done, size))
    if not found.findings:
        return Scanned(bytes=found.scanned_bytes, findings=())
    places = locate(found.findings, disk, runner=runner)
    lines = [f"{places[one.offset]}: {one.title} ({one.rule}, offset {one.offset})" for one in found.findings]
    if not found.complete:
        lines.append("the scan ended here: there were too many")
    return Scanned(bytes=found.scanned_bytes, findings=tuple(lines))
