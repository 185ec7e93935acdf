"""Save a machine as an image: scan its disk, generalise a copy of it, flatten the copy's disk, scan that, store it.

The first scan names what the cleaning would take away unseen: secrets in deleted files, histories, logs. The machine
stays as it was, and its login's disk is not looked at: all is done in a copy (see `trial_copy`).
"""

import base64
import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vmkit.bundle.layout import Bundle
from vmkit.drivers.base import Driver
from vmkit.errors import Refused, ToolFailed, WrongState
from vmkit.guest.base import Command, Guest
from vmkit.guest.keys import Keys, load_keys
from vmkit.host.files import own_directory, read_bounded, staging
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.host.text import printable, printable_lines
from vmkit.images.channels import is_channel, require_free_tag
from vmkit.images.disk import flatten
from vmkit.images.layout import Image, ImageMeta, now
from vmkit.images.packages import differing_sources
from vmkit.images.provenance import ImagePolicy, Lock, Seal
from vmkit.images.secrets.rules import OWN, VERSION, exact_rules
from vmkit.images.store import ImageStore
from vmkit.images.volumes import Content, find_volumes, read_ext4, zero_free
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore, read_journal
from vmkit.recipes.load import load_recipes
from vmkit.recipes.model import Recipe
from vmkit.recipes.model import digest_of as step_digest
from vmkit.workflows.apple import INITRD, KERNEL
from vmkit.workflows.closed_network import open_guest
from vmkit.workflows.net import policy_of
from vmkit.workflows.restart import stopped
from vmkit.workflows.scan_disk import Scanned, scan_disk
from vmkit.workflows.trial_copy import ReachCopy, end, guest_of, system_drive, trial_copy

_CLEAN_S = 1800.0
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]* [A-Za-z0-9.+:~-]{1,100} [a-z0-9-]{1,20}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AS_ROOT = 'exec sudo -n env VMKIT_USER="$1" VMKIT_HOME="$HOME" sh -c "$2"'
_PACKAGES = Command("dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\\n")
_SOURCES = Command("dpkg-query", "-W", "-f", "${Package} ${Version} ${source:Package} ${source:Version}\\n")


