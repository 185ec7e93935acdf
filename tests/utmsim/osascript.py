"""`osascript FILE [argument…]`: knows vmkit's scripts by the names of their files, and does what each asks of UTM.

It cannot run AppleScript. What the scripts say is recorded, so that a test can compare it with what vmkit ships.
"""

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.utmsim import records, verbs
from tests.utmsim.faults import EventError, Faults, Trouble
from tests.utmsim.place import Place
from tests.utmsim.registry import Entry, Registry, new_uuid, opened


def main(folder: Path, argv: list[str]) -> int:
    """Run one script."""
    place = Place.of_caller(folder)
    words = argv[2:] if argv[:1] == ["-l"] else argv
    if not words or words[0].startswith("-"):
        place.record(program="osascript", argv=argv)
        sys.stderr.write(f"osascript: utmsim takes a script file, not {' '.join(words[:1]) or 'standard input'}\n")
        return 2
    script = Path(words[0])
    text = script.read_text() if script.is_file() else None
    place.record(program="osascript", argv=argv, script=str(script), text=text)
    if text is None:
        sys.stderr.write(f"osascript: {script}: No such file or directory\n")
        return 1
    verb = _VERBS.get(script.name)
    if verb is None:
        sys.stderr.write(f"osascript: utmsim knows no script {script.name}\n")
        return 2
    if (script.suffix == ".js") is not (argv[:2] == ["-l", "JavaScript"]):
        sys.stderr.write(f"{script}:0:1: script error: Expected expression but found unknown token. (-2741)\n")
        return 1
    trouble = Trouble(Faults(folder / "faults.json"), "osascript", script.stem)
    trouble.before()
    try:
        trouble.permission()
        trouble.connection()
        with opened(place) as registry:
            answer = verb(registry, trouble, *words[1:])
        trouble.after()
    except EventError as error:
        return _fail(script, error)
    except (OSError, ValueError, LookupError) as error:
        return _fail(script, EventError(str(error)))
    except TypeError as error:  # too few or too many arguments: `item 2 of argv` in the script
        return _fail(script, EventError(f"Can\u2019t get item of argv: {error}", -1728))
    if answer is not None:
        print(answer if isinstance(answer, str) else json.dumps(answer))
    return 0


def _fail(script: Path, error: EventError) -> int:
    who = "" if error.code == -1743 else "Error: Error: " if script.suffix == ".js" else "UTM got an error: "
    place = f"{script}:" if script.suffix == ".js" else f"{script}:0:0:"
    sys.stderr.write(f"{place} execution error: {who}{error.message} ({error.code})\n")
    return 1


def _entry(registry: Registry, trouble: Trouble, uuid: str) -> Entry:
    missing = trouble.happens("empty-list")
    entry = next((entry for entry in registry.entries if entry.uuid == uuid and not missing), None)
    if entry is None:
        raise EventError(f'Can\u2019t get virtual machine id "{uuid}".', -1728)
    return entry


def _import(registry: Registry, trouble: Trouble, path: str) -> str:
    if trouble.happens("no-space"):
        reason = f"[Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}"
        raise EventError(
            f"\u201c{Path(path).name}\u201d couldn\u2019t be copied because there isn\u2019t enough space. ({reason})"
        )
    if not Path(path).exists():
        raise EventError(f"File POSIX file \u201c{path}\u201d wasn\u2019t found.", -43)
    entry = registry.add(Path(path))
    if trouble.happens("other-uuid"):
        entry.uuid = entry.config["Information"]["UUID"] = new_uuid()
    if fault := trouble.take("alter-import"):
        for key, value in fault["value"].items():
            _alter(entry.config, key, value)
        registry.save(entry)
    return f"virtual machine id {entry.uuid} of application UTM"


def _alter(config: Any, key: str, value: Any) -> None:
    """Set `Table.Key`, `Drive.0.Key`; drop it when the value is None."""
    *way, last = key.split(".")
    for step in way:
        config = config[int(step)] if isinstance(config, list) else config[step]
    where: Any = int(last) if isinstance(config, list) else last
    if value is None:
        del config[where]
    else:
        config[where] = value


def _export(registry: Registry, trouble: Trouble, uuid: str, path: str) -> None:
    verbs.export(_entry(registry, trouble, uuid), registry.place, Path(path))


def _duplicate(registry: Registry, trouble: Trouble, uuid: str, name: str) -> str:
    entry = _entry(registry, trouble, uuid)
    verbs.must_be_stopped(entry, registry.place)
    # What is no UTF-8 is not what the script was given.
    twin = registry.duplicate(entry, os.fsencode(name).decode("utf-8", "replace"))
    return f"virtual machine id {twin.uuid} of application UTM"


def _shares(registry: Registry, trouble: Trouble, uuid: str, *paths: str) -> None:
    entry = _entry(registry, trouble, uuid)
    missing = next((path for path in paths if not Path(path).exists()), None)
    if missing:
        raise EventError(f"Can\u2019t make POSIX file \u201c{missing}\u201d into type file.", -1700)
    entry.shares = list(paths)


def _list(registry: Registry, trouble: Trouble) -> list[dict[str, str]]:
    if trouble.happens("empty-list"):
        return []
    word = trouble.take("unknown-status")
    return [
        {
            "id": entry.uuid,
            "name": entry.name,
            "backend": "qemu" if entry.is_qemu else "apple",
            "status": (word["value"] or "unknown") if word else verbs.status(entry, registry.place),
        }
        for entry in registry.entries
    ]


def _configuration(registry: Registry, trouble: Trouble, uuid: str) -> dict[str, Any]:
    return records.record(_entry(registry, trouble, uuid))


def _update(registry: Registry, trouble: Trouble, uuid: str, given: str) -> None:
    entry = _entry(registry, trouble, uuid)
    verbs.must_be_stopped(entry, registry.place)
    records.update(entry, json.loads(given))
    registry.save(entry)


_VERBS: dict[str, Callable[..., Any]] = {
    "import.applescript": _import,
    "export.applescript": _export,
    "duplicate.applescript": _duplicate,
    "shares.applescript": _shares,
    "list.js": _list,
    "configuration.js": _configuration,
    "update_configuration.js": _update,
}
