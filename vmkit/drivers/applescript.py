"""What UTM does for AppleScript only: import, export, duplicate, change a configuration, share folders.

The scripts are files, never put together: what they work on reaches them as arguments, which nothing interprets.
From the dictionary of UTM 5.0.3; never run on a Mac (unverified).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmkit.drivers.events import failure
from vmkit.errors import HostLacks, Refused, ToolFailed, UsageError
from vmkit.host.process import Completed, Runner, tool_failed
from vmkit.host.text import printable

QUICK_S = 60.0
COPY_S = 3660.0  # a minute more than the scripts give UTM

_SCRIPTS = Path(__file__).with_name("scripts")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_MAX_ARGUMENT = 96 << 10  # Linux takes 128 KiB, macOS more
_MAX_JSON = 1 << 20
_MAX_MACHINES = 10_000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A machine as UTM shows it to scripts. Only `uuid` identifies it; `name` is foreign text."""

    uuid: str
    name: str
    backend: str
    status: str


class AppleScript:
    """UTM's scripting dictionary, through `osascript`.

    Each method raises what `events.failure` words: HostLacks, TimedOut, UtmAbsent, UtmUnknown, UtmRefused; UsageError
    for a value that cannot be an argument, ToolFailed for an answer that is none.
    """

    def __init__(self, *, runner: Runner) -> None:
        self._runner = runner

    def import_bundle(self, path: Path) -> str:
        """Let UTM copy a bundle into its storage; return the UUID that it gave the machine."""
        said = self._run("import.applescript", str(path), limit_s=COPY_S).text[:4096]
        found = _UUID.search(said)
        if found is None:
            raise ToolFailed("UTM does not say what it imported", detail=printable(said, max_chars=200))
        return found[0].upper()

    def export(self, uuid: str, path: Path) -> None:
        """Copy a stopped machine's bundle to `path`; what is there is overwritten."""
        self._run("export.applescript", uuid, str(path), limit_s=COPY_S)

    def duplicate(self, uuid: str, name: str) -> str:
        """Copy a stopped machine; return the copy's UUID. The copy has the same MAC address."""
        before = {entry.uuid for entry in self.listing()}
        self._run("duplicate.applescript", uuid, name, limit_s=COPY_S)
        made = [entry.uuid for entry in self.listing() if entry.uuid not in before and entry.name == name]
        if len(made) != 1:
            raise ToolFailed(f'UTM has {len(made)} new machines "{printable(name)}" after a duplication, not one')
        return made[0]

    def share(self, uuid: str, paths: Sequence[Path]) -> None:
        """Replace the folders that a machine shares."""
        self._run("shares.applescript", uuid, *map(str, paths), limit_s=QUICK_S)

    def listing(self) -> list[Entry]:
        """Return the machines that UTM has."""
        found = self._json("list.js")
        if not isinstance(found, list):
            raise _odd("list.js")
        return [_entry(item) for item in found[:_MAX_MACHINES]]

    def configuration(self, uuid: str) -> dict[str, Any]:
        """Return a machine's configuration record: values of the machine's author, of any type."""
        found = self._json("configuration.js", uuid)
        if not isinstance(found, dict):
            raise _odd("configuration.js")
        return found

    def update_configuration(self, uuid: str, changes: Mapping[str, Any]) -> None:
        """Change the keys of a stopped machine that `changes` names, and let UTM save; nothing: let it save.

        A list replaces UTM's, with the files of the drives that are not in it. Raises Refused, naming them, when
        `changes` leaves out an element that is there.
        """
        now = self.configuration(uuid)
        dropped = dropped_elements(now, changes)
        if dropped:
            raise Refused(f"this change would remove {', '.join(dropped)} from the machine", hint="send all elements")
        record = dict(changes) or {"name": now.get("name")}  # UTM takes no empty record
        self._run("update_configuration.js", uuid, json.dumps(record), limit_s=QUICK_S)

    def _json(self, script: str, *arguments: str) -> Any:
        said = self._run(script, *arguments, limit_s=QUICK_S).stdout
        if len(said) > _MAX_JSON:
            raise _odd(script)
        try:
            return json.loads(said)
        except (ValueError, RecursionError) as error:
            raise _odd(script) from error

    def _run(self, script: str, *arguments: str, limit_s: float) -> Completed:
        program = self._runner.find("osascript")
        if program is None:
            raise HostLacks('"osascript" is not installed: only macOS has it')
        language = ["-l", "JavaScript"] if script.endswith(".js") else []
        # osascript takes no options after the script's name, so an argument may begin with a hyphen.
        argv = [str(program), *language, str(_SCRIPTS / script), *map(_argument, arguments)]
        done = self._runner.run(argv, timeout_s=limit_s, ok_codes=None)
        if done.code > 0 and done.stderr:
            raise failure(done.stderr, what=script.partition(".")[0])
        if done.code != 0:
            raise tool_failed(done)
        return done


def dropped_elements(now: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """Name what an update would remove: elements of the lists in `changes` that UTM has and the change has not."""
    dropped = []
    for key, new in changes.items():
        old = now.get(key)
        if isinstance(old, list) and isinstance(new, list):
            kept = {_identity(element) for element in new}
            dropped += [
                f"{key}[{printable(str(_identity(element)), max_chars=60)}]"
                for element in old
                if _identity(element) not in kept
            ]
    return dropped


def _identity(element: Any) -> str:
    """Return by what UTM matches an element: a drive's `id`, else its `index`; without either it is a new one."""
    if not isinstance(element, Mapping):
        return json.dumps(element, sort_keys=True)
    return str(element.get("id", element.get("index", "new")))


def _entry(item: Any) -> Entry:
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("id", "name")):
        raise _odd("list.js")
    return Entry(
        uuid=item["id"].upper(), name=item["name"], backend=str(item.get("backend")), status=str(item.get("status"))
    )


def _argument(text: str) -> str:
    """Return `text` when it can be an argument of a program. Raises UsageError."""
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded or len(encoded) > _MAX_ARGUMENT:
        raise UsageError(f'"{printable(text, max_chars=60)}" cannot be given to UTM')
    return text


def _odd(script: str) -> ToolFailed:
    return ToolFailed(f"what UTM answered to {script} is not what it should be", hint="vmkit doctor")
