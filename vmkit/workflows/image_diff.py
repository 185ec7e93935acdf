"""Compare two images: what is in the one and not in the other, and what a push would have to send."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from vmkit.images.layout import Image, Manifest
from vmkit.images.packages import Package, parse_installed
from vmkit.images.store import ImageStore

Change = tuple[str, str]  # before, after


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What two lists of names and values differ in: in the second only, in the first only, in both and not the same."""

    added: Mapping[str, str]
    removed: Mapping[str, str]
    changed: Mapping[str, Change]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def to_json(self) -> dict[str, object]:
        """Return lists of objects, each with its name."""
        return {
            "added": [{"name": name, "value": value} for name, value in self.added.items()],
            "removed": [{"name": name, "value": value} for name, value in self.removed.items()],
            "changed": [{"name": name, "from": before, "to": after} for name, (before, after) in self.changed.items()],
        }


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Counts of chunks, and bytes of all parts. `push_bytes`: what a push of the second sends where the first is."""

    shared_chunks: int
    only_first_chunks: int
    only_second_chunks: int
    shared_bytes: int
    push_bytes: int


@dataclass(frozen=True, kw_only=True)
class ImageDiff:
    """How `second` differs from `first`. `packages` is None when one of them has no list of its packages."""

    first: Image
    second: Image
    packages: Changes | None
    recipes: Changes
    facts: Mapping[str, tuple[str | int | bool, str | int | bool]]
    parts: Parts

    @property
    def is_same(self) -> bool:
        """Whether both names mean one image."""
        return self.first.digest == self.second.digest

    def to_json(self) -> dict[str, object]:
        """Return the JSON of `image diff`."""
        return {
            "first": {"name": self.first.name, "digest": self.first.digest},
            "second": {"name": self.second.name, "digest": self.second.digest},
            "same": self.is_same,
            "changed": {key: {"from": before, "to": after} for key, (before, after) in self.facts.items()},
            "packages": self.packages.to_json() if self.packages is not None else None,
            "recipes": self.recipes.to_json(),
            "parts": asdict(self.parts),
        }


def image_diff(first: Image, second: Image, *, images: ImageStore) -> ImageDiff:
    """Compare two images by their manifests; no disk is read or put together. Raises Refused for a damaged one."""
    before, after = images.manifest(first.digest), images.manifest(second.digest)
    facts_before, facts_after = _facts(before), _facts(after)
    return ImageDiff(
        first=first,
        second=second,
        packages=_compare_packages(before, after),
        recipes=_compare(_recipes(before), _recipes(after)),
        facts={key: (value, facts_after[key]) for key, value in facts_before.items() if value != facts_after[key]},
        parts=_parts(before, after),
    )


def _facts(manifest: Manifest) -> dict[str, str | int | bool]:
    """Return what can be compared at sight."""
    meta, lock, policy = manifest.meta, manifest.meta.lock, manifest.meta.policy
    return {
        "arch": meta.arch,
        "boot": meta.boot.value,
        "user": meta.user,
        "release": meta.release,
        "kernel_arguments": meta.kernel_arguments,
        "kernel": manifest.kernel.digest if manifest.kernel else "",
        "base": lock.base if lock else "",
        "refreshed_from": lock.refreshed_from if lock else "",
        "template": lock.template if lock else "",
        "kiro_version": lock.kiro_version if lock else "",
        "kiro_digest": lock.kiro_digest if lock else "",
        "policy": policy.mode if policy else "",
        "policy_allow": " ".join(policy.allow) if policy else "",
        "policy_deny": " ".join(policy.deny) if policy else "",
        "sealed": meta.seal is not None,
        "virtual_bytes": manifest.virtual_bytes,
        "stored_bytes": sum(_sizes(manifest).values()) + manifest.size,
    }


def _recipes(manifest: Manifest) -> dict[str, str]:
    return dict(manifest.meta.lock.recipes) if manifest.meta.lock else {}


def _versions(packages: tuple[Package, ...], several: Collection[str]) -> dict[str, str]:
    return {
        f"{package.name}:{package.arch}" if package.name in several else package.name: package.version
        for package in packages
    }


def _compare_packages(before: Manifest, after: Manifest) -> Changes | None:
    """Compare by `name`, or by `name:arch` where one of them has a name for several architectures."""
    listed = [parse_installed(manifest.meta.packages) for manifest in (before, after)]
    if not all(listed):
        return None
    several = {name for one in listed for name, count in Counter(each.name for each in one).items() if count > 1}
    return _compare(*(_versions(one, several) for one in listed))


def _compare(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    return Changes(
        added={key: after[key] for key in sorted(after.keys() - before.keys())},
        removed={key: before[key] for key in sorted(before.keys() - after.keys())},
        changed={
            key: (before[key], after[key]) for key in sorted(before.keys() & after.keys()) if before[key] != after[key]
        },
    )


def _parts(before: Manifest, after: Manifest) -> Parts:
    ours, theirs = ({chunk.blob.digest for chunk in manifest.chunks} for manifest in (before, after))
    sizes_before, sizes_after = _sizes(before), _sizes(after)
    shared = sum(size for digest, size in sizes_after.items() if digest in sizes_before)
    return Parts(
        shared_chunks=len(ours & theirs),
        only_first_chunks=len(ours - theirs),
        only_second_chunks=len(theirs - ours),
        shared_bytes=shared,
        push_bytes=sum(sizes_after.values()) - shared,
    )


def _sizes(manifest: Manifest) -> dict[str, int]:
    """Return the size of each part; the same chunk may lie at many places."""
    return {blob.digest: blob.size for blob in manifest.blobs}
