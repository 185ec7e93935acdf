"""What changed in a running machine against the image it was made from, the worst first.

The guest itself is asked: who rules it as root can have it lie. What it leaves out is seen from outside only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from vmkit.drivers.base import Driver
from vmkit.errors import WrongState
from vmkit.guest.base import Guest
from vmkit.guest.keys import load_keys
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.text import printable
from vmkit.images.store import ImageStore
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.drift_baseline import Baseline, baseline_of
from vmkit.workflows.drift_expected import Expected, expected_of
from vmkit.workflows.drift_inventory import FileFact, Inventory, User, ask, parse_inventory
from vmkit.workflows.drift_kinds import MEANINGS, PRIVILEGED_GROUPS, Kind, Risk, capability_names, kind_of

T = TypeVar("T")

_SHOWN_CHARS = 300
_NO_SHELLS = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false")


class Change(StrEnum):
    """What happened to it."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One change, printable. `owner`: who made it as it should be: the closed network, or a recipe of the machine."""

    kind: Kind
    change: Change
    subject: str
    detail: str = ""
    owner: str = ""

    @property
    def risk(self) -> Risk:
        """How much it matters."""
        return Risk.EXPECTED if self.owner else MEANINGS[self.kind].risk

    def to_json(self) -> dict[str, object]:
        """Return one of the `findings`."""
        return {
            "risk": str(self.risk),
            "kind": str(self.kind),
            "change": str(self.change),
            "subject": self.subject,
            "detail": self.detail,
            "reason": MEANINGS[self.kind].reason,
            "expected_by": self.owner or None,
        }


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What changed in a machine. `missed`: what could not be looked at, there or in the image."""

    machine: str
    image: str
    image_digest: str
    findings: tuple[Finding, ...]
    missed: tuple[str, ...]

    def count(self, risk: Risk) -> int:
        """Return how many findings are of that risk."""
        return sum(finding.risk is risk for finding in self.findings)

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "machine": self.machine,
            "image": self.image,
            "image_digest": self.image_digest,
            "counts": {str(risk): self.count(risk) for risk in Risk},
            "findings": [finding.to_json() for finding in self.findings],
            "not_looked_at": list(self.missed),
        }


def drift(
    machine: Machine,
    *,
    guest: Guest,
    machines: MachineStore,
    images: ImageStore,
    driver: Driver,
    runner: Runner,
    report: Report,
    timeout_s: float,
    baseline: Baseline = baseline_of,
) -> Drift:
    """Compare a running machine, which `guest` reaches, with its image, which is booted once when it is not known yet.

    Raises WrongState for a machine that was not made from an image; Refused for an answer that makes no sense, or when
    the image is gone; HostLacks where no copy can be booted; TimedOut, ToolFailed (the copy).
    """
    if not machine.seeded:
        raise WrongState(f'machine "{machine.name}" was not made from an image', hint="vmkit list")
    known = baseline(
        machine, machines=machines, images=images, driver=driver, runner=runner, report=report, timeout_s=timeout_s
    )
    with report.phase("inventory", f"looking at what {machine.name} has"):
        now = parse_inventory(ask(guest), own_key=load_keys(machine.keys).user_public)
    user = known.users.get(machine.user)
    expected = expected_of(machine, now, user=user, recipes_folder=machines.paths.recipes)
    return Drift(
        machine=machine.name,
        image=machine.image,
        image_digest=machine.image_digest,
        findings=compare(now, known, expected=expected),
        missed=tuple(printable(what, max_chars=_SHOWN_CHARS) for what in dict.fromkeys((*now.missed, *known.missed))),
    )


def compare(now: Inventory, before: Inventory, *, expected: Expected | None = None) -> tuple[Finding, ...]:
    """Return the changes, the worst first; those that `expected` knows come last."""
    expected = expected or Expected()
    found = [
        *_users(now, before),
        *_groups(now, before),
        *_keys(now, before),
        *_rights(now, before),
        *_files(now, before, expected),
        *_packages(now, before, expected),
    ]
    risks, kinds, changes = list(Risk), list(Kind), list(Change)
    return tuple(
        sorted(
            found,
            key=lambda one: (
                risks.index(one.risk),
                kinds.index(one.kind),
                changes.index(one.change),
                one.subject,
                one.detail,
            ),
        )
    )


def _finding(kind: Kind, change: Change, subject: str, detail: str = "", owner: str = "") -> Finding:
    return Finding(
        kind=kind,
        change=change,
        subject=printable(subject, max_chars=_SHOWN_CHARS),
        detail=printable(detail, max_chars=_SHOWN_CHARS),
        owner=owner,
    )


def _changes(now: Mapping[str, T], before: Mapping[str, T]) -> Iterator[tuple[Change, str, T | None, T | None]]:
    for name in {*now, *before}:
        if name not in before:
            yield Change.ADDED, name, now[name], None
        elif name not in now:
            yield Change.REMOVED, name, None, before[name]
        elif now[name] != before[name]:
            yield Change.CHANGED, name, now[name], before[name]


def _users(now: Inventory, before: Inventory) -> Iterator[Finding]:
    for change, name, new, old in _changes(now.users, before.users):
        user = new or old
        if user is None:
            continue
        detail = f"number {user.uid}, home {user.home}, shell {user.shell}, password {user.password}"
        if new and old:
            detail = ", ".join(_user_changes(new, old))
            if not detail:
                continue  # the day on which a locked account was made
        kind = Kind.ROOT_USER if user.uid <= 0 else Kind.SYSTEM_USER if user.shell in _NO_SHELLS else Kind.USER
        yield _finding(kind, change, name, detail)


def _user_changes(new: User, old: User) -> Iterator[str]:
    for title, was, is_now in (
        ("number", old.uid, new.uid),
        ("group", old.gid, new.gid),
        ("home", old.home, new.home),
        ("shell", old.shell, new.shell),
        ("password", old.password, new.password),
    ):
        if was != is_now:
            yield f"{title} {was} → {is_now}"
    if new.password == old.password == "set" and new.day != old.day:  # noqa: S105  # a state
        yield "another password"


def _groups(now: Inventory, before: Inventory) -> Iterator[Finding]:
    for change, name, new, old in _changes(now.groups, before.groups):
        came, went = sorted((new or frozenset()) - (old or frozenset())), sorted((old or set()) - (new or set()))
        words = [*(f"{member} is in it" for member in came), *(f"{member} is not in it" for member in went)]
        yield _finding(
            Kind.SUDO if name in PRIVILEGED_GROUPS else Kind.GROUP, change, f"group {name}", ", ".join(words)
        )


def _keys(now: Inventory, before: Inventory) -> Iterator[Finding]:
    for path in {*now.keys, *before.keys}:
        new, old = now.keys.get(path, frozenset[str]()), before.keys.get(path, frozenset[str]())
        yield from (_finding(Kind.KEY, Change.ADDED, path, line) for line in new - old)
        yield from (_finding(Kind.KEY, Change.REMOVED, path, line) for line in old - new)


def _rights(now: Inventory, before: Inventory) -> Iterator[Finding]:
    for change, path, mode, was in _changes(now.rights, before.rights):
        yield _finding(Kind.RIGHTS, change, path, _arrow(mode, was, lambda one: f"{one[0]:04o} {_owner(*one[1:])}"))
    for change, path, value, old in _changes(now.capabilities, before.capabilities):
        yield _finding(
            Kind.RIGHTS, change, path, _arrow(value, old, lambda one: f"capabilities: {capability_names(one)}")
        )


def _files(now: Inventory, before: Inventory, expected: Expected) -> Iterator[Finding]:
    for change, path, new, old in _changes(now.files, before.files):
        if path in now.lines or path in before.lines:
            lines, were = now.lines.get(path, frozenset[str]()), before.lines.get(path, frozenset[str]())
            detail = _line_changes(lines - were, were - lines)
            owner = expected.owner_of_lines(path, lines - were, were - lines)
            if new is None or new.is_link or (old and new != replace(old, content=new.content)):
                owner, detail = "", ", ".join(filter(None, (_file_changes(new, old), detail)))
        else:
            owner = expected.owner_of_file(path, new) if new else ""
            detail = _file_changes(new, old)
        yield _finding(kind_of(path), change, path, detail, owner)


def _line_changes(came: Iterable[str], went: Iterable[str]) -> str:
    """Name the settings, not their values: a line may hold a token."""
    words = [f"{sign}{_setting(line)}" for sign, lines in (("+", came), ("-", went)) for line in sorted(lines)]
    return " ".join(words[:20])


def _setting(line: str) -> str:
    for mark in ("=", ":"):
        name, there, _ = line.partition(mark)
        if there:
            return name.strip() + mark
    return "…"


def _file_changes(new: FileFact | None, old: FileFact | None) -> str:
    words = []
    if new is None or old is None:
        return _described(new or old)
    if new.is_link or old.is_link:
        if (new.is_link, new.content) != (old.is_link, old.content):
            words.append(f"{_described(old)} → {_described(new)}")
        return ", ".join(words)
    if new.content != old.content:
        words.append("another content")
    if new.mode != old.mode:
        words.append(f"mode {old.mode:04o} → {new.mode:04o}")
    if (new.uid, new.gid) != (old.uid, old.gid):
        words.append(f"{_owner(old.uid, old.gid)} → {_owner(new.uid, new.gid)}")
    return ", ".join(words)


def _described(fact: FileFact | None) -> str:
    if fact is None:
        return ""
    return f"link to {fact.content}" if fact.is_link else f"{fact.mode:04o} {_owner(fact.uid, fact.gid)}"


def _packages(now: Inventory, before: Inventory, expected: Expected) -> Iterator[Finding]:
    for change, name, new, old in _changes(now.packages, before.packages):
        owner = expected.packages.get(name.partition(":")[0], "") if change is Change.ADDED else ""
        yield _finding(Kind.PACKAGE, change, name, _arrow(new, old, str), owner)


def _owner(uid: int, gid: int) -> str:
    return f"of {uid}:{gid}"


def _arrow(new: T | None, old: T | None, shown: Callable[[T], str]) -> str:
    return " → ".join(shown(one) for one in (old, new) if one is not None)
