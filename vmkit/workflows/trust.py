"""Sign images, verify them, and hold `create` to the images that somebody trusted has signed."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import HostLacks, Refused
from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.images.assembled import check_assembled
from vmkit.images.chunks import read_blob
from vmkit.images.layout import MANIFEST_TYPE, Blob, Image
from vmkit.images.signing.highwater import Marks
from vmkit.images.signing.referrer import render_signature_manifest
from vmkit.images.signing.sshsig import check_made, sign
from vmkit.images.signing.statement import MAX_SEQUENCE, Statement, line_of, render_statement, show_time
from vmkit.images.signing.trust import Trust, TrustStore
from vmkit.images.signing.verification import Reason, SignatureRefused, Signed, judge, require_good
from vmkit.images.store import ImageStore


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What verification needs besides the image: whom to trust, the marks of this computer, ssh-keygen."""

    images: ImageStore
    trust: TrustStore
    marks: Marks
    runner: Runner

    @classmethod
    def of(cls, paths: Paths, *, images: ImageStore, runner: Runner) -> "Guard":
        """Return the guard of a vmkit installation."""
        return cls(images=images, trust=TrustStore(paths.trust), marks=Marks(paths.image_marks), runner=runner)


@dataclass(frozen=True, kw_only=True)
class ImageSigned:
    """A signature that was made. `signer` is whose key it is here, or None."""

    image: Image
    statement: Statement
    fingerprint: str
    signer: str | None
    artifact: str

    def to_json(self) -> dict[str, object]:
        """Return the JSON of `image sign`."""
        return {
            "image": self.image.name,
            "digest": self.image.digest,
            "line": self.statement.line,
            "sequence": self.statement.sequence,
            "expires": show_time(self.statement.expires),
            "fingerprint": self.fingerprint,
            "signer": self.signer,
            "artifact": self.artifact,
        }


@dataclass(frozen=True, kw_only=True)
class ImageVerified:
    """An image whose signature counts. `signed`: the newest statement about it first."""

    image: Image
    signed: tuple[Signed, ...]

    @property
    def signers(self) -> tuple[str, ...]:
        """Who has signed it, each once."""
        return tuple(sorted({each.signer.signer for each in self.signed}))

    def to_json(self) -> dict[str, object]:
        """Return the JSON of `image verify`."""
        return {
            "passed": True,
            "image": self.image.name,
            "digest": self.image.digest,
            "line": self.signed[0].statement.line,
            "sequence": self.signed[0].statement.sequence,
            "signed_by": list(self.signers),
            "signatures": [
                {
                    "signer": each.signer.signer,
                    "fingerprint": each.signer.key.fingerprint,
                    "sequence": each.statement.sequence,
                    "created": show_time(each.statement.created),
                    "expires": show_time(each.statement.expires),
                }
                for each in self.signed
            ],
        }


def sign_image(
    image: Image, *, key: Path, guard: Guard, now: dt.datetime, expires: dt.datetime, newest: bool = False
) -> ImageSigned:
    """Sign the image of that digest, and keep the signature in the store beside it.

    An image that somebody trusted has signed keeps its place in its line, unless it is to be the `newest`.
    Raises UsageError, ToolFailed, HostLacks.
    """
    trust = guard.trust.load()
    judged = judge(image, images=guard.images, trust=trust, runner=guard.runner, now=now)
    sequence = judged.sequence
    if sequence is None or newest:
        sequence = _next(max(guard.marks.get(line_of(image.name)), sequence or 0), now)
    statement = Statement(name=image.name, digest=image.digest, sequence=sequence, created=now, expires=expires)
    content = render_statement(statement)
    armored = sign(content, key=key, runner=guard.runner)
    made_with = check_made(content, armored, runner=guard.runner).key
    manifest = guard.images.manifest(image.digest)
    subject = Blob(media_type=MANIFEST_TYPE, digest=manifest.digest, size=manifest.size)
    artifact, *blobs = render_signature_manifest(subject=subject, statement=content, signature=armored)
    kept = guard.images.add_referrer(artifact, blobs)
    owner = None if made_with in trust.revoked else trust.find(made_with)
    return ImageSigned(
        image=image,
        statement=statement,
        fingerprint=made_with.fingerprint,
        signer=owner.signer if owner else None,
        artifact=kept.digest,
    )


def require_signed(image: Image, *, guard: Guard, now: dt.datetime) -> ImageVerified:
    """Return who signed the image of that digest; the caller goes on with this very image.

    The mark of its line rises only here, when nothing else is left to be checked.
    Raises Refused: not signed, or the reason why no signature counts; HostLacks without ssh-keygen.
    """
    judged = judge(image, images=guard.images, trust=guard.trust.load(), runner=guard.runner, now=now)
    good = sorted(require_good(image, judged), key=lambda each: each.statement.sequence, reverse=True)
    statement = good[0].statement
    before = guard.marks.rise(statement.line, statement.sequence)
    if statement.sequence < before:
        raise SignatureRefused(
            Reason.OLDER,
            f'image "{image.name}" is older than a "{statement.line}" that was used here before',
            detail=f"its sequence is {statement.sequence}, the newest seen is {before}",
            hint=f"use a newer one; to go back, its signer runs: vmkit image sign {image.name} --key FILE --newest",
        )
    return ImageVerified(image=image, signed=tuple(good))


def verify_image(image: Image, *, guard: Guard, now: dt.datetime, report: Report) -> ImageVerified:
    """Verify the image's signature, and that every stored byte is what the signed manifest names.

    So is the disk that machines stand on, when it has been put together. Raises Refused.
    """
    manifest = guard.images.manifest(image.digest)
    blobs = {blob.digest: blob for blob in manifest.blobs}.values()
    is_assembled = image.disk.parent.is_dir()
    total = sum(blob.size for blob in blobs) + is_assembled * sum(chunk.length for chunk in manifest.chunks)
    done = 0

    def on_bytes(more: int) -> None:
        nonlocal done
        done += more
        report.progress(done, total)

    with report.phase("verify", f"Reading {image.name}"):
        for blob in blobs:
            read_blob(guard.images.blob(blob.digest), digest=blob.digest, size=blob.size)
            on_bytes(blob.size)
        if is_assembled:
            check_assembled(image.disk.parent, manifest, on_bytes=on_bytes)
    return require_signed(image, guard=guard, now=now)


def signers_of(image: Image, *, guard: Guard, trust: Trust, now: dt.datetime) -> tuple[str, ...]:
    """Return who has signed an image, for a list: nobody where that cannot be told."""
    try:
        return judge(image, images=guard.images, trust=trust, runner=guard.runner, now=now).signers
    except (Refused, HostLacks):
        return ()


def unsigned_source(reference: str) -> Refused:
    """Word the refusal of an image that is missing and would come without a signature."""
    return Refused(
        f'image "{reference}" is not here, and built or fetched now it would not be signed',
        detail="policy.require_signature is set",
        hint=f"vmkit image pull a signed one; or get this one, then: vmkit image sign {reference} --key FILE",
    )


def _next(mark: int, now: dt.datetime) -> int:
    """Return the time in milliseconds: signers who never meet agree on what is newer. It is past the mark at least."""
    return min(max(int(now.timestamp() * 1000), mark + 1), MAX_SEQUENCE)
