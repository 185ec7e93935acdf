"""What a guest is and has: one command asks it, one pure parser reads the answer.

The answer is hostile data: bounded, and every value must have the form it is used in.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vmkit.errors import ProvisionFailed, Refused
from vmkit.guest.base import Command, Guest
from vmkit.host.text import printable, printable_lines
from vmkit.recipes.model import Account, File, Packages, Recipe, Script, step_key

STAMPS_FOLDER = "/var/lib/vmkit/steps"
WORK_FOLDER = ".cache/vmkit-provision"  # under the user's home: on disk, while /tmp may be in memory

_CHECK_S = 60
_TIMEOUT_S = 600.0
_MAX_BYTES = 256 << 10

_WORD = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
_HOME = r"(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){1,8}"
_KEY = r"[a-z][a-z0-9-]{0,40}\.[a-z][a-z0-9-]{0,40}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFact:
    """A regular file in the guest."""

    sha256: str
    mode: int
    owner: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """A guest as it was when it was asked. `stamps`, `checks` and `files` go by step key (`RECIPE.STEP`)."""

    os_id: str
    os_version: str
    arch: str
    libc: str
    libc_version: tuple[int, ...]
    user: str
    uid: int
    home: str
    free_bytes: int
    has_apt: bool
    has_leftovers: bool
    packages: frozenset[str] = frozenset()
    files: Mapping[str, FileFact] = field(default_factory=dict)
    stamps: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, bool] = field(default_factory=dict)


def gather(guest: Guest, recipes: Iterable[Recipe], *, stamps: str = STAMPS_FOLDER) -> Facts:
    """Ask the guest all that `recipes` depend on, in one round trip; nothing in it is changed.

    Raises ProvisionFailed when its user cannot become root; Refused for an answer that makes no sense.
    """
    outcome = guest.run(
        Command("sh", "-s"),
        stdin=question(recipes, stamps=stamps).encode(),
        timeout_s=_TIMEOUT_S,
        check=False,
        max_bytes=_MAX_BYTES,
    )
    return parse_facts(outcome.text, complaints=outcome.stderr)


def question(recipes: Iterable[Recipe], *, stamps: str = STAMPS_FOLDER) -> str:
    """Return the sh script that prints a line `NAME<TAB>VALUE…` for each fact."""
    as_user: list[str] = []
    as_root: list[str] = []
    for recipe in recipes:
        for step in recipe.steps:
            key = step_key(recipe.name, step.id)
            as_root.append(f"stamp {key} {shlex.quote(f'{stamps}/{key}')}")
            match step:
                case Packages():
                    words = " ".join(shlex.quote(name) for names in step.names for name in names.split("|"))
                    as_root.append(f"packages {words}" if words else ":")
                case File():
                    as_root.append(f"file {key} {in_home(step.target)}")
                case Script(check=str(check)):
                    asked = as_root if step.account is Account.ROOT else as_user
                    asked.append(f"check {key} {shlex.quote(check)}")
                case _:
                    pass
    root_part = "\n".join([_FUNCTIONS, *as_root, "printf 'root\\n'"])
    # A function, so that the shell has read all of it before a command in it can read standard input.
    lines = [
        "main() {",
        _FUNCTIONS,
        _SYSTEM,
        *as_user,
        'elevate="sudo -n --"; [ "$(id -u)" != 0 ] || elevate=',
        f'$elevate env "HOME=$HOME" sh -c {shlex.quote(root_part)}',
        "printf 'end\\n'",
        "}",
        "main </dev/null",
    ]
    return "\n".join([*lines, ""])


def records_of(stamps: str) -> str:
    """Return the folder of a guest where it is noted which packages came with which step."""
    return f"{stamps.rpartition('/')[0]}/packages"  # beside the stamps


def in_home(target: str) -> str:
    """Return the shell word for a target of the form `/…` or `~/…`, whose characters the loader has checked."""
    return f'"$HOME"{target[1:]}' if target.startswith("~") else target


_FUNCTIONS = rf"""
stamp() {{ [ ! -f "$2" ] || printf 'stamp\t%s\t%s\n' "$1" "$(head -c 64 "$2")"; }}
packages() {{ dpkg-query -W -f='package\t${{Package}}\t${{db:Status-Status}}\n' "$@" 2>/dev/null || :; }}
file() {{
  [ ! -f "$2" ] || [ -L "$2" ] ||
    printf 'file\t%s\t%s\t%s\n' "$1" "$(sha256sum <"$2" | head -c 64)" "$(stat -c '%a	%U' "$2")"
}}
check() {{
  if timeout {_CHECK_S} sh -c "$2" >/dev/null 2>&1; then printf 'check\t%s\tyes\n' "$1"
  else printf 'check\t%s\tno\n' "$1"; fi
}}
"""

_SYSTEM = rf"""
printf 'begin\n'
(. /etc/os-release; printf 'os\t%s\t%s\n' "$ID" "${{VERSION_ID:-none}}")
printf 'arch\t%s\n' "$(uname -m)"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc="musl $(ldd --version 2>&1 | sed -n 's/^Version //p')"
printf 'libc\t%s\t%s\n' "${{libc%% *}}" "${{libc#* }}"
printf 'user\t%s\t%s\t%s\n' "$(id -un)" "$(id -u)" "$HOME"
printf 'free-kib\t%s\n' "$(df -Pk "$HOME" | awk 'NR == 2 {{ print $4 }}')"
if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then printf 'has\tapt\n'; fi
if [ -e "$HOME/{WORK_FOLDER}" ]; then printf 'has\tleftovers\n'; fi
"""

_FORMS = {
    "os": re.compile(rf"({_WORD})\t({_WORD})"),
    "arch": re.compile(rf"({_WORD})"),
    "libc": re.compile(r"(glibc|musl)\t([0-9]{1,4}(?:\.[0-9]{1,4}){1,3})"),
    "user": re.compile(rf"([a-z_][a-z0-9_-]{{0,31}})\t([0-9]{{1,10}})\t({_HOME})"),
    "free-kib": re.compile(r"([0-9]{1,15})"),
    "has": re.compile(r"(apt|leftovers)"),
    "package": re.compile(rf"({_WORD})\t([a-z-]{{1,40}})"),
    "file": re.compile(rf"({_KEY})\t([0-9a-f]{{64}})\t([0-7]{{1,4}})\t({_WORD})"),
    "stamp": re.compile(rf"({_KEY})\t([^\t]*)"),
    "check": re.compile(rf"({_KEY})\t(yes|no)"),
}


def parse_facts(text: str, *, complaints: bytes = b"") -> Facts:
    """Read the answer to `question`. What a start-up file printed before `begin` is skipped.

    Raises ProvisionFailed when the part that needs root is missing; Refused when a value has another form.
    """
    found: dict[str, list[tuple[str, ...]]] = {name: [] for name in _FORMS}
    lines = text.split("\n")
    if "begin" not in lines or "end" not in lines:
        said = printable_lines(complaints, max_lines=6)
        raise Refused("the guest did not tell what it is and has", detail="\n".join(said) or None)
    body = lines[lines.index("begin") + 1 : lines.index("end")]
    for line in body:
        name, _, value = line.partition("\t")
        if name == "root" and not value:
            continue
        match = _FORMS[name].fullmatch(value) if name in _FORMS else None
        if not match:
            raise Refused("the guest told something that makes no sense", detail=printable(line, max_chars=200))
        found[name].append(match.groups())
    if "root" not in body:
        said = printable_lines(complaints, max_lines=6)
        raise ProvisionFailed(
            "the guest's user cannot become root without a password",
            detail="\n".join(said) or None,
            hint="give it a line in /etc/sudoers.d: USER ALL=(ALL) NOPASSWD: ALL",
        )
    return _facts(found)


def _facts(found: Mapping[str, list[tuple[str, ...]]]) -> Facts:
    os_id, os_version = _one(found, "os")
    libc, libc_version = _one(found, "libc")
    user, uid, home = _one(found, "user")[:3]
    has = {value for (value,) in found["has"]}
    return Facts(
        os_id=os_id,
        os_version=os_version,
        arch=_one(found, "arch")[0],
        libc=libc,
        libc_version=tuple(int(part) for part in libc_version.split(".")),
        user=user,
        uid=int(uid),
        home=home,
        free_bytes=int(_one(found, "free-kib")[0]) << 10,
        has_apt="apt" in has,
        has_leftovers="leftovers" in has,
        packages=frozenset(name for name, status in found["package"] if status == "installed"),
        files={
            key: FileFact(sha256=sha256, mode=int(mode, 8), owner=owner) for key, sha256, mode, owner in found["file"]
        },
        stamps={key: digest.strip() for key, digest in found["stamp"]},
        checks={key: answer == "yes" for key, answer in found["check"]},
    )


def _one(found: Mapping[str, list[tuple[str, ...]]], name: str) -> tuple[str, ...]:
    if len(found[name]) != 1:
        raise Refused(f'the guest told {len(found[name])} times what its "{name}" is')
    return found[name][0]
