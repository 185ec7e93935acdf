"""What is in a guest that matters to its safety: one command asks it, one pure parser reads the answer.

The answer is hostile data: bounded, and every record must have its form. Names and paths may hold any byte.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vmkit.errors import Refused
from vmkit.guest.base import Command, Guest
from vmkit.host.resources import data_folder
from vmkit.host.text import printable, printable_lines

_TIMEOUT_S = 900.0  # seconds where processors help; a walk through a whole disk under emulation
_MAX_BYTES = 16 << 20
_FIRST = "vmkit inventory 1"
_LAST = "end"

_ID = r"[0-9]{1,10}"
_MODE = r"[0-7]{1,5}"
_PACKAGE = r"[A-Za-z0-9][A-Za-z0-9+.~-]{0,127}"
_SHA256 = re.compile(r"([0-9a-f]{64})  (.+)", re.DOTALL)
# The first record of each kind, and how many follow that hold what the guest chose freely.
_FORMS = {
    "passwd": (re.compile("passwd"), 2),
    "group": (re.compile("group"), 2),
    "line": (re.compile("line"), 2),
    "key": (re.compile("key"), 2),
    "stamp": (re.compile("stamp"), 2),
    "cut": (re.compile("cut"), 1),
    "password": (re.compile(rf"password\t(none|locked|set)\t({_ID})"), 1),
    "file": (re.compile(rf"file\t([fl])\t({_MODE})\t({_ID})\t({_ID})\t([0-9]{{1,19}})"), 2),
    "rights": (re.compile(rf"rights\t({_MODE})\t({_ID})\t({_ID})"), 1),
    "capability": (re.compile(r"capability\t([0-9a-f]{2,200})"), 1),
    "package": (re.compile(rf"package\t({_PACKAGE})\t({_PACKAGE})\t([A-Za-z0-9.+:~-]{{0,200}})\t([a-z-]{{1,40}})"), 0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFact:
    """A file or a link. `content`: a file's SHA-256, its size when it is too large for one, or where a link leads."""

    mode: int
    uid: int
    gid: int
    content: str
    is_link: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """A line of /etc/passwd, and whether there is a password (`none`, `locked`, `set`) since which day."""

    uid: int
    gid: int
    home: str
    shell: str
    password: str = "unknown"  # noqa: S105  # a state, not a password
    day: int = 0


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """A guest as it was when it was asked. `lines`, `keys`: by their file. `missed`: what was not looked at."""

    users: Mapping[str, User]
    groups: Mapping[str, frozenset[str]]
    packages: Mapping[str, str]
    files: Mapping[str, FileFact]
    lines: Mapping[str, frozenset[str]] = field(default_factory=dict)
    keys: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rights: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    capabilities: Mapping[str, str] = field(default_factory=dict)
    stamps: Mapping[str, str] = field(default_factory=dict)
    missed: tuple[str, ...] = ()


def inventory_script() -> str:
    """Return what runs in the guest."""
    return (data_folder("provision") / "drift/inventory.sh").read_text()


def ask(guest: Guest) -> bytes:
    """Ask a guest what it has, as root. Raises Refused when it does not say, or says too much."""
    done = guest.run(
        Command("sudo", "-n", "sh", "-c", inventory_script(), "inventory"),
        check=False,
        timeout_s=_TIMEOUT_S,
        max_bytes=_MAX_BYTES,
    )
    if not done.ok:
        said = "\n".join(printable_lines(done.stderr, max_lines=6)) or f"it exited with {done.code}"
        raise Refused("the guest did not tell what it has", detail=said)
    if len(done.stdout) >= _MAX_BYTES:
        raise Refused(f"the guest told more than the {_MAX_BYTES >> 20} MiB that are read of it")
    return done.stdout


