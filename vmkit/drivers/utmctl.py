"""UTM's command-line tool: one method a verb, and nobody else knows what it prints.

utmctl exits with 0 when UTM refuses, so a failure is what it says on stderr, and a change is real when `status` shows
it. From the source of UTM 5.0.3; never run on a Mac (unverified).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmkit.drivers.base import MachineState
from vmkit.drivers.events import failure
from vmkit.errors import HostLacks, ToolFailed
from vmkit.host.process import Completed, Runner, tool_failed
from vmkit.host.text import printable, printable_lines

QUICK_S = 15.0  # what UTM answers by itself; the first question may launch it
START_S = 120.0
SUSPEND_S = 60.0
STOP_S = 15.0
DELETE_S = 120.0
AGENT_S = 5.0  # exec polls the guest agent without end

_USAGE = 64  # EX_USAGE, from Swift's ArgumentParser
_FAILED = re.compile(rb"^Error|OSStatus error", re.MULTILINE)
_ROW = re.compile(r"([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}) (.{8}) (.*)")
_MAX_ROWS = 10_000
_STATES = {
    "stopped": MachineState.STOPPED,
    "starting": MachineState.STARTING,
    "started": MachineState.RUNNING,
    "pausing": MachineState.RUNNING,
    "paused": MachineState.PAUSED,
    "resuming": MachineState.STARTING,
    "stopping": MachineState.STOPPING,
}


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A machine in UTM's list. `name` is fit to show, and identifies nothing."""

    uuid: str
    state: MachineState
    name: str


class Utmctl:
    """The `utmctl` inside UTM.app.

    Each method raises what `events.failure` words: HostLacks, TimedOut, UtmAbsent, UtmUnknown, UtmRefused; ToolFailed
    for what utmctl itself does wrong.
    """

    def __init__(self, program: Path, *, runner: Runner) -> None:
        self._program, self._runner = program, runner

    def version(self) -> str:
        """Return UTM's version. UTM before 4.7.2 has no such verb: ToolFailed."""
        return printable(self._call("version", limit_s=QUICK_S).text.strip(), max_chars=40)

    def machines(self, *, limit_s: float = QUICK_S) -> list[Listed]:
        """Return the machines that UTM has; none while its window has not yet appeared."""
        return parse_list(self._call("list", limit_s=limit_s).text)

    def status(self, uuid: str, *, limit_s: float = QUICK_S) -> MachineState:
        """Return what a machine is doing. UtmUnknown is not to be believed before `machines` has answered."""
        return parse_status(self._call("status", uuid, limit_s=limit_s).text)

    def start(self, uuid: str, *, disposable: bool = False, recovery: bool = False, limit_s: float = START_S) -> None:
        """Start a stopped machine or resume a paused one."""
        flags = [*(["--disposable"] if disposable else []), *(["--recovery"] if recovery else [])]
        self._call("start", uuid, *flags, limit_s=limit_s)

    def suspend(self, uuid: str) -> None:
        """Pause a running machine."""
        self._call("suspend", uuid, limit_s=SUSPEND_S)

    def stop(self, uuid: str, *, how: str, limit_s: float = STOP_S) -> None:
        """Stop a machine by `request` (the power button), `force` (its plug) or `kill` (the process, in any state)."""
        self._call("stop", uuid, f"--{how}", limit_s=limit_s)

    def attach(self, uuid: str) -> str | None:
        """Return where the first serial port ends on this computer: `/dev/ttysNNN` or `HOST:PORT`; None for nowhere."""
        for line in self._call("attach", uuid, limit_s=QUICK_S).text[:4096].splitlines():
            kind, colon, place = line.partition(": ")
            if colon and kind in ("PTTY", "TCP"):
                return place.strip()
        return None

    def execute(self, uuid: str, command: Sequence[str], *, limit_s: float = AGENT_S) -> None:
        """Run a command through the guest agent. TimedOut, HostLacks; whether the guest obeyed is not told.

        What the guest writes comes out as utmctl's own words, and its exit code as utmctl's: none of it is believed.
        """
        self._run("exec", uuid, "--cmd", *command, limit_s=limit_s)

    def pull(self, uuid: str, path: str, *, limit_s: float = AGENT_S) -> bytes | None:
        """Return a file of the guest through its agent, or None when there is no agent, or no such file."""
        done = self._run("file", "pull", uuid, path, limit_s=limit_s)
        return done.stdout if done.code == 0 and not done.stderr else None

    def addresses(self, uuid: str) -> list[str]:
        """Return what UTM knows of a running machine's addresses; the guest may have told it anything."""
        return self._call("ip-address", uuid, limit_s=QUICK_S).text[:4096].split()

    def delete(self, uuid: str) -> None:
        """Delete a stopped machine and its files."""
        self._call("delete", uuid, limit_s=DELETE_S)

    def _call(self, *words: str, limit_s: float) -> Completed:
        done = self._run(*words, limit_s=limit_s)
        if done.code == _USAGE:
            raise ToolFailed(
                f'utmctl does not understand "{words[0]}"', detail=_said(done), hint="update UTM, to 5.0.3 or newer"
            )
        if done.code < 0:
            error = tool_failed(done)
            error.hint = "utmctl crashes before anybody has logged in to the Mac"
            raise error
        if b"Application not found" in done.stderr:
            raise HostLacks("utmctl does not find UTM", detail=_said(done), hint="vmkit doctor")
        if _FAILED.search(done.stderr):
            raise failure(done.stderr, what=f"utmctl {words[0]}")
        if done.code != 0:
            raise tool_failed(done)
        return done

    def _run(self, *words: str, limit_s: float) -> Completed:
        session = {name: os.environ[name] for name in ("SSH_CONNECTION",) if name in os.environ}
        return self._runner.run(
            [str(self._program), *words],
            timeout_s=limit_s,
            env={"LANG": "C", "LC_ALL": "C", **session},
            ok_codes=None,
        )


def parse_list(text: str) -> list[Listed]:
    """Read `utmctl list` by its columns; a line that is no row (a name may hold line ends) is passed over.

    A name may also hold what looks like a row: who wants to know what a machine does asks for its status.
    """
    found: dict[str, Listed] = {}
    for line in text.split("\n")[1 : _MAX_ROWS + 1]:
        row = _ROW.fullmatch(line)
        if row and row[1].upper() not in found:
            found[row[1].upper()] = Listed(
                uuid=row[1].upper(),
                state=_STATES.get(row[2].strip(), MachineState.BROKEN),
                name=printable(row[3], max_chars=200),
            )
    return list(found.values())


def parse_status(text: str) -> MachineState:
    """Read `utmctl status`: one word. Raises ToolFailed for one that UTM 5.0.3 does not have."""
    word = text[:200].strip()
    if word not in _STATES:
        raise ToolFailed(f'utmctl says that the machine is "{printable(word, max_chars=40)}"', hint="vmkit doctor")
    return _STATES[word]


def _said(done: Completed) -> str | None:
    return "\n".join(printable_lines(done.stderr or done.stdout, max_lines=6)) or None
