"""Render a policy as files that a user keeps on this computer: srt's settings, a container, Kiro's hooks."""

import json
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from vmkit.bundle.template import load_template
from vmkit.errors import Refused, UsageError, WrongState
from vmkit.host.computer import machine_arch
from vmkit.host.files import read_bounded, write_atomically
from vmkit.host.paths import Paths
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.host.settings import Settings
from vmkit.kiro.release import Libc, Release, fetch_release
from vmkit.machines.model import Machine
from vmkit.network.policy import Mode, Policy
from vmkit.network.srt import Remark
from vmkit.network.srt_settings import render_srt
from vmkit.workflows.assets import lock_of, read_lock
from vmkit.workflows.net import policy_for, policy_of

BASE_GLIBC = (2, 41)  # of the container's base, Debian 13
_MAX_BYTES = 256 << 10
_SETTINGS = "srt-settings.json"
_HOOKS = "vmkit-hooks"
_SRT_COMMENT = (
    "Settings for srt (Sandbox Runtime) 0.0.83, rendered by vmkit. README.txt beside this file says more.",
    "What this wall does not stop: it shares this computer's kernel; what is not in denyRead can be read; the",
    "project's folder and Kiro's login can be read by all inside; an allowed host takes whatever is sent to it.",
)
_HOOK_COMMENT = """\
# What this does not stop: it is a check, not a wall. It fails open, sees only what Kiro tells it, and the same command
# can be written in other words. Rendered by vmkit; README.txt beside this file says more.
"""
_NETWORKS = {
    Mode.STRICT: "The policy names {hosts} hosts; nothing here holds the container to them:\n  {names}",
    Mode.OPEN: "The policy leaves it open.",
    Mode.AIRGAP: "The policy allows none, and run.sh gives it none: Kiro cannot reach its service.",
}


class Target(StrEnum):
    """What the files are for."""

    SRT = "srt"
    DOCKER = "docker"
    KIRO_HOOKS = "kiro-hooks"


@dataclass(frozen=True, kw_only=True)
class NewFile:
    """A file to write: its content, or the file that it is a copy of."""

    content: bytes = b""
    copy_of: Path | None = None
    mode: int = 0o644


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and what of the policy the files cannot say."""

    to: Target
    source: str
    files: tuple[Path, ...]
    remarks: tuple[Remark, ...]

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "to": self.to.value,
            "source": self.source,
            "files": [str(path) for path in self.files],
            "remarks": [{"name": remark.name, "text": remark.text} for remark in self.remarks],
        }


def checked_output(output: Path) -> Path:
    """Return the place as an absolute path. Raises UsageError for one that cannot stand in a script."""
    place = output.expanduser().absolute()
    if not str(place).isprintable():
        raise UsageError("the path of --output holds a control character")
    return place


def export_policy(
    to: Target,
    *,
    machine: Machine | None,
    template: str | None,
    output: Path,
    force: bool,
    settings: Settings,
    paths: Paths,
    report: Report,
    clock: Callable[[], float] = time.time,
) -> Exported:
    """Write the policy of a machine, or of the template's new machines, as files for this computer.

    Raises WrongState (files that are there, an open network), UsageError, NotFound, Refused (an archive).
    """
    policy, source = _policy(machine, template, settings=settings, paths=paths)
    match to:
        case Target.SRT:
            files, remarks = srt_files(policy, output, now=clock())
        case Target.DOCKER:
            release = _release(machine, paths=paths, report=report)
            files, remarks = docker_files(policy, output, release=release)
        case Target.KIRO_HOOKS:
            files, remarks = hook_files(output)
    write_files(files, force=force)
    return Exported(to=to, source=source, files=tuple(files), remarks=remarks)


def _policy(machine: Machine | None, template: str | None, *, settings: Settings, paths: Paths) -> tuple[Policy, str]:
    if machine:
        return policy_of(machine), machine.name
    name = template or str(settings.default("template") or "kiro")
    found = load_template(name, user_folder=paths.templates)
    return policy_for(str(settings.default("egress") or found.egress), found.recipes), found.name


def _release(machine: Machine | None, *, paths: Paths, report: Report) -> Release:
    """Return the archive for a container on this computer: of the machine's version, when it has one."""
    locked = read_lock(lock_of(machine)) if machine else None
    release = fetch_release(
        arch=machine_arch(),
        libc=Libc.GLIBC,
        glibc_version=BASE_GLIBC,
        cache=paths.cache,
        report=report,
        version=locked.identity.version if locked else None,
    )
    if locked and locked.file_name == release.package.file_name and locked.identity.sha256 != release.sha256:
        raise Refused(
            f"Kiro CLI {release.version} is not the archive that the machine was locked to",
            detail=f"locked to sha256 {locked.identity.sha256}\nthe manifest says {release.sha256}",
        )
    return release


