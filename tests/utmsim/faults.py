"""Faults on demand: a JSON file that every run reads, so that a test changes what goes wrong while vmkit runs."""

import fcntl
import json
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class EventError(Exception):
    """UTM answered an Apple event with an error."""

    def __init__(self, message: str, code: int = -2700):
        super().__init__(message)
        self.message = message
        self.code = code


NAMES = {
    # name: what its value is
    "hang": "seconds, or null for ever",
    "hang-after": "the same, when the verb has done its work",
    "not-permitted": "-1743",
    "not-running": "-600",
    "connection-invalid": "-609",
    "timed-out": "-1712",
    "connection-invalid-after": "-609, when the verb has done its work",
    "timed-out-after": "-1712, when the verb has done its work",
    "other-uuid": "an import registers another UUID",
    "alter-import": "what an import changes: {'System.MemorySize': 512, 'QEMU.RNGDevice': null (dropped)}",
    "no-space": "an import finds the volume full",
    "start-ignored": "start says nothing and starts nothing",
    "stop-ignored": "the ways that do nothing: ['request', 'force', 'kill']; null for all",
    "unknown-status": "the word that list and status say instead; null for `unknown`",
    "extra-names": "names of machines that list shows besides",
    "empty-list": "UTM's window has not appeared: no machine is seen",
    "huge-output": "bytes on stdout instead of an answer; null for 10 MB",
    "garbage": "bytes that are no text on stdout and stderr, instead of an answer",
    "crash": "the program dies of a signal",
    "no-agent": "the guest agent does not answer",
    "apple-address": "what ARP knows of an Apple-backend machine: one address",
    "refused": "the verb fails with this message (-2700)",
}
_CODES = {
    "not-permitted": (-1743, "Not authorized to send Apple events to UTM."),
    "not-running": (-600, "Application isn\u2019t running."),
    "connection-invalid": (-609, "Connection is invalid."),
    "timed-out": (-1712, "AppleEvent timed out."),
}


@dataclass(frozen=True)
class Faults:
    """The file of faults: a name each, with the verbs it is for (all), how often it still happens (always), a value.

    A verb is `start` (utmctl), `import` (osascript: the base name of the script), or either with the program before it.
    """

    file: Path

    def set(self, name: str, value: Any = None, *, verbs: list[str] | None = None, times: int | None = None) -> None:
        if name not in NAMES:
            raise KeyError(f"no fault {name!r}: there are {', '.join(NAMES)}")
        faults = self._read()
        faults[name] = {"value": value, "verbs": verbs, "times": times}
        self._write(faults)

    def clear(self, name: str | None = None) -> None:
        faults = self._read()
        self._write({key: fault for key, fault in faults.items() if name not in (key, None)})

    def _read(self) -> dict[str, Any]:
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def _write(self, faults: dict[str, Any]) -> None:
        staged = self.file.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps(faults))
        staged.replace(self.file)

    def take(self, name: str, program: str, verb: str) -> dict[str, Any] | None:
        """Return the fault when it is to happen now, and count it."""
        with self.file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            faults = self._read()
            fault: dict[str, Any] | None = faults.get(name)
            if fault is None or fault["times"] == 0:
                return None
            if fault["verbs"] is not None and not {verb, f"{program} {verb}"} & set(fault["verbs"]):
                return None
            if fault["times"] is not None:
                fault["times"] -= 1
                self._write(faults)
            return fault


@dataclass(frozen=True)
class Trouble:
    """The faults as one run of one verb meets them."""

    faults: Faults
    program: str
    verb: str

    def take(self, name: str) -> dict[str, Any] | None:
        return self.faults.take(name, self.program, self.verb)

    def happens(self, name: str) -> bool:
        return self.take(name) is not None

    def before(self) -> None:
        """Do what needs no UTM: hang, crash, babble."""
        self._hang("hang")
        if self.happens("crash"):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault := self.take("huge-output"):
            size = fault["value"] or 10_000_000
            while size > 0:
                size -= os.write(1, b"x" * 79 + b"\n" if size >= 80 else b"x" * size)
            sys.exit(0)
        if self.happens("garbage"):
            os.write(1, bytes(range(256)) * 4)
            os.write(2, b"\x1b]0;owned\x07\x1b[2J\xff\xfe\x00")
            sys.exit(0)

    def permission(self) -> None:
        """Raise EventError when this process may not talk to UTM, or UTM cannot be talked to at all."""
        if os.environ.get("SSH_CONNECTION") or self.happens("not-permitted"):
            raise EventError(_CODES["not-permitted"][1], -1743)
        if self.happens("not-running"):
            raise EventError(_CODES["not-running"][1], -600)

    def connection(self) -> None:
        """Raise EventError when the event itself goes wrong; the machine was found before that."""
        self._break_off("")
        if fault := self.take("refused"):
            raise EventError(str(fault["value"]))

    def after(self) -> None:
        """Let the answer get lost, though UTM did what it was told. Raises EventError."""
        self._hang("hang-after")
        self._break_off("-after")

    def _hang(self, name: str) -> None:
        if fault := self.take(name):
            time.sleep(1e6 if fault["value"] is None else fault["value"])

    def _break_off(self, when: str) -> None:
        for name in ("connection-invalid", "timed-out"):
            if self.happens(name + when):
                code, message = _CODES[name]
                raise EventError(message, code)
