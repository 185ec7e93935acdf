"""The machines UTM knows: its preferences and what the running UTM holds in memory, in one file."""

import base64
import copy
import json
import plistlib
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.utmsim import config as configuration
from tests.utmsim.faults import EventError
from tests.utmsim.place import Place

MUST_BE_STOPPED = "The virtual machine must be stopped before this operation can be performed."
NOT_RUNNING = "The virtual machine is not running."
NOT_AVAILABLE = "Operation not available."
NOT_SUPPORTED = "Operation not supported by the backend."


@dataclass
class Entry:
    """One machine."""

    uuid: str
    path: str
    config: dict[str, Any]
    status: str = "stopped"  # of an Apple-backend machine, or of one that is being suspended
    shares: list[str] = field(default_factory=list)
    pid: int | None = None
    started: str | None = None  # when the process began: a process id alone is used again
    disposable: bool = False
    suspended: bool = False

    @property
    def name(self) -> str:
        return str(self.config["Information"]["Name"])

    @property
    def is_qemu(self) -> bool:
        return bool(self.config["Backend"] == "QEMU")

    @property
    def data(self) -> Path:
        return Path(self.path) / "Data"


class Registry:
    """The list of machines, in UTM's order. Read and changed only inside `opened`."""

    def __init__(self, place: Place, entries: list[Entry]):
        self.place = place
        self.entries = entries

    def find(self, identifier: str) -> Entry | None:
        """Return the machine with exactly this UUID, or else exactly this name."""
        by_uuid = [entry for entry in self.entries if entry.uuid == identifier]
        by_name = [entry for entry in self.entries if entry.name == identifier]
        return next(iter(by_uuid + by_name), None)

    def add(self, source: Path) -> Entry:
        """Copy a bundle into Documents and list it. Raises EventError when it is none."""
        try:
            config = configuration.load(source / "config.plist")
        except configuration.InvalidError as error:
            raise EventError(configuration.NOT_VALID) from error
        target = self._unique(source.name.removesuffix(".utm"))
        shutil.copytree(source, target, symlinks=True)
        if any(entry.uuid == config["Information"]["UUID"] for entry in self.entries):
            config["Information"]["UUID"] = new_uuid()
        entry = Entry(uuid=config["Information"]["UUID"], path=str(target), config=config)
        self.entries.append(entry)
        return entry

    def duplicate(self, entry: Entry, name: str | None) -> Entry:
        name = name or self._free_name(entry.name)
        target = self._unique(file_name(name))
        shutil.copytree(entry.path, target, symlinks=True)
        config = copy.deepcopy(entry.config)
        config["Information"] |= {"Name": name, "UUID": new_uuid()}
        twin = Entry(uuid=config["Information"]["UUID"], path=str(target), config=config, shares=list(entry.shares))
        try:
            self.save(twin)
        except (EventError, OSError, ValueError):
            shutil.rmtree(twin.path)
            raise
        self.entries.append(twin)
        return twin

    def delete(self, entry: Entry) -> None:
        shutil.rmtree(entry.path, ignore_errors=True)
        shutil.rmtree(self.place.sockets(entry.uuid), ignore_errors=True)
        self.entries.remove(entry)

    def save(self, entry: Entry) -> None:
        """Write the configuration; delete what it does not speak of; call the bundle after the machine."""
        if entry.config["Backend"] == "Apple":
            _make_apple_files(entry)
        (Path(entry.path) / "config.plist").write_bytes(plistlib.dumps(entry.config))
        entry.data.mkdir(exist_ok=True)
        kept = configuration.files(entry.config)
        for file in entry.data.iterdir():
            if file.name not in kept:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        path = Path(entry.path)
        renamed = path.with_name(file_name(entry.name) + ".utm")
        if renamed != path:
            if renamed.exists():
                raise EventError(
                    f"\u201c{path.name}\u201d couldn\u2019t be moved to \u201c{path.parent.name}\u201d "
                    "because an item with the same name already exists."
                )
            path.rename(renamed)
            entry.path = str(renamed)

    def _unique(self, stem: str) -> Path:
        documents = self.place.documents
        path, number = documents / f"{stem}.utm", 2
        while path.exists():
            path, number = documents / f"{stem}-{number}.utm", number + 1
        return path

    def _free_name(self, name: str) -> str:
        number = 2
        while self.find(f"{name} {number}"):
            number += 1
        return f"{name} {number}"


def new_uuid() -> str:
    return str(uuid.uuid4()).upper()


def file_name(name: str) -> str:
    """Return the name of a bundle, without its suffix, as a save gives it."""
    return re.sub(r'[,/:\\?%*|"<>]', "-", name)


def _make_apple_files(entry: Entry) -> None:
    """Make what Virtualization.framework makes at a save. Raises EventError."""
    system = entry.config["System"]
    boot = system["Boot"]
    if boot["OperatingSystem"] == "Linux":
        if boot.get("UEFIBoot"):
            boot["EfiVariableStoragePath"] = "efi_vars.fd"
            _touch(entry.data / "efi_vars.fd")
        elif not boot.get("LinuxKernelPath"):
            raise EventError("A valid kernel image must be specified.")
    if "MacPlatform" in system:
        system["MacPlatform"]["AuxiliaryStoragePath"] = "AuxiliaryStorage"
        _touch(entry.data / "AuxiliaryStorage")


def _touch(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    if not file.exists():
        file.write_bytes(b"made by utmsim; Apple's format is unknown\n")


@contextmanager
def opened(place: Place) -> Iterator[Registry]:
    """Hold UTM's memory: read it, or launch UTM, which scans Documents and skips silently what it cannot read."""
    with place.lock():
        registry = Registry(place, _read(place))
        try:
            yield registry
        finally:
            _write(place, registry.entries)


def _read(place: Place) -> list[Entry]:
    if not place.registry.exists():
        return _scan(place)
    return [_decoded(item) for item in json.loads(place.registry.read_text())]


def _write(place: Place, entries: list[Entry]) -> None:
    staged = place.registry.with_suffix(".new")
    staged.write_text(json.dumps([_encoded(entry) for entry in entries], indent=1))
    staged.replace(place.registry)


def _scan(place: Place) -> list[Entry]:
    entries: dict[str, Entry] = {}
    for path in sorted(place.documents.glob("*.utm")):
        try:
            config = configuration.load(path / "config.plist")
        except configuration.InvalidError:
            continue
        if config["Information"]["UUID"] in entries:
            config["Information"]["UUID"] = new_uuid()
        identity = config["Information"]["UUID"]
        entries[identity] = Entry(uuid=identity, path=str(path), config=config)
    return list(entries.values())


def _encoded(entry: Entry) -> dict[str, Any]:
    # A plist inside JSON: a configuration holds bytes, and names that XML cannot.
    content = plistlib.dumps(entry.config, fmt=plistlib.FMT_BINARY)
    return asdict(entry) | {"config": base64.b64encode(content).decode()}


def _decoded(item: dict[str, Any]) -> Entry:
    return Entry(**item | {"config": plistlib.loads(base64.b64decode(item["config"]))})
