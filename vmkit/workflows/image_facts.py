"""What is known of an image without its disk: where it came from, who signed it, what it shares, who uses it."""

import contextlib
import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from vmkit.errors import HostLacks, Refused
from vmkit.host.durations import show_age
from vmkit.images.channels import is_channel
from vmkit.images.chunks import read_blob
from vmkit.images.layout import Image, Manifest
from vmkit.images.signing.sshsig import parse_envelope
from vmkit.images.signing.statement import parse_statement, show_time
from vmkit.images.signing.trust import Trust
from vmkit.images.signing.verification import MAX_SIGNATURES, Reason, SignatureRefused, judge_one
from vmkit.images.store import ImageStore
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.trust import Guard

GOOD, UNCHECKED = "good", "unchecked"


@dataclass(frozen=True, kw_only=True)
class SignatureFacts:
    """One signature. `verdict`: good, unchecked, or a Reason. Unless it is good, what it says of itself is a claim."""

    verdict: str
    why: str | None = None
    signer: str | None = None
    fingerprint: str | None = None
    sequence: int | None = None
    expires: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """All that can be told quickly. `shared_bytes`: what other images of this computer have too, of those stored."""

    image: Image
    manifest: Manifest
    age_s: float | None
    signatures: tuple[SignatureFacts, ...]
    chunks: int
    shared_bytes: int
    used_by: tuple[str, ...]

    @property
    def signers(self) -> tuple[str, ...]:
        """Whose signatures are good, each once."""
        good = {each.signer for each in self.signatures if each.verdict == GOOD and each.signer}
        return tuple(sorted(good))

    @property
    def age(self) -> str:
        """Its age in words."""
        return "unknown" if self.age_s is None else show_age(self.age_s)

    def to_json(self) -> dict[str, object]:
        """Return what `image show --json` adds to what `image list --json` says."""
        meta = self.manifest.meta
        recipes = (
            {"recipes": [{"name": name, "digest": digest} for name, digest in meta.lock.recipes]} if meta.lock else {}
        )
        return {
            "age": self.age,
            "age_s": self.age_s,
            "tag": "channel" if is_channel(self.image.name) else "fixed",
            "lock": asdict(meta.lock) | recipes if meta.lock else None,
            "policy": asdict(meta.policy) if meta.policy else None,
            "seal": asdict(meta.seal) if meta.seal else None,
            "signatures": [asdict(each) for each in self.signatures],
            "chunks": self.chunks,
            "chunk_bytes": self.manifest.chunk_bytes,
            "shared_bytes": self.shared_bytes,
            "packages": len(meta.packages),
            "used_by": list(self.used_by),
        }


def image_facts(image: Image, *, machines: MachineStore, guard: Guard, now: dt.datetime) -> ImageFacts:
    """Return what is known of an image; its disk is not put together. Raises Refused for a damaged one."""
    manifest = guard.images.manifest(image.digest)
    created = parse_created(image.created)
    return ImageFacts(
        image=image,
        manifest=manifest,
        age_s=(now - created).total_seconds() if created else None,
        signatures=_signatures(image, guard=guard, now=now),
        chunks=len(manifest.chunks),
        shared_bytes=_shared_bytes(manifest, guard.images),
        used_by=used_images(machines).get(image.digest, ()),
    )


def used_images(machines: MachineStore) -> Mapping[str, tuple[str, ...]]:
    """Return which machines were made from each image: names by digest. Broken machines are left out."""
    used: dict[str, tuple[str, ...]] = {}
    for machine in machines.all():
        if isinstance(machine, Machine) and machine.image_digest:
            used[machine.image_digest] = (*used.get(machine.image_digest, ()), machine.name)
    return used


def parse_created(text: str) -> dt.datetime | None:
    """Return when an image says it was made, or None when it says no time."""
    with contextlib.suppress(ValueError):
        return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)
    return None


def _shared_bytes(manifest: Manifest, images: ImageStore) -> int:
    others: set[str] = set()
    for digest in {*images.index().names.values()} - {manifest.digest}:
        with contextlib.suppress(Refused):  # another image's damage is not this one's
            others |= {blob.digest for blob in images.manifest(digest).blobs}
    return sum(size for digest, size in {blob.digest: blob.size for blob in manifest.blobs}.items() if digest in others)


def _signatures(image: Image, *, guard: Guard, now: dt.datetime) -> tuple[SignatureFacts, ...]:
    trust, found = guard.trust.load(), list[SignatureFacts]()
    for artifact in guard.images.referrers(image.digest)[:MAX_SIGNATURES]:
        claimed = _claimed(artifact, images=guard.images, trust=trust)
        try:
            signed = judge_one(artifact, image, images=guard.images, trust=trust, runner=guard.runner, now=now)
            verdict, why = GOOD, None
            if signed.statement.sequence < guard.marks.get(signed.statement.line):
                verdict, why = str(Reason.OLDER), "a newer image of its name was used here before"
        except SignatureRefused as error:
            verdict, why = str(error.reason), error.message
        except HostLacks as error:
            verdict, why = UNCHECKED, error.message
        found.append(replace(claimed, verdict=verdict, why=why))
    return tuple(found)


def _claimed(artifact: str, *, images: ImageStore, trust: Trust) -> SignatureFacts:
    """Return what a signature says of itself, as far as it can be read; the signer is who has that key here."""
    facts = SignatureFacts(verdict=UNCHECKED)
    with contextlib.suppress(Refused):
        referrer = images.referrer(artifact)
        statement, armored = (
            read_blob(images.blob(blob.digest), digest=blob.digest, size=blob.size)
            for blob in (referrer.statement, referrer.signature)
        )
        key = parse_envelope(armored).key
        owner = trust.find(key)
        facts = replace(facts, fingerprint=key.fingerprint, signer=owner.signer if owner else None)
        said = parse_statement(statement)
        facts = replace(facts, sequence=said.sequence, expires=show_time(said.expires))
    return facts
