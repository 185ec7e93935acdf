"""Renew an image: make it again from its lock with today's packages, and note which image it was.

A saved image is made again from its base and its recipes in a temporary machine; what else was done to the machine that
was saved is not in the lock, and so not in the new image. A built image is built again.
"""

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from vmkit.drivers.base import Driver
from vmkit.errors import NotFound, Refused, ToolFailed, VmkitError
from vmkit.guest.base import Command, Guest
from vmkit.host.files import write_atomically
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.host.settings import Settings
from vmkit.host.text import printable_lines
from vmkit.images.build import RELEASES, build_image
from vmkit.images.channels import require_free_tag
from vmkit.images.layout import Boot, Image, parse_reference
from vmkit.images.provenance import Lock
from vmkit.images.store import ImageStore
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.groups import describe_groups
from vmkit.network.policy import Mode, Policy, save_policy
from vmkit.recipes.load import load_recipes
from vmkit.workflows.create import create
from vmkit.workflows.delete import delete
from vmkit.workflows.net import policy_for
from vmkit.workflows.plan import Wishes, make_plan
from vmkit.workflows.provision import provision
from vmkit.workflows.reach import reach
from vmkit.workflows.save import Saved, recipe_digest, save
from vmkit.workflows.stop import stop
from vmkit.workflows.trial_copy import ReachCopy, guest_of

_UPGRADE_S = 4 * 3600.0  # a release's worth of packages, unpacked under emulation
_PLAIN_TEMPLATE = "debian"  # for an image that was fetched or imported

BringUp = Callable[..., contextlib.AbstractContextManager[Guest]]


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """A renewed image. `saved` is None for one that was built."""

    image: Image
    refreshed_from: str
    base: str
    packages_changed: int
    saved: Saved | None = None

    def to_json(self) -> dict[str, object]:
        """Return what `image refresh --json` adds to the image."""
        lineage = {"refreshed_from": self.refreshed_from, "base": self.base or None}
        return lineage | {"packages_changed": self.packages_changed} | (self.saved.to_json() if self.saved else {})


def refresh(
    reference: str,
    new: str,
    *,
    machines: MachineStore,
    images: ImageStore,
    driver_for: Callable[[str], Driver],
    runner: Runner,
    settings: Settings,
    report: Report,
    timeout_s: float,
    upgrade_kiro: bool = False,
    allow_changed_recipes: bool = False,
    build: Callable[..., Image] = build_image,
    bring_up: BringUp | None = None,
    reach_copy: ReachCopy = guest_of,
) -> Refreshed:
    """Make the image `reference` again with newer packages, as `new`: a tag of the same name, or `NAME:TAG`.

    Raises NotFound (image, base, recipe), WrongState (the tag is taken), Refused (a recipe has changed; a secret), and
    what `create`, `provision` and `save` raise. The temporary machine is removed, also then.
    """
    name = parse_reference(reference)
    target = require_free_tag(new if ":" in new else f"{name.partition(':')[0]}:{new}", images=images)
    digest = images.digest(name)
    meta = images.manifest(digest).meta
    lock = meta.lock or Lock(base="")
    if not lock.base and meta.boot is Boot.DIRECT and meta.release in RELEASES:
        image = build(
            meta.release,
            store=images,
            runner=runner,
            report=report,
            reference=target,
            again=True,
            refreshed_from=digest,
        )
        return _refreshed(image, digest, "", meta.packages, images=images)
    base = _base(lock.base or digest, name, images=images, report=report)
    _require_recipes(lock, machines=machines, allow_changed=allow_changed_recipes)
    wishes = Wishes(
        name=f"refresh-{uuid.uuid4().hex[:8]}",
        template=lock.template or _PLAIN_TEMPLATE,
        image=name,
        recipes=[recipe for recipe, _ in lock.recipes],
        driver="qemu",  # the one whose machines can be saved
    )
    plan = make_plan(wishes, settings=settings, machines=machines, images=images)
    plan = replace(
        plan,
        image=base.name,
        disk_bytes=max(images.manifest(digest).virtual_bytes, base.virtual_bytes),
        egress="open" if plan.egress == "open" else "strict",
    )
    driver = driver_for(plan.driver)
    try:
        create(
            plan, machines=machines, images=images, driver=driver, runner=runner, report=report, timeout_s=timeout_s,
            start=False, image=base,
        )  # fmt: skip
        machine = machines.open(plan.name)
        _allow_archives(machine, meta.release)
        if not upgrade_kiro:
            _lock_kiro(machine, lock)
        with (bring_up or _provisioned)(
            machine, machines=machines, driver=driver, report=report, timeout_s=timeout_s
        ) as guest:
            _upgrade(guest, machine, report)
        stop(machine, machines=machines, driver=driver, report=report)
        saved = save(
            machine, target, machines=machines, images=images, driver=driver, runner=runner, report=report,
            timeout_s=timeout_s, wipe=True, reach=reach_copy, refreshed_from=digest,
        )  # fmt: skip
    finally:
        _remove(plan.name, machines=machines, driver_for=driver_for, report=report)
    return replace(_refreshed(saved.image, digest, base.digest, meta.packages, images=images), saved=saved)


