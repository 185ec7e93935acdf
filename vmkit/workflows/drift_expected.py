"""What vmkit itself puts into a guest after its image: a closed network's settings, and what its recipes install.

Known by content, line by line where a script edits a file. Only Kiro CLI's programs, half a gigabyte, go by their name.
"""

import contextlib
import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vmkit.errors import NotFound
from vmkit.host.resources import data_folder
from vmkit.machines.model import Machine
from vmkit.recipes.load import load_recipes
from vmkit.recipes.model import Account, File, Packages, Recipe
from vmkit.workflows.closed_network import guest_files
from vmkit.workflows.drift_inventory import FileFact, Inventory, User

_NETWORK = "the closed network"
_KIRO_PROGRAMS = ("kiro-cli", "kiro-cli-chat", "kiro-cli-term")
_RESOLVED = ("systemd-resolved.service", "systemd-resolved-monitor.socket", "systemd-resolved-varlink.socket")
_STAMP = re.compile(r"([a-z][a-z0-9-]{0,40})\.[a-z][a-z0-9-]{0,40}")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as the recipe base has it


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Whose each of these is, when it is as it says. `named`: files that go by their path alone.

    `first_on_path`: the folder that the recipe base puts before a PATH.
    """

    files: Mapping[str, tuple[FileFact, str]] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    first_on_path: str = ""

    def owner_of_file(self, path: str, fact: FileFact) -> str:
        """Return who put this file there as it is, or nothing."""
        wanted, owner = self.files.get(path, (None, ""))
        if wanted == fact:
            return owner
        return "" if fact.is_link else self.named.get(path, "")

    def owner_of_lines(self, path: str, came: Iterable[str], went: Iterable[str]) -> str:
        """Return who made these changes of lines, or nothing when nobody known made one of them."""
        known, went = dict(self.lines.get(path, {})), list(went)
        if self.first_on_path and path == "/etc/environment" and all(line.startswith("PATH=") for line in went):
            old = went[0].partition("=")[2].strip('"') if len(went) == 1 else _PATH
            known[f'PATH="{self.first_on_path}:{old}"'] = _named("base")
            went = went[1:]
        told = (_bare(line) if path.endswith(".json") else line for line in came)
        owners = {known.get(line, "") for line in told if line}
        return ", ".join(sorted(owners)) if owners and all(owners) and not went else ""


def expected_of(machine: Machine, now: Inventory, *, user: User | None, recipes_folder: Path) -> Expected:
    """Return what a machine may have beyond its image. `user`: its own, as the image has it.

    The recipes are the machine's, and those whose stamps its guest shows: what such a file holds is known here.
    """
    files: dict[str, tuple[FileFact, str]] = {}
    lines: dict[str, dict[str, str]] = {}
    packages: dict[str, str] = {}
    named: dict[str, str] = {}
    first_on_path = ""
    home = user.home if user else f"/home/{machine.user}"
    settings = f"{home}/.kiro/settings/cli.json"
    if machine.egress == "strict":
        files |= dict(_network_files())
        lines |= {f"/etc/{name}": dict.fromkeys(text, _NETWORK) for name, text in _network_lines().items()}
    for recipe in _recipes(machine, now, recipes_folder):
        owner = _named(recipe.name)
        for step in recipe.steps:
            match step:
                case Packages():
                    packages |= {name: owner for names in step.names for name in names.split("|")}
                case File() if step.owner is Account.ROOT or user:
                    uid, gid = (user.uid, user.gid) if user and step.owner is Account.USER else (0, 0)
                    target = f"{home}{step.target[1:]}" if step.target[0] == "~" else step.target
                    files[target] = (FileFact(mode=step.mode, uid=uid, gid=gid, content=step.sha256), owner)
                case _:
                    pass
        # What their scripts do.
        match recipe.name:
            case "base":
                first_on_path = f"{home}/.local/bin"
            case "kiro-cli":
                lines.setdefault("/etc/environment", {})["KIRO_NO_AUTO_UPDATE=1"] = owner
                lines.setdefault(settings, {})['"app.disableAutoupdates":true'] = owner
                named |= {f"{home}/.local/bin/{name}": owner for name in _KIRO_PROGRAMS}
            case "kiro-hooks":
                lines.setdefault(settings, {})['"chat.defaultAgent":"vmkit"'] = owner
            case _:
                pass
    return Expected(files=files, named=named, lines=lines, packages=packages, first_on_path=first_on_path)


def _recipes(machine: Machine, now: Inventory, folder: Path) -> Iterator[Recipe]:
    stamped = [match[1] for key in sorted(now.stamps) if (match := _STAMP.fullmatch(key))]
    for name in dict.fromkeys((*machine.recipes, *stamped)):
        with contextlib.suppress(NotFound):  # gone since, or never there
            yield from load_recipes([name], user_folder=folder)


def _network_files() -> Iterator[tuple[str, tuple[FileFact, str]]]:
    with tarfile.open(fileobj=io.BytesIO(guest_files())) as archive:
        for entry in archive:
            held = archive.extractfile(entry)
            digest = hashlib.sha256(held.read() if held else b"").hexdigest()
            yield f"/{entry.name}", (FileFact(mode=entry.mode, uid=0, gid=0, content=digest), _NETWORK)
    for unit in _RESOLVED:
        link = FileFact(mode=0o777, uid=0, gid=0, content="/dev/null", is_link=True)
        yield f"/etc/systemd/system/{unit}", (link, _NETWORK)


def _network_lines() -> dict[str, list[str]]:
    root = data_folder("provision") / "closed-network/root/usr/lib/vmkit/closed-network"
    return {name: (root / name).read_text().splitlines() for name in ("environment", "gitconfig")}


def _bare(line: str) -> str:
    """Return a setting in JSON as it would be alone on its line, without blanks and the braces around it."""
    return line.strip().rstrip(",").strip("{}").strip().replace('": ', '":')


def _named(recipe: str) -> str:
    return f"recipe {recipe}"
