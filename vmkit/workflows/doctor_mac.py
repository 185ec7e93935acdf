"""Check a Mac, and the UTM on it. The UTM checks also run elsewhere when `VMKIT_UTM_APP` names a simulated one.

What is known of UTM comes from its source (5.0.3) and its issues; nothing here has run on a Mac (unverified).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vmkit.bundle.plist import parse_plist
from vmkit.bundle.plist_values import PlistError
from vmkit.drivers.base import MachineState
from vmkit.drivers.utmctl import Listed, Utmctl
from vmkit.errors import HostLacks, TimedOut, VmkitError
from vmkit.host.files import read_bounded
from vmkit.host.mac import chip, developer_folder, has_screen_session, macos_version, signature
from vmkit.host.process import Runner
from vmkit.host.programs import utm_runs, utmctl_of
from vmkit.host.text import printable
from vmkit.workflows.finding import Check

LIST_S = 10.0

_WANTED, _NEEDED = (5, 0, 3), (4, 6)
_OLD = "before 5.0.3 the address of a macOS guest cannot be asked of UTM, and UTM 4.7 crashes on macOS 26"
_TOO_OLD = "before 4.6 UTM cannot import a bundle by script"
_UPDATE = "brew upgrade --cask utm, or mac.getutm.app"
_GUESTS = 2  # enforced by macOS, in Apple's Virtualization framework
_LOCAL_NETWORK_SINCE = (15,)
_ASKS_BEFORE_APPS = "System Settings → Privacy & Security → "


def utm_checks(app: Path | None, *, runner: Runner, mac_guests: Mapping[str, str]) -> Iterator[Check]:
    """Check UTM: is it there, is it new enough, does it answer us. `mac_guests`: names of macOS guests by UUID."""
    if app is None:
        yield Check(
            id="utm",
            status="fail",
            detail="UTM is not installed, or not where it is looked for",
            fix="brew install --cask utm, or name the app in VMKIT_UTM_APP",
        )
        return
    yield _version(app)
    if not utm_runs(runner=runner):
        yield Check(
            id="utmctl",
            status="warn",
            detail="UTM is not running: it was not asked anything",
            fix="open -a UTM, and again",
        )
        return
    try:
        listed = Utmctl(utmctl_of(app), runner=runner).machines(limit_s=LIST_S)
    except HostLacks as error:
        said = "\n".join(filter(None, (error.message, error.detail)))
        yield Check(id="automation", status="fail", detail=printable(said), fix=error.hint)
        return
    except TimedOut:
        yield Check(
            id="utmctl",
            status="fail",
            detail=f"utmctl did not answer within {LIST_S:g} s",
            fix="look at UTM: does a dialog wait, or the question whether this terminal may control it? Else quit UTM",
        )
        return
    except VmkitError as error:
        yield Check(
            id="utmctl", status="fail", detail=printable(error.message), fix=error.hint or "open UTM, and again"
        )
        return
    seen = f"{len(listed)} machines" if listed else "no machine; if UTM has some, open its window"
    yield Check(id="utmctl", status="ok", detail=f"{utmctl_of(app)} answers: {seen}")
    yield Check(id="automation", status="ok", detail="this terminal may control UTM")
    yield _mac_guests(listed, mac_guests)


def mac_checks(
    app: Path | None, *, runner: Runner, environment: Mapping[str, str], makes_mac_guests: bool = True
) -> Iterator[Check]:
    """Check the Mac itself."""
    version = macos_version(runner)
    yield _macos(version, chip(runner), makes_mac_guests=makes_mac_guests)
    over_ssh = "SSH_CONNECTION" in environment
    if over_ssh or not has_screen_session(runner):
        where = "this is an SSH session" if over_ssh else "this session is not at the Mac's screen"
        yield Check(
            id="session",
            status="fail",
            detail=f"{where}: macOS lets nobody control UTM from here",
            fix="run vmkit in a terminal on the Mac's own screen, after login",
        )
    else:
        yield Check(id="session", status="ok", detail="at the Mac's screen (Aqua)")
    if app is not None:
        yield _signature(app, runner)
    yield _local_network(version)
    tools = developer_folder(runner)
    yield Check(
        id="developer-tools",
        status="ok" if tools else "warn",
        detail=tools or "Xcode's command-line tools are not installed: macOS guests are then installed by hand, in UTM",
        fix=None if tools else "xcode-select --install",
    )


def origin(program: Path) -> str:
    """Say where a program of a Mac comes from."""
    if program.resolve().is_relative_to("/opt/homebrew") or "Cellar" in program.resolve().parts:
        return "from Homebrew"
    return "from UTM" if any(part.endswith(".app") for part in program.parts) else "neither Homebrew's nor UTM's"


def parse_version(text: str) -> tuple[int, ...]:
    """Return `(5, 0, 3)` for `5.0.3`, nothing for a text that begins with no number."""
    found = re.match(r"\d{1,4}(\.\d{1,4}){0,3}", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _version(app: Path) -> Check:
    try:
        plist = parse_plist(read_bounded(app / "Contents" / "Info.plist", max_bytes=256 << 10))
        said = plist.get("CFBundleShortVersionString") if isinstance(plist, dict) else None
    except (OSError, VmkitError, PlistError):
        said = None
    text = printable(said, max_chars=40) if isinstance(said, str) else "unknown"
    version = parse_version(text)
    shown = f"UTM {text} at {app}"
    if version >= _WANTED:
        return Check(id="utm", status="ok", detail=shown)
    if version >= _NEEDED:
        return Check(id="utm", status="warn", detail=f"{shown}: {_OLD}", fix=_UPDATE)
    return Check(id="utm", status="fail", detail=f"{shown}: {_TOO_OLD}" if version else shown, fix=_UPDATE)


def _mac_guests(listed: list[Listed], mac_guests: Mapping[str, str]) -> Check:
    stopped = (MachineState.STOPPED, MachineState.BROKEN)
    running = [mac_guests[row.uuid] for row in listed if row.uuid in mac_guests and row.state not in stopped]
    full = len(running) >= _GUESTS
    return Check(
        id="macos-guests",
        status="warn" if full else "ok",
        detail=f"{len(running)} of the {_GUESTS} macOS guests that macOS lets run at once"
        + (f": {', '.join(running)}" if running else ""),
        fix=f"vmkit stop {running[0]}; if none runs and macOS still refuses, restart the Mac" if full else None,
    )


def _macos(version: str | None, processor: str | None, *, makes_mac_guests: bool) -> Check:
    shown = f"macOS {version or 'of an unknown version'} on {processor or 'an unknown processor'}"
    number = parse_version(version or "")
    if number and number < (13,):
        return Check(
            id="macos", status="warn", detail=f"{shown}: Linux on Apple's framework needs macOS 13", fix="update macOS"
        )
    if makes_mac_guests and not (processor or "").startswith("Apple"):
        return Check(id="macos", status="warn", detail=f"{shown}: macOS guests need Apple silicon")
    return Check(id="macos", status="ok", detail=shown)


def _signature(app: Path, runner: Runner) -> Check:
    found = signature(app, runner)
    if found.team:
        return Check(id="utm-signature", status="ok", detail=f"signed by the team {found.team}")
    return Check(
        id="utm-signature",
        status="warn",
        detail="signed by its builder only: such a UTM may lack the right to bridged networks"
        if found.signed
        else "UTM is not signed, or was changed since",
        fix="install UTM from mac.getutm.app, the App Store or Homebrew",
    )


def _local_network(version: str | None) -> Check:
    """Say how the permission shows: macOS has no way to ask for it."""
    number = parse_version(version or "")
    if number and number < _LOCAL_NETWORK_SINCE:
        return Check(id="local-network", status="ok", detail="this macOS asks for no Local Network permission")
    return Check(
        id="local-network",
        status="ok",
        detail='cannot be asked for: where it is missing, machines of the Apple backend answer "No route to host"',
        fix=f"then: {_ASKS_BEFORE_APPS}Local Network: allow this terminal",
    )
