"""Ask debsecan which vulnerabilities are known of an image's packages.

debsecan(1) reads a dpkg status file, here one written from the image's list of packages, and Debian's data, which it
fetches itself: from where its own configuration says, or from a folder with one file for each suite.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from vmkit.errors import HostLacks, TimedOut, ToolFailed, UsageError
from vmkit.host.process import Runner
from vmkit.host.text import printable
from vmkit.images.layout import ImageMeta
from vmkit.images.packages import Package, parse_installed, parse_sources

_SUITES = {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"}
_DEBIAN_VERSION = re.compile(r"(\d{1,3})(\.\d{1,3})?(\+deb\d{1,3}u\d{1,3})?")  # of base-files; a derivative's has more
_LINE = re.compile(
    r"(?P<id>[A-Z]{2,8}-[A-Za-z0-9-]{1,40}) (?P<package>[a-z0-9][a-z0-9.+-]*)( \((?P<notes>[a-z, ]*)\))?"
)
_URGENCIES = ("high", "medium", "low", "")
_TIMEOUT_S = 180.0  # it fetches some megabytes
_MAX_FOUND = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Vulnerability:
    """One vulnerability of one package. `is_fixed`: the suite has a version without it. `urgency`: empty if unknown."""

    id: str
    package: str
    version: str
    is_fixed: bool
    is_remote: bool
    urgency: str


@dataclass(frozen=True, kw_only=True)
class Vulnerabilities:
    """What debsecan said, or in `reason` why it said nothing: then `found` is None.

    `is_complete` is off for an image that does not name its packages' sources: Debian tracks sources.
    """

    found: tuple[Vulnerability, ...] | None = None
    reason: str | None = None
    suite: str | None = None
    is_complete: bool = True

    @property
    def by_package(self) -> Mapping[str, tuple[Vulnerability, ...]]:
        """Those found, by package."""
        packages: dict[str, tuple[Vulnerability, ...]] = {}
        for one in self.found or ():
            packages[one.package] = (*packages.get(one.package, ()), one)
        return packages

    def to_json(self) -> dict[str, object]:
        """Return what `image show --json` says of vulnerabilities."""
        return {
            "vulnerabilities": None if self.found is None else [asdict(one) for one in self.found],
            "vulnerabilities_reason": self.reason,
            "vulnerabilities_suite": self.suite,
            "vulnerabilities_complete": self.found is not None and self.is_complete,
        }


def find_vulnerabilities(meta: ImageMeta, *, runner: Runner, data: Path | None = None) -> Vulnerabilities:
    """Return the known vulnerabilities of an image's packages, or the reason why they cannot be told here.

    `data`: a folder with Debian's data, a file for each suite, instead of the network. Raises UsageError without it.
    """
    if data is not None and not data.is_dir():
        raise UsageError(f'there is no folder "{printable(str(data))}"')
    packages = parse_installed(meta.packages)
    if not packages:
        return Vulnerabilities(reason="the image has no list of its packages")
    base = next((package.version for package in packages if package.name == "base-files"), "")
    debian = _DEBIAN_VERSION.fullmatch(base)
    if debian is None:
        return Vulnerabilities(reason="the packages are not Debian's, and debsecan knows no others")
    if runner.find("debsecan") is None:
        return Vulnerabilities(reason="debsecan is not installed; on Debian and Ubuntu: apt install debsecan")
    suite = _SUITES.get(debian[1], "GENERIC")  # what debsecan calls all suites together
    with tempfile.TemporaryDirectory(prefix="vmkit-debsecan-") as name:
        folder = Path(name)
        (folder / "status").write_text(render_status(packages, parse_sources(meta.sources or ())))
        # fmt: off
        argv = [
            "debsecan", "--status", str(folder / "status"), "--suite", suite, "--format", "summary",
            "--whitelist", str(folder / "none"),  # what is accepted on this computer is so only for this computer
            *(["--source", data.absolute().as_uri()] if data else []),
        ]
        # fmt: on
        try:
            said = runner.run(argv, timeout_s=_TIMEOUT_S).text
        except (ToolFailed, TimedOut, HostLacks) as error:
            last = (error.detail or "").splitlines()[-1:]
            return Vulnerabilities(reason=": ".join([error.message, *last]), suite=suite)
    found = parse_summary(said, versions={package.name: package.version for package in packages})
    return Vulnerabilities(found=found, suite=suite, is_complete=meta.sources is not None)


def render_status(packages: tuple[Package, ...], sources: Mapping[str, tuple[str, str]]) -> str:
    """Return what dpkg's status file says of packages, as far as debsecan reads it."""
    return "\n".join(
        f"Package: {package.name}\nStatus: install ok installed\nVersion: {package.version}\n"
        f"Architecture: {package.arch}\n" + _source(sources.get(package.name))
        for package in packages
    )


def _source(source: tuple[str, str] | None) -> str:
    return f"Source: {source[0]} ({source[1]})\n" if source else ""


def parse_summary(text: str, *, versions: Mapping[str, str]) -> tuple[Vulnerability, ...]:
    """Return what is in debsecan's summary format, the worst first; lines about other packages are left out."""
    found = set()
    for line in text.splitlines()[:_MAX_FOUND]:
        match = _LINE.fullmatch(line)
        if not match or match["package"] not in versions:
            continue
        notes = (match["notes"] or "").split(", ")
        found.add(
            Vulnerability(
                id=match["id"],
                package=match["package"],
                version=versions[match["package"]],
                is_fixed="fixed" in notes,
                is_remote="remotely exploitable" in notes,
                urgency=next((each for each in _URGENCIES if f"{each} urgency" in notes), ""),
            )
        )
    return tuple(sorted(found, key=lambda one: (_URGENCIES.index(one.urgency), not one.is_fixed, one.package, one.id)))