@dataclass(frozen=True, kw_only=True)
class Saved:
    """An image that was made of a machine, and what its disk was scanned for. `findings`: told, not refused."""

    image: Image
    scanned_bytes: int
    zeroed_bytes: int
    findings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return what `image save --json` adds to the image."""
        return {"scanned_bytes": self.scanned_bytes, "zeroed_bytes": self.zeroed_bytes, "findings": list(self.findings)}


def save(
    machine: Machine,
    reference: str,
    *,
    machines: MachineStore,
    images: ImageStore,
    driver: Driver,
    runner: Runner,
    report: Report,
    timeout_s: float,
    seal: bool = True,
    wipe: bool = False,
    reach: ReachCopy = guest_of,
    refreshed_from: str = "",
) -> Saved:
    """Store a machine under `NAME:TAG`; one that runs is stopped meanwhile.

    Without `seal`, what is found is only told, and the image unsealed. `wipe`: what the cleaning takes away may
    hold secrets. Raises Refused for something that looks like a secret, naming it; WrongState when the tag is taken;
    HostLacks (space), TimedOut and ToolFailed (the copy).
    `refreshed_from`: the digest of the image that this one is the renewal of.
    """
    name = require_free_tag(reference, images=images)
    movable = is_channel(name)
    with machines.lock(machine.name, "image save"):
        if read_journal(machine):
            raise WrongState(f'machine "{machine.name}" is unfinished', hint=f"vmkit provision {machine.name}")
        # Both now: what is lacking is said before the work, and the scripts that clean are those the lock names.
        recipes = load_recipes(machine.recipes, user_folder=machines.paths.recipes)
        meta = make_meta(machine, recipes, images=images, refreshed_from=refreshed_from)
        own_directory(images.root)
        with staging(images.root / "staging") as stage:
            raw = stage / "disk.raw"
            with contextlib.ExitStack() as stack:
                stack.enter_context(stopped(machine, machines=machines, driver=driver, report=report))
                if seal and not wipe:
                    _require_no_secret(machine, raw, machines=machines, runner=runner, report=report)
                copy = stack.enter_context(trial_copy(machine, machines=machines, driver=driver, runner=runner))
                with reach(copy, machines=machines, driver=driver, report=report, timeout_s=timeout_s) as guest:
                    packages, sources = installed_packages(guest), installed_sources(guest)
                    generalise(guest, machine, recipes, report)
                end(copy, machines=machines, driver=driver)
                flatten(copy.disk, source_format="qcow2", target=raw, runner=runner, report=report)
                known = _login_key(machine, machines=machines)
                for whose, keys in (("the machine's", load_keys(machine.keys)), ("its copy's", copy.keys)):
                    known |= _user_key(whose, keys) | _keys_in_guest(whose, keys)
            zeroed = _empty(raw, report)
            found = scan_disk(raw, known=exact_rules(known), runner=runner, report=report)
            if found.findings and seal:
                raise _refusal(machine, found, then="save again")
            for line in found.findings:
                report.note(f"not sealed: {line}")
            sealed = Seal(rules=VERSION, scanned_bytes=found.bytes) if seal else None
            data = machine.bundle / "Data"
            image = images.add(
                name,
                disk=raw,
                kernel=_existing(data / KERNEL),
                initrd=_existing(data / INITRD),
                meta=replace(meta, created=now(), packages=packages, sources=sources, seal=sealed),
                report=report,
                replace=movable,
            )
    return Saved(image=image, scanned_bytes=found.bytes, zeroed_bytes=zeroed, findings=found.findings)


def _require_no_secret(machine: Machine, raw: Path, *, machines: MachineStore, runner: Runner, report: Report) -> None:
    """Look at the disk as it is, free blocks too, and remove what was copied for that to `raw`. Raises Refused."""
    bundle = Bundle(machine.bundle)
    drive = system_drive(bundle.read())
    disk = bundle.file(str(drive.image_name))
    flatten(disk, source_format="qcow2", target=raw, runner=runner, report=report)
    whose, keys = "the machine's", load_keys(machine.keys)
    own = exact_rules(_keys_in_guest(whose, keys), rule=OWN)
    known = exact_rules(_user_key(whose, keys) | _login_key(machine, machines=machines))
    found = scan_disk(raw, known=(*known, *own), runner=runner, report=report)
    raw.unlink()
    if found.findings:
        then = "save with --wipe: it lets go what was deleted, and what lies in histories, logs and logins"
        raise _refusal(machine, found, then=then)


def _refusal(machine: Machine, found: Scanned, *, then: str) -> Refused:
    return found.refusal(
        f'machine "{machine.name}" holds what looks like secrets; no image was saved',
        hint=f"remove them there (vmkit shell {machine.name}), then {then}",
    )


def generalise(guest: Guest, machine: Machine, recipes: Sequence[Recipe], report: Report) -> None:
    """Clean the copy's guest of what makes it this machine; then its disk is read-only. Raises ToolFailed.

    What only a recipe knows of comes first, by that recipe's own script.
    """
    open_guest(guest, machine, report)  # a machine of the image has a network of its own
    folder = data_folder("provision") / "generalise"
    # One command: afterwards the guest may not let this user become root any more.
    script = (folder / "clean.sh").read_text() + (folder / "finish.sh").read_text()
    with report.phase("generalise", f"generalising a copy of {machine.name}"):
        for recipe in recipes:
            if recipe.generalise is not None:
                own = Command("sh", "-c", _AS_ROOT, "generalise", machine.user, recipe.generalise.decode())
                _clean(guest, own, machine, f' (the recipe "{recipe.name}")')
        said = _clean(guest, Command("sudo", "-n", "sh", "-c", script, "generalise"), machine)
    if said.strip().splitlines()[-1:] != [b"sealed"]:
        raise ToolFailed(
            f'a copy of machine "{machine.name}" could not be generalised', detail="its disk is not sealed"
        )


def _clean(guest: Guest, command: Command, machine: Machine, by: str = "") -> bytes:
    done = guest.run(command, check=False, timeout_s=_CLEAN_S, max_bytes=16 << 10)
    if not done.ok:
        said = "\n".join(printable_lines(done.stderr, max_lines=8)) or f"it exited with {done.code}"
        raise ToolFailed(f'a copy of machine "{machine.name}" could not be generalised{by}', detail=said)
    return done.stdout


def installed_packages(guest: Guest) -> tuple[str, ...]:
    """Return `name version arch` of each Debian package; none in a guest of another kind. Lines of no such form go."""
    done = guest.run(_PACKAGES, check=False, max_bytes=4 << 20)
    return tuple(line for line in done.text.splitlines() if _PACKAGE.fullmatch(line))[:20_000] if done.ok else ()


def installed_sources(guest: Guest) -> tuple[str, ...] | None:
    """Return what `ImageMeta.sources` is: Debian counts vulnerabilities by source. None in a guest of another kind."""
    done = guest.run(_SOURCES, check=False, max_bytes=4 << 20)
    return differing_sources(done.text.splitlines()) if done.ok else None


def _keys_in_guest(whose: str, keys: Keys) -> dict[str, bytes]:
    """Return what a guest has to have, and no image may: who may log in, and its host key."""
    authorized = {f"{whose} authorized key": keys.user_public.split()[1].encode()}
    return authorized | _private_halves(f"{whose} host key", keys.host_key, keys.host_public)


def _user_key(whose: str, keys: Keys) -> dict[str, bytes]:
    """Return the key that logs in, which no guest has."""
    return _private_halves(f"{whose} user key", keys.user_key, keys.user_public)


def _login_key(machine: Machine, *, machines: MachineStore) -> dict[str, bytes]:
    """Return the key of the login's disk, if there is one; no guest's disk has it."""
    login = machines.paths.login_keys / f"{machine.name}.key"
    return {"the key of the login's disk": read_bounded(login, max_bytes=4096).strip()} if login.exists() else {}


def _private_halves(title: str, private: Path, public: str) -> dict[str, bytes]:
    """Return a private key, bare and as files have it."""
    lines = private.read_bytes().split(b"\n")
    body = [line for line in lines if line and not line.startswith(b"-----")]
    point = base64.b64decode(public.split()[1])[-32:]
    binary = base64.b64decode(b"".join(body))
    at = binary.rfind(point)  # OpenSSH's PROTOCOL.key: the seed, then the public point once more
    # The first line and a half are the same in every key, or public.
    written = {f"{title}, line {n}": line for n, line in enumerate(body) if n > 1 and len(line) > 40}
    return {f"{title}, bare": binary[at - 32 : at]} | written


def make_meta(
    machine: Machine, recipes: Sequence[Recipe], *, images: ImageStore, refreshed_from: str = ""
) -> ImageMeta:
    """Return what the new image says of itself, but for its packages and its seal.

    Raises Refused when the image it was made from is gone.
    """
    base = images.manifest(machine.image_digest).meta
    version, digest = _kiro(machine)
    return ImageMeta(
        arch=machine.arch,
        boot=base.boot,
        user=machine.user,
        created=now(),
        kernel_arguments=base.kernel_arguments,
        release=base.release,
        policy=_policy(machine),
        lock=Lock(
            base=machine.image_digest,
            template=machine.template,
            kiro_version=version,
            kiro_digest=digest,
            recipes=tuple((recipe.name, recipe_digest(recipe)) for recipe in recipes),
            refreshed_from=refreshed_from,
        ),
    )


def _policy(machine: Machine) -> ImagePolicy:
    """Return what the machine may reach for good; what was allowed for a while is not for its image."""
    policy = policy_of(machine)
    return ImagePolicy(
        mode=policy.mode.value,
        allow=tuple(f"{rule.host}:{port}" for rule in policy.rules if rule.expires is None for port in rule.ports),
        deny=policy.denied,
    )


def _kiro(machine: Machine) -> tuple[str, str]:
    try:
        said = json.loads(read_bounded(machine.folder / "kiro.lock", max_bytes=4096))
        version, digest = str(said["version"]), str(said["sha256"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return "", ""
    return (printable(version, max_chars=64), f"sha256:{digest}") if _SHA256.fullmatch(digest) else ("", "")


def recipe_digest(recipe: Recipe) -> str:
    """Return what a lock says of a recipe: a digest of all that decides what its steps do."""
    import hashlib  # noqa: PLC0415  # only here

    return "sha256:" + hashlib.sha256("".join(map(step_digest, recipe.steps)).encode()).hexdigest()


def _empty(raw: Path, report: Report) -> int:
    """Zero what the guest's file systems say is free. Raises ToolFailed for one that was not put away cleanly."""
    with report.phase("empty", "emptying free blocks"):
        for volume in find_volumes(raw):
            system = read_ext4(raw, volume.offset) if volume.content is Content.EXT4 else None
            if system and not system.is_clean:
                raise ToolFailed("the copy's file system was not put away cleanly", hint="save it again")
        return zero_free(raw)


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None
