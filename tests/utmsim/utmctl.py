"""`utmctl`: Apple-event errors go to stderr and the exit code stays 0; wrong usage is 64, anything else thrown is 1."""

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import NoReturn

from tests.utmsim import qemu, verbs
from tests.utmsim.faults import EventError, Faults, Trouble
from tests.utmsim.place import Place
from tests.utmsim.registry import NOT_RUNNING, Entry, Registry, new_uuid, opened

_USAGE = 64


class ThrownError(Exception):
    """What the tool itself throws: a line on stderr and exit code 1."""


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"Error: {message}\nUsage: {self.prog}\n  See '{self.prog} --help' for more information.\n")
        sys.exit(_USAGE)


def _parser(place: Place) -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument("-d", "--debug", action="store_true")
    common.add_argument("--hide", action="store_true")
    parser = _Parser(prog="utmctl", allow_abbrev=False)
    commands = parser.add_subparsers(dest="verb", required=True, parser_class=_Parser)

    def command(name: str, *, vm: bool = True) -> _Parser:
        made = commands.add_parser(name, parents=[common], allow_abbrev=False)
        if vm:
            made.add_argument("identifier")
        return made

    if place.version >= (4, 7, 2):
        command("version", vm=False)
    command("list", vm=False)
    for name in ("status", "ip-address", "delete"):
        command(name)
    start = command("start")
    start.add_argument("-a", "--attach", action="store_true")
    start.add_argument("--disposable", action="store_true")
    if place.version >= (4, 7):
        start.add_argument("--recovery", action="store_true")
    command("suspend").add_argument("-s", "--save-state", action="store_true")
    stop = command("stop")
    for way in ("force", "kill", "request"):
        stop.add_argument(f"--{way}", action="store_true")
    command("attach").add_argument("--index", type=int)
    command("clone").add_argument("--name")
    execute = command("exec")
    execute.add_argument("--input", action="store_true")
    execute.add_argument("--env", action="append", default=[])
    execute.add_argument("--cmd", nargs="...", required=True)
    file = commands.add_parser("file", parents=[common]).add_subparsers(dest="way", required=True, parser_class=_Parser)
    for way in ("pull", "push"):
        made = file.add_parser(way, parents=[common])
        made.add_argument("identifier")
        made.add_argument("path")
    usb = commands.add_parser("usb", parents=[common]).add_subparsers(dest="way", required=True, parser_class=_Parser)
    usb.add_parser("list", parents=[common])
    for way in ("connect", "disconnect"):
        made = usb.add_parser(way, parents=[common])
        made.add_argument("words", nargs="+")
    return parser


def main(folder: Path, argv: list[str]) -> int:
    """Run one verb."""
    place = Place.of_caller(folder)
    place.record(program="utmctl", argv=argv)
    options = _parser(place).parse_args(argv)
    verb = f"{options.verb} {options.way}" if "way" in options else options.verb
    trouble = Trouble(Faults(folder / "faults.json"), "utmctl", verb)
    trouble.before()
    try:
        code = _run(options, verb, place, trouble)
        trouble.after()
    except EventError as error:
        say(error)
        return 0
    except (OSError, ValueError) as error:
        say(EventError(str(error)))
        return 0
    except ThrownError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return code


def say(error: EventError) -> None:
    """Print an Apple-event error: the process then goes on as if nothing had happened."""
    sys.stderr.write(f"Error from event: The operation couldn\u2019t be completed. (OSStatus error {error.code}.)\n")
    sys.stderr.write(f"{error.message}\n")
    if error.code == -1743:
        sys.stderr.write("NOTE: utmctl does not work from SSH sessions or before logging in.\n")


def _run(options: Namespace, verb: str, place: Place, trouble: Trouble) -> int:
    if verb == "version":
        trouble.permission()
        print(place.version_text)
        return 0
    if verb == "list":
        return _list(place, trouble)
    if verb.startswith("usb"):
        return _usb(options, trouble)
    if verb == "stop" and options.force + options.kill + options.request > 1:
        raise ThrownError("You can only specify one of: --force, --kill, or --request")
    if verb in ("exec", "file pull", "file push"):
        return _guest(options, verb, place, trouble)
    with opened(place) as registry:
        entry = _find(registry, options.identifier, trouble)
        trouble.connection()
        _machine(options, verb, registry, entry, trouble)
    return 0