def parse_inventory(answer: bytes, *, own_key: str) -> Inventory:
    """Read the answer. The key by which vmkit itself came in (a public line) is left out: each machine has its own.

    Raises Refused when a record has another form.
    """
    found: dict[str, list[tuple[str, ...]]] = {name: [] for name in _FORMS}
    digests: dict[str, str] = {}
    records = iter(answer.decode("utf-8", "surrogateescape").split("\0"))
    if next(records, None) != _FIRST:
        raise _nonsense("it does not begin as it should")
    for record in records:
        if record == _LAST:
            if list(records) != [""]:
                raise _nonsense("it goes on after its end")
            return _inventory(found, digests, own_key=" ".join(own_key.split()[:2]))
        digest = _SHA256.fullmatch(record)
        if digest:
            digests[_path(digest[2])] = digest[1]
            continue
        name = record.partition("\t")[0]
        form, more = _FORMS.get(name, (None, 0))
        match = form.fullmatch(record) if form else None
        if not match:
            raise _nonsense(record)
        free = tuple(text for _, text in zip(range(more), records, strict=False))
        if len(free) != more:
            break
        found[name].append((*match.groups(), *free))
    raise _nonsense("it ends too early")


def _inventory(found: Mapping[str, list[tuple[str, ...]]], digests: Mapping[str, str], *, own_key: str) -> Inventory:
    keys = {
        path: {line for line in lines if line.strip() and line.strip()[0] != "#"}
        for path, lines in _by_path(found["key"]).items()
    }
    return Inventory(
        users=dict(_users(found)),
        groups={name: members for name, members in map(_group, found["group"]) if name},
        packages={
            f"{name}:{arch}": version for name, arch, version, status in found["package"] if status == "installed"
        },
        files={
            _path(path): FileFact(
                mode=int(mode, 8),
                uid=int(uid),
                gid=int(gid),
                content=target if kind == "l" else digests.get(_path(path), f"{size} bytes"),
                is_link=kind == "l",
            )
            for kind, mode, uid, gid, size, path, target in found["file"]
        },
        lines={path: frozenset(filter(None, lines)) for path, lines in _by_path(found["line"]).items()},
        keys={
            path: frozenset(line for line in lines if " ".join(line.split()[:2]) != own_key)
            for path, lines in keys.items()
        },
        rights={_path(path): (int(mode, 8), int(uid), int(gid)) for mode, uid, gid, path in found["rights"]},
        capabilities={_path(path): value for value, path in found["capability"]},
        stamps={key: digest.strip() for key, digest in found["stamp"]},
        missed=tuple(dict.fromkeys(what.removeprefix(".") for (what,) in found["cut"])),
    )


def _users(found: Mapping[str, list[tuple[str, ...]]]) -> Iterator[tuple[str, User]]:
    passwords = {name: (state, int(day)) for state, day, name in found["password"]}
    seen: set[str] = set()
    for _, line in found["passwd"]:
        if not line:
            continue
        fields = line.split(":")
        if len(fields) != 7 or not re.fullmatch(_ID, fields[2]) or not re.fullmatch(_ID, fields[3]):  # passwd(5)
            yield line, User(uid=-1, gid=-1, home="", shell="")  # as it is: the C library may read it all the same
            continue
        name, word, uid, gid, _, home, shell = fields
        state, day = passwords.get(name, ("unknown", 0))
        if word != "x":
            state = "none" if not word else "locked" if word[0] in "*!" else "set"
        user = User(uid=int(uid), gid=int(gid), home=home, shell=shell, password=state, day=day)
        yield f"{name} (again)" if name in seen else name, user
        seen.add(name)


def _group(record: tuple[str, ...]) -> tuple[str, frozenset[str]]:
    name, _, rest = record[1].partition(":")
    return name, frozenset(filter(None, rest.rpartition(":")[2].split(",")))


def _by_path(records: list[tuple[str, ...]]) -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {}
    for path, line in records:
        lines.setdefault(_path(path), []).append(line)
    return lines


def _path(told: str) -> str:
    return told.removeprefix(".")


def _nonsense(evidence: str) -> Refused:
    return Refused(
        "the guest told something that makes no sense", detail=printable(evidence.encode("utf-8", "replace")[:400])
    )
