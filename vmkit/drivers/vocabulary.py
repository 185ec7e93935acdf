"""What the installed UTM understands, read from its scripting dictionary `UTM.sdef` rather than guessed by version."""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from vmkit.errors import HostLacks, ToolFailed
from vmkit.host.files import read_bounded

_MAX_BYTES = 1 << 20
_MAX_ELEMENTS = 20_000
_IPSW = re.compile(r"ipsw|restore image|recovery image", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class MakesMacos:
    """The words with which `make` creates a macOS guest: `PROPERTY:ENUMERATOR` and the property of the IPSW file."""

    system_property: str
    enumerator: str
    ipsw_property: str


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The commands that not every UTM has."""

    imports: bool  # 4.6
    exports: bool  # 4.6
    updates_registry: bool  # 4.6
    reloads: bool  # after 5.0.3
    makes_macos: MakesMacos | None  # after 5.0.3


@dataclass(frozen=True)
class _Element:
    tag: str
    attributes: dict[str, str]
    path: tuple[str, ...]  # the names of the elements around it


def sdef_of(app: Path) -> Path:
    """Return the scripting dictionary inside `UTM.app`."""
    return app / "Contents" / "Resources" / "UTM.sdef"


def read_vocabulary(app: Path) -> Vocabulary:
    """Read the dictionary of an installed UTM. Raises HostLacks when it has none, ToolFailed when it is none."""
    try:
        return parse_vocabulary(read_bounded(sdef_of(app), max_bytes=_MAX_BYTES))
    except OSError as error:
        raise HostLacks(
            "this UTM has no scripting dictionary", detail=str(error), hint="install UTM from its publisher again"
        ) from error


def parse_vocabulary(sdef: bytes) -> Vocabulary:
    """Read a dictionary. Raises ToolFailed for what is no XML, declares entities or is too large."""
    elements = _elements(sdef)
    commands = {element.attributes.get("name") for element in elements if element.tag == "command"}
    return Vocabulary(
        imports="import" in commands,
        exports="export" in commands,
        updates_registry="update registry" in commands,
        reloads="reload configuration" in commands,
        makes_macos=_makes_macos(elements),
    )


def _makes_macos(elements: list[_Element]) -> MakesMacos | None:
    """Find an enumeration with macOS in it, the property of that type, and a file beside it that is an IPSW."""
    for enumerator in elements:
        name = enumerator.attributes.get("name", "")
        if enumerator.tag != "enumerator" or name.lower() != "macos" or not enumerator.path:
            continue
        for system in elements:
            if system.tag != "property" or system.attributes.get("type") != enumerator.path[-1]:
                continue
            for ipsw in elements:
                words = ipsw.attributes.get("name", "")
                beside = ipsw.tag == "property" and ipsw.path == system.path
                if beside and ipsw.attributes.get("type") == "file" and _IPSW.search(words):
                    return MakesMacos(
                        system_property=system.attributes.get("name", ""), enumerator=name, ipsw_property=words
                    )
    return None


def _elements(sdef: bytes) -> list[_Element]:
    found: list[_Element] = []
    path: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(found) >= _MAX_ELEMENTS:
            raise ToolFailed("UTM's scripting dictionary is too large")
        found.append(_Element(tag, attributes, tuple(path)))
        path.append(attributes.get("name", tag))

    def doctype(_name: str, _system: str | None, _public: str | None, has_internal_subset: int) -> None:
        if has_internal_subset:
            raise ToolFailed("UTM's scripting dictionary declares entities of its own")

    # expat opens no files and no addresses: the DTD that the dictionary names is never read.
    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _tag: path.pop()
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(sdef, True)  # noqa: FBT003  # "this is the end", and positional only
    except expat.ExpatError as error:
        raise ToolFailed("UTM's scripting dictionary is not XML", detail=str(error)) from error
    return found