def _base(digest: str, name: str, *, images: ImageStore, report: Report) -> Image:
    named = [image.name for image in images.list() if image.digest == digest]
    try:
        return images.ready(images.by_digest(digest, name=(named or [name])[0]), report=report)
    except Refused as error:
        raise NotFound(
            f'the image that "{name}" was made from is not here',
            detail=f"{digest}\n{error.message}",
            hint="vmkit image pull it by its digest, or save a machine made from the newer base",
        ) from error


def _require_recipes(lock: Lock, *, machines: MachineStore, allow_changed: bool) -> None:
    now = load_recipes([name for name, _ in lock.recipes], user_folder=machines.paths.recipes)
    digests = {recipe.name: recipe_digest(recipe) for recipe in now}
    changed = [name for name, digest in lock.recipes if digests[name] != digest]
    if changed and not allow_changed:
        raise Refused(
            f"not the recipes that the image was made with: {', '.join(changed)}",
            detail="\n".join(
                f"{name}: was {digest}, is {digests[name]}" for name, digest in lock.recipes if name in changed
            ),
            hint="look at them (vmkit recipe show NAME), then --allow-changed-recipes",
        )


def _allow_archives(machine: Machine, release: str) -> None:
    """Let a closed machine reach the archive of its distribution, also when no recipe of its own asks for that."""
    if machine.egress == "open":
        return
    group = describe_groups()["ubuntu" if release.startswith("ubuntu") else "debian"]
    policy = policy_for(machine.egress, machine.recipes)
    more = tuple(rule for rule in group.rules if rule not in policy.rules)
    save_policy(machine.policy, Policy(mode=Mode(machine.egress), rules=policy.rules + more))


def _lock_kiro(machine: Machine, lock: Lock) -> None:
    """Have the recipe install the very archive of the lock. Its size is not known yet; fetching it tells."""
    if lock.kiro_digest:
        sha256 = lock.kiro_digest.removeprefix("sha256:")
        content = {"schema": 1, "version": lock.kiro_version, "sha256": sha256, "size": 0}
        write_atomically(machine.folder / "kiro.lock", json.dumps(content).encode())


@contextlib.contextmanager
def _provisioned(
    machine: Machine, *, machines: MachineStore, driver: Driver, report: Report, timeout_s: float
) -> Iterator[Guest]:
    provision(machine, machines=machines, driver=driver, report=report, timeout_s=timeout_s)
    with reach(machine, machines=machines, driver=driver) as guest:
        yield guest


def _upgrade(guest: Guest, machine: Machine, report: Report) -> None:
    script = (data_folder("provision") / "refresh/upgrade.sh").read_text()
    with report.phase("upgrade", f"upgrading the packages of {machine.name}"):
        done = guest.run(
            Command("sudo", "-n", "sh", "-c", script, "upgrade"), check=False, timeout_s=_UPGRADE_S, max_bytes=1 << 20
        )
    if not done.ok:
        said = "\n".join(printable_lines(done.stderr or done.stdout, max_lines=12))
        raise ToolFailed("the packages could not be upgraded", detail=said or f"it exited with {done.code}")


def _remove(name: str, *, machines: MachineStore, driver_for: Callable[[str], Driver], report: Report) -> None:
    if not machines.exists(name):
        return
    try:
        delete(name, machines=machines, driver_for=driver_for, report=report, force=True, forget_login=True)
    except VmkitError as error:  # must not hide what went wrong before
        report.note(f'the temporary machine "{name}" is left: {error.message}; vmkit delete --force {name}')
    else:
        report.note(f'the temporary machine "{name}" is removed')


def _refreshed(image: Image, digest: str, base: str, before: tuple[str, ...], *, images: ImageStore) -> Refreshed:
    now = images.manifest(image.digest).meta.packages
    changed = len(set(now) - set(before))
    return Refreshed(image=image, refreshed_from=digest, base=base, packages_changed=changed)
