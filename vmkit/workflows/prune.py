"""Free what the image store holds and nobody needs: say what that is first, then remove that and no more."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from vmkit.errors import Refused, WrongState
from vmkit.images.channels import is_channel
from vmkit.images.layout import Image, parse_reference
from vmkit.images.signing.statement import line_of
from vmkit.images.store import ImageStore
from vmkit.images.unused import (
    Leftover,
    allocated,
    can_assemble,
    disks,
    leftovers,
    remove,
    remove_disk,
    remove_leftover,
    unneeded_blobs,
)
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.image_facts import parse_created, used_images

_UNKNOWN = dt.datetime.min.replace(tzinfo=dt.UTC)  # of two images the one that does not say is the older


class Kind(StrEnum):
    """What can be freed."""

    IMAGE = "image"
    DISK = "disk"
    LEFTOVER = "leftover"
    PARTS = "parts"


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing to free. `size`: in bytes, on the disk; an image's own are counted with the disks and the parts."""

    kind: Kind
    what: str
    size: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be freed: `items` for people, the rest by name. `kept`: what stays, and why."""

    items: tuple[Item, ...] = ()
    kept: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    disks: tuple[str, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    blobs: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """All of it, in bytes."""
        return sum(item.size for item in self.items)

    def to_json(self) -> dict[str, object]:
        """Return the JSON of `image prune`, but for what was freed."""
        return {
            "items": [
                {"kind": str(item.kind), "what": item.what, "bytes": item.size, "why": item.why} for item in self.items
            ],
            "bytes": self.size,
            "kept": list(self.kept),
        }


def plan_prune(*, images: ImageStore, machines: MachineStore, keep: int | None = None) -> Plan:
    """Return what nobody needs; with `keep`, of each line also the fixed tags but for the newest so many.

    Nothing is changed. Raises Refused when an image that has a name is damaged.
    """
    left = tuple(leftovers(images.root))
    items = [
        Item(
            kind=Kind.LEFTOVER,
            what=str(one.folder.relative_to(images.root)),
            size=allocated(one.folder),
            why="left by a vmkit that did not end its work",
        )
        for one in left
    ]
    unclear = _unclear(machines)
    if unclear:
        return Plan(items=tuple(items), kept=unclear, leftovers=left)
    used, names = used_images(machines), images.index().names
    _require_whole(names, images)
    doomed = _outdated(images.list(), used=used, keep=keep) if keep is not None else {}
    items += [
        Item(kind=Kind.IMAGE, what=name, size=0, why=f'not of the newest {keep} of "{line_of(name)}"')
        for name in doomed
    ]
    named = {digest for name, digest in names.items() if name not in doomed}
    free, kept = [], []
    for digest in disks(images):
        if digest in used:
            continue
        if digest in named and not can_assemble(digest, store=images):
            kept.append(f"the disk of {_named(digest, names)}: parts to put it together again are missing")
            continue
        free.append(digest)
        why = "no machine uses it; it is put together again at need" if digest in named else "its image goes or is gone"
        size = allocated(images.assembled(digest))
        items.append(Item(kind=Kind.DISK, what=_named(digest, names), size=size, why=why))
    blobs = unneeded_blobs(images, named=named, used=used)
    if blobs:
        size = sum(allocated(path) for path in blobs)
        count = f"{len(blobs)} part{'s' if len(blobs) > 1 else ''}"
        items.append(Item(kind=Kind.PARTS, what=count, size=size, why="of images that have no name any more"))
    return Plan(
        items=tuple(items),
        kept=tuple(kept),
        names=doomed,
        disks=tuple(free),
        leftovers=left,
        blobs=frozenset(path.name for path in blobs),
    )


def prune(plan: Plan, *, images: ImageStore, machines: MachineStore) -> int:
    """Free what is in the plan and still needed by nobody; return how many bytes that were."""
    freed = sum(remove_leftover(one) for one in plan.leftovers)
    if _unclear(machines):
        return freed

    def is_used(digest: str) -> bool:
        return digest in used_images(machines) or bool(_unclear(machines))

    used = used_images(machines)
    doomed = {name: digest for name, digest in plan.names.items() if digest not in used}
    freed += remove(doomed, store=images, used=used, blobs=plan.blobs)
    return freed + sum(remove_disk(digest, store=images, is_used=partial(is_used, digest)) for digest in plan.disks)


def delete_image(reference: str, *, images: ImageStore, machines: MachineStore) -> str:
    """Delete an image and return its name; its bytes go with the last name. A damaged one can be deleted too.

    Raises NotFound, WrongState when it is the last name of what a machine stands on.
    """
    name, digest, used = parse_reference(reference), images.digest(reference), used_images(machines)
    others = [other for other, meant in images.index().names.items() if meant == digest and other != name]
    if digest in used and not others:
        by = ", ".join(used[digest])
        raise WrongState(f'image "{name}" is in use', detail=f"by {by}", hint=f"vmkit delete {used[digest][0]}")
    images.delete(name, used=used)
    return name


def _require_whole(names: Mapping[str, str], images: ImageStore) -> None:
    for name, digest in names.items():
        try:
            images.manifest(digest)
        except Refused as error:
            raise Refused(
                f'image "{name}" is damaged: what it needs cannot be told',
                detail="\n".join(filter(None, (error.message, error.detail))),
                hint=f"vmkit image delete {name}",
            ) from error


def _unclear(machines: MachineStore) -> tuple[str, ...]:
    """Say why nobody can tell now what machines stand on; nothing when one can."""
    reasons = [
        f'images and disks: machine "{machine.name}" is broken, and may stand on any of them'
        for machine in machines.all()
        if not isinstance(machine, Machine)
    ]
    for lock in sorted(machines.paths.locks.glob("*.lock")):
        name = lock.name.removesuffix(".lock")
        if "." not in name and not machines.exists(name) and machines.changing(name):
            reasons.append(f'images and disks: machine "{name}" is being made, and may stand on any of them')
    return tuple(reasons)


def _outdated(images: Iterable[Image], *, used: Mapping[str, tuple[str, ...]], keep: int) -> dict[str, str]:
    """Return the fixed tags that are not of the newest `keep` of their line, nor of an image that a machine uses."""
    lines: dict[str, list[Image]] = {}
    for image in images:
        if not is_channel(image.name):
            lines.setdefault(line_of(image.name), []).append(image)
    doomed: dict[str, str] = {}
    for line in lines.values():
        newest_first = sorted(
            line, key=lambda image: (parse_created(image.created) or _UNKNOWN, image.name), reverse=True
        )
        doomed |= {image.name: image.digest for image in newest_first[keep:] if image.digest not in used}
    return dict(sorted(doomed.items()))


def _named(digest: str, names: Mapping[str, str]) -> str:
    known = [name for name, meant in sorted(names.items()) if meant == digest]
    return ", ".join(known) or digest.removeprefix("sha256:")[:12]
