"""What only a Mac knows of itself, asked of macOS's own programs.

None of this has run on a Mac: it is written from the programs' manual pages and tested with fakes (unverified).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import VmkitError
from vmkit.host.process import Runner
from vmkit.host.text import printable

_ASK_S = 10.0
_AQUA = "Aqua"  # launchctl(1): the session of a user at the screen


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How an application is signed. `team` is None for one that its builder signed for himself (ad hoc)."""

    signed: bool
    team: str | None


def macos_version(runner: Runner) -> str | None:
    """Return the version of macOS, `15.5`; None when it does not say."""
    return _answer(runner, "/usr/bin/sw_vers", "-productVersion")


def chip(runner: Runner) -> str | None:
    """Return the processor's name, `Apple M2 Pro`."""
    return _answer(runner, "/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")


def has_screen_session(runner: Runner) -> bool:
    """Tell whether this process belongs to a session at the Mac's screen, in which it can reach other applications."""
    return _answer(runner, "/bin/launchctl", "managername") == _AQUA


def developer_folder(runner: Runner) -> str | None:
    """Return where Xcode's command-line tools are, None when they are not installed."""
    return _answer(runner, "/usr/bin/xcode-select", "-p")


def signature(app: Path, runner: Runner) -> Signature:
    """Return how an application is signed: `codesign` says it on stderr."""
    try:
        done = runner.run(["/usr/bin/codesign", "-dv", str(app)], timeout_s=_ASK_S, ok_codes=None)
    except VmkitError:
        return Signature(signed=False, team=None)
    team = re.search(rb"^TeamIdentifier=([A-Z0-9]{10})$", done.stderr[:8192], re.MULTILINE)
    return Signature(signed=done.code == 0, team=team[1].decode() if team else None)


def _answer(runner: Runner, *argv: str) -> str | None:
    """Return the first line of what a program prints, None when it fails."""
    try:
        done = runner.run(list(argv), timeout_s=_ASK_S, ok_codes=None)
    except VmkitError:
        return None
    lines = done.text[:4096].splitlines()
    return printable(lines[0].strip(), max_chars=200) if done.code == 0 and lines else None