def srt_files(policy: Policy, output: Path, *, now: float) -> tuple[dict[Path, NewFile], tuple[Remark, ...]]:
    """Return srt's settings and their README; `output` is a folder, or the settings' own file (`….json`).

    Raises WrongState for an open network.
    """
    settings = output if output.suffix == ".json" else output / _SETTINGS
    readme = settings.with_name(f"{settings.stem}-README.txt") if output.suffix == ".json" else output / "README.txt"
    rendered = render_srt(policy, now=now, comment=_SRT_COMMENT)
    text = _text("srt", "host-README.txt", {"@SETTINGS@": shlex.quote(str(settings))})
    content = (json.dumps(rendered.content, indent=2) + "\n").encode()
    return {settings: NewFile(content=content), readme: NewFile(content=text)}, rendered.remarks


def docker_files(policy: Policy, output: Path, *, release: Release) -> tuple[dict[Path, NewFile], tuple[Remark, ...]]:
    """Return a Dockerfile, its scripts and the verified archive beside them."""
    hosts = sorted({rule.host for rule in policy.rules if rule.expires is None})
    network = _NETWORKS[policy.mode].format(hosts=len(hosts), names="\n  ".join(hosts))
    facts = {
        "@FOLDER@": shlex.quote(str(output)),
        "@ARCHIVE@": release.package.file_name,
        "@SHA256@": release.sha256,
        "@VERSION@": release.version,
        "@NETWORK@": network,
    }
    image = f"KIRO_ARCHIVE={release.package.file_name}\nKIRO_SHA256={release.sha256}\n"
    none = "none" if policy.mode is Mode.AIRGAP else ""
    head = "# From vmkit. What the wall does not stop: README.txt.\n"
    files = {
        "Dockerfile": NewFile(content=_text("container", "Dockerfile")),
        "build.sh": NewFile(content=_text("container", "build.sh"), mode=0o755),
        "run.sh": NewFile(content=_text("container", "run.sh"), mode=0o755),
        "install.sh": NewFile(content=_text("kiro-cli", "install.sh")),
        "image.env": NewFile(content=f"{head}{image}".encode()),
        "run.env": NewFile(content=f"{head}NETWORK=${{NETWORK:-{none}}}\n".encode()),
        "README.txt": NewFile(content=_text("container", "host-README.txt", facts)),
        release.package.file_name: NewFile(copy_of=release.archive),
    }
    remarks: tuple[Remark, ...] = ()
    if policy.mode is Mode.STRICT:
        text = "a container's network is not a list of names: README.txt has the list, and nothing holds to it"
        remarks = (Remark(name=f"{len(hosts)} hosts", text=text),)
    return {output / name: file for name, file in files.items()}, remarks


def hook_files(output: Path) -> tuple[dict[Path, NewFile], tuple[Remark, ...]]:
    """Return the recipe `kiro-hooks` for this computer; `output` is a `.kiro` folder. No host name is in it."""
    folder = output / _HOOKS
    agent = json.loads(_text("kiro-hooks", "agent.json"))
    agent["hooks"]["preToolUse"][0]["command"] = f"sh {shlex.quote(str(folder / 'check.sh'))}"
    own = {r"/usr/local/lib/vmkit/kiro-hooks|\.kiro/agents/vmkit\.json": rf"{_HOOKS}/|agents/vmkit\.json"}
    files = {
        output / "agents" / "vmkit.json": NewFile(content=(json.dumps(agent, indent=2) + "\n").encode()),
        folder / "check.sh": NewFile(content=_HOOK_COMMENT.encode() + _text("kiro-hooks", "check.sh")),
        folder / "deny": NewFile(content=_HOOK_COMMENT.encode() + _text("kiro-hooks", "deny", own)),
        folder / "README.txt": NewFile(content=_text("kiro-hooks", "host-README.txt", {"@FOLDER@": str(output)})),
    }
    text = "hooks know nothing of hosts: what the policy says of the network is not in them"
    return files, (Remark(name="network", text=text),)


def write_files(files: Mapping[Path, NewFile], *, force: bool) -> None:
    """Write all the files, or none. Raises WrongState, naming them, when some are there and `force` is not set."""
    there = [path for path in files if path.exists() or path.is_symlink()]
    if there and not force:
        raise WrongState(
            f"{len(there)} of {len(files)} files are there already, and nothing was written",
            detail="\n".join(str(path) for path in there),
            hint="another --output, or --force to replace them",
        )
    written: list[Path] = []
    try:
        for path, file in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            written.append(path)
            if file.copy_of is None:
                write_atomically(path, file.content, mode=file.mode)
            else:
                path.unlink(missing_ok=True)
                shutil.copyfile(file.copy_of, path)
                path.chmod(file.mode)
    except BaseException:
        for path in written:
            if path not in there:
                path.unlink(missing_ok=True)
        raise


def _text(recipe: str, name: str, facts: Mapping[str, str] | None = None) -> bytes:
    """Return a file of a shipped recipe, with what is between `@` filled in."""
    text = read_bounded(data_folder("provision") / recipe / name, max_bytes=_MAX_BYTES).decode()
    for mark, value in (facts or {}).items():
        if mark not in text:
            raise AssertionError(f"{recipe}/{name} has no {mark}")
        text = text.replace(mark, value)
    return text.encode()