def _find(registry: Registry, identifier: str, trouble: Trouble) -> Entry:
    """Look a machine up. What goes wrong with the event is silenced: the machine is then simply not found."""
    try:
        trouble.permission()
    except EventError:
        raise ThrownError("Virtual machine not found.") from None
    entry = None if trouble.happens("empty-list") else registry.find(identifier)
    if entry is None:
        raise ThrownError("Virtual machine not found.")
    return entry


def _list(place: Place, trouble: Trouble) -> int:
    print("UUID                                 Status   Name")
    sys.stdout.flush()
    trouble.permission()
    trouble.connection()
    if trouble.happens("empty-list"):
        return 0
    word = trouble.take("unknown-status")
    with opened(place) as registry:
        rows = [(entry.uuid, verbs.status(entry, place), entry.name) for entry in registry.entries]
    extra = trouble.take("extra-names")
    rows += [(new_uuid(), "stopped", name) for name in (extra["value"] if extra else [])]
    for uuid, status, name in rows:
        shown = (word["value"] or "unknown") if word else status
        print(f"{uuid} {shown:<8} {name}")
    return 0


def _usb(options: Namespace, trouble: Trouble) -> int:
    trouble.permission()
    if options.way == "list":
        print(f"{'Name':<40} VID :PID  Location")
        return 0
    raise ThrownError("Device not found.")


def _machine(options: Namespace, verb: str, registry: Registry, entry: Entry, trouble: Trouble) -> None:  # noqa: C901  # one branch a verb
    place = registry.place
    if verb == "status":
        word = trouble.take("unknown-status")
        print((word["value"] or "unknown") if word else verbs.status(entry, place))
    elif verb == "start":
        if options.attach:
            print("WARNING: attach command is not implemented yet!")
        recovery = getattr(options, "recovery", False)
        verbs.start(registry, entry, trouble, disposable=options.disposable, recovery=recovery)
    elif verb == "suspend":
        verbs.suspend(entry, place, save=options.save_state)
    elif verb == "stop":
        verbs.stop(entry, place, "kill" if options.kill else "request" if options.request else "force", trouble)
    elif verb == "delete":
        verbs.delete(registry, entry)
    elif verb == "clone":
        verbs.must_be_stopped(entry, place)
        registry.duplicate(entry, options.name)
    elif verb == "ip-address":
        for address in verbs.addresses(entry, place, trouble):
            print(address)
    elif verb == "attach":
        _attach(options, entry, place)


def _attach(options: Namespace, entry: Entry, place: Place) -> None:
    print("WARNING: attach command is not implemented yet!")
    if verbs.status(entry, place) != "started":
        raise EventError(NOT_RUNNING)
    if not entry.is_qemu:
        return
    found = qemu.terminals(place.sockets(entry.uuid))
    index = options.index or 0
    if index < len(found):
        print(found[index])


def _guest(options: Namespace, verb: str, place: Place, trouble: Trouble) -> int:
    """Do what goes on for long, and so without holding up everybody else."""
    with opened(place) as registry:
        entry = _find(registry, options.identifier, trouble)
        trouble.connection()
        verbs.need_agent(entry, trouble)
        if verbs.status(entry, place) != "started":
            raise EventError(NOT_RUNNING)
    sockets = place.sockets(entry.uuid)
    if verb == "file pull":
        for part in qemu.pull(sockets, options.path):
            sys.stdout.buffer.write(part)
    elif verb == "file push":
        qemu.push(sockets, options.path, iter(lambda: sys.stdin.buffer.read(4096), b""))
    else:
        if not options.cmd:
            raise ThrownError("Missing expected argument '--cmd <cmd> ...'")
        given = sys.stdin.buffer.read() if options.input else None
        code, out, err = qemu.execute(sockets, options.cmd, environment=options.env, given=given)
        os.write(1, out)
        os.write(2, err)
        return code
    return 0
