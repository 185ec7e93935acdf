"""The program that installs macOS: compiled on the user's Mac, signed ad hoc, kept by digest, believed line by line.

Only `provision/macos-installer/installer.swift` knows Virtualization.framework. It has never run (unverified).
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmkit.errors import ToolFailed
from vmkit.host.files import own_directory, staging
from vmkit.host.process import QUICK_S, SLOW_S, Runner, tool_failed
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.host.text import printable

HARDWARE_MODEL, MACHINE_IDENTIFIER = "HardwareModel", "MachineIdentifier"  # what it leaves beside the storage

_NAME = "vmkit-macos-installer"
_SOURCE, _ENTITLEMENTS = "installer.swift", "entitlements.plist"
_LATEST_S, _INSTALL_S = 120.0, 4 * 3600.0
_MAX_EVENTS = 20_000
_HINTS = {  # VZErrorDomain: VZError.h
    6: "macOS lets two macOS guests run at a time: stop one, or restart this Mac when none runs",
    10006: "update this Mac: its macOS cannot install that version",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LatestImage:
    """Apple's newest restore image for this Mac, as the framework tells it. The address is not yet checked."""

    url: str
    version: str
    build: str


def find_compiler(runner: Runner) -> Path | None:
    """Return the Swift compiler, None where there is none.

    On a Mac /usr/bin/swiftc is always there, and opens a window when the command line tools are not: those are asked
    for first.
    """
    swiftc, select = runner.find("swiftc"), runner.find("xcode-select")
    if swiftc is None or runner.find("codesign") is None:
        return None
    if select is not None and runner.run([str(select), "-p"], timeout_s=QUICK_S, ok_codes=None).code != 0:
        return None
    return swiftc


def build_installer(compiler: Path, *, runner: Runner, cache: Path, report: Report) -> Path:
    """Return the installer, compiled and signed the first time. Raises ToolFailed with the tools' words, TimedOut."""
    folder = data_folder("provision") / "macos-installer"
    source, entitlements = folder / _SOURCE, folder / _ENTITLEMENTS
    version = runner.run([str(compiler), "--version"], timeout_s=QUICK_S).stdout
    digest = hashlib.sha256()
    for part in (source.read_bytes(), entitlements.read_bytes(), version):
        digest.update(len(part).to_bytes(8, "big") + part)
    root = own_directory(cache / "macos-installer")
    final = root / digest.hexdigest()[:32]
    if (final / _NAME).is_file():
        return final / _NAME
    with report.phase("compile", "compiling the macOS installer"), staging(root / "staging") as made:
        program = made / _NAME
        argv = [str(compiler), "-swift-version", "5", "-O", str(source), "-o", str(program)]
        runner.run(argv, timeout_s=SLOW_S)
        codesign = str(runner.find("codesign") or "codesign")
        argv = [codesign, "--force", "--sign", "-", "--entitlements", str(entitlements), str(program)]
        runner.run(argv, timeout_s=QUICK_S)
        if not program.is_file():
            raise ToolFailed(f'"{compiler.name}" said that all is well, and made no program')
        if not final.exists():
            made.rename(final)
    return final / _NAME


def latest_image(program: Path, *, runner: Runner) -> LatestImage:
    """Ask Apple, through the framework, for the newest restore image. Raises ToolFailed, TimedOut."""
    found = [event for event in _run(program, ["latest"], runner=runner, timeout_s=_LATEST_S) if _is(event, "latest")]
    texts = [found[-1].get(key) for key in ("url", "version", "build")] if found else []
    if not found or not all(isinstance(text, str) and 0 < len(text) < 2000 for text in texts):
        raise ToolFailed("the macOS installer did not say where the newest restore image is")
    url, version, build = map(str, texts)
    return LatestImage(url=url, version=printable(version), build=printable(build))


def install(
    program: Path,
    *,
    ipsw: Path,
    folder: Path,
    disk: Path,
    cpus: int,
    memory_mib: int,
    runner: Runner,
    report: Report,
) -> None:
    """Install macOS from `ipsw` to the raw `disk`, and leave the Mac's platform and its auxiliary storage in `folder`.

    Raises ToolFailed with the framework's words, TimedOut.
    """
    # fmt: off
    arguments = [
        "install", "--restore-image", str(ipsw), "--folder", str(folder), "--disk", str(disk),
        "--cpus", str(cpus), "--memory", str(memory_mib << 20),
    ]
    # fmt: on

    def show(event: dict[str, Any]) -> None:
        fraction = event.get("fraction")
        if _is(event, "progress") and isinstance(fraction, int | float) and not isinstance(fraction, bool):
            report.progress(100 * min(1.0, max(0.0, fraction)) if math.isfinite(fraction) else 0.0, 100, "steps")

    with report.phase("install", "installing macOS"):
        events = _run(program, arguments, runner=runner, timeout_s=_INSTALL_S, on_event=show)
    if not any(_is(event, "done") for event in events):
        raise ToolFailed("the macOS installer ended without saying that it is done")


def _run(
    program: Path,
    arguments: list[str],
    *,
    runner: Runner,
    timeout_s: float,
    on_event: Callable[[dict[str, Any]], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Return what the installer said. Raises ToolFailed for its error, or for any exit code but 0."""
    events: list[dict[str, Any]] = []

    def hear(line: str) -> None:
        event = parse_event(line)
        if event is not None and len(events) < _MAX_EVENTS:
            events.append(event)
            on_event(event)

    done = runner.run([str(program), *arguments], timeout_s=timeout_s, ok_codes=None, on_output=hear)
    for event in events:
        if _is(event, "error"):
            raise _failure(event)
    if done.code != 0:
        raise tool_failed(done)
    return events


def parse_event(line: str) -> dict[str, Any] | None:
    """Return the event in a line, None when there is none: the framework may print lines of its own."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _is(event: dict[str, Any], kind: str) -> bool:
    return bool(event["event"] == kind)


def _failure(event: dict[str, Any]) -> ToolFailed:
    domain, code = event.get("domain"), event.get("code")
    where = f"{printable(str(domain), max_chars=80)} {printable(str(code), max_chars=20)}" if domain else None
    words = [str(event[key]) for key in ("message", "reason") if event.get(key)]
    hint = _HINTS.get(code) if domain == "VZErrorDomain" and isinstance(code, int) else None
    return ToolFailed(
        f"macOS was not installed: {printable(words[0] if words else 'no reason was given', max_chars=500)}",
        detail="\n".join([*(printable(word, max_chars=500) for word in words[1:]), *([where] if where else [])])
        or None,
        hint=hint or "--install-by-hand lets UTM install it",
    )
