"""Judge an image's signatures: who signed it, whether that counts here and now, and what the signed statement says.

What is judged is a digest, never a name that could mean something else a moment later.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vmkit.errors import Refused
from vmkit.host.process import Runner
from vmkit.host.text import printable
from vmkit.images.chunks import read_blob
from vmkit.images.layout import Blob, Image
from vmkit.images.signing.sshsig import NAMESPACE, is_signed, parse_envelope
from vmkit.images.signing.statement import Statement, line_of, parse_statement, show_time
from vmkit.images.signing.trust import Allowed, Trust
from vmkit.images.store import ImageStore

MAX_SIGNATURES = 64  # of one image; more only make its verification slow


class Reason(StrEnum):
    """Why a signature does not count. Of several signatures' reasons the last in this order is told."""

    MALFORMED = "malformed"
    OTHER_NAMESPACE = "other-namespace"
    UNKNOWN_SIGNER = "unknown-signer"
    NOT_ITS_SIGNATURE = "not-its-signature"
    MIXED = "mixed"
    OTHER_LINE = "other-line"
    REVOKED = "revoked"
    EXPIRED = "expired"
    OLDER = "older"


class SignatureRefused(Refused):
    """A signature that does not count, with the reason; `statement` when only its time is over."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        statement: Statement | None = None,
    ) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.reason = reason
        self.statement = statement


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """A signature that counts."""

    signer: Allowed
    statement: Statement


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """An image's signatures: those that count, and why the others do not."""

    good: tuple[Signed, ...] = ()
    refused: tuple[SignatureRefused, ...] = ()

    @property
    def signers(self) -> tuple[str, ...]:
        """Who has signed it, each once."""
        return tuple(sorted({signed.signer.signer for signed in self.good}))

    @property
    def sequence(self) -> int | None:
        """The image's place in its line, as those who may say so said last; None when nobody did."""
        expired = [error.statement for error in self.refused if error.statement]
        known = [signed.statement for signed in self.good] + expired
        return max((statement.sequence for statement in known), default=None)


def judge(image: Image, *, images: ImageStore, trust: Trust, runner: Runner, now: dt.datetime) -> Judged:
    """Judge every signature of an image. Raises Refused when there are too many, HostLacks without ssh-keygen."""
    referrers = images.referrers(image.digest)
    if len(referrers) > MAX_SIGNATURES:
        raise Refused(
            f'image "{image.name}" has more signatures than vmkit looks at',
            detail=f"{len(referrers)}; {MAX_SIGNATURES} are the most",
            hint=f"vmkit image delete {image.name}, then get it from somebody you trust",
        )
    good: list[Signed] = []
    refused: list[SignatureRefused] = []
    for digest in referrers:
        try:
            good.append(judge_one(digest, image, images=images, trust=trust, runner=runner, now=now))
        except SignatureRefused as error:
            refused.append(error)
    return Judged(good=tuple(good), refused=tuple(refused))


def judge_one(
    digest: str, image: Image, *, images: ImageStore, trust: Trust, runner: Runner, now: dt.datetime
) -> Signed:
    """Judge the signature in the artifact `digest`. Raises SignatureRefused, HostLacks without ssh-keygen."""
    try:
        return _judge_one(digest, image, images=images, trust=trust, runner=runner, now=now)
    except SignatureRefused:
        raise
    except Refused as error:
        message = f'the signature of image "{image.name}" cannot be read: {error.message}'
        hint = f"vmkit image delete {image.name}, then pull it again"
        raise SignatureRefused(Reason.MALFORMED, message, detail=error.detail, hint=hint) from error


def require_good(image: Image, judged: Judged) -> Sequence[Signed]:
    """Return the signatures that count. Raises Refused with the reason when there is none."""
    if judged.good:
        return judged.good
    if judged.refused:
        order = list(Reason)
        raise max(judged.refused, key=lambda error: order.index(error.reason))
    raise Refused(
        f'image "{image.name}" is not signed',
        detail=image.digest,
        hint=f"vmkit image sign {image.name} --key FILE, or pull it again where its signature is",
    )


def _judge_one(
    digest: str, image: Image, *, images: ImageStore, trust: Trust, runner: Runner, now: dt.datetime
) -> Signed:
    """Judge one signature. What it states is looked at only after ssh-keygen has found that its signer signed it."""
    referrer = images.referrer(digest)
    content, armored = (_content(blob, images) for blob in (referrer.statement, referrer.signature))
    envelope = parse_envelope(armored)
    what, key = f'the signature of image "{image.name}"', envelope.key
    if envelope.namespace != NAMESPACE:
        raise SignatureRefused(
            Reason.OTHER_NAMESPACE,
            f"{what} was made for another purpose",
            detail=f'it is for "{printable(envelope.namespace, max_chars=80)}", images are signed for "{NAMESPACE}"',
            hint=f"have it signed with: vmkit image sign {image.name} --key FILE",
        )
    if key in trust.revoked:
        raise SignatureRefused(
            Reason.REVOKED,
            f"{what} is by a key that is revoked",
            detail=key.fingerprint,
            hint="do not use it; vmkit trust list shows whose key it was",
        )
    signer = trust.find(key)
    if signer is None:
        raise SignatureRefused(
            Reason.UNKNOWN_SIGNER,
            f"{what} is by a key that you do not trust",
            detail=key.fingerprint,
            hint="if you know for sure whose key it is: vmkit trust add SIGNER PUBLIC_KEY_FILE",
        )
    if signer.until and signer.until <= now:
        raise _expired(f'the key of "{signer.signer}" that signed image "{image.name}"', signer.until, image)
    if not is_signed(content, armored, key=key, revoked=trust.revoked, runner=runner):
        raise SignatureRefused(
            Reason.NOT_ITS_SIGNATURE,
            f"{what} does not fit what it should sign",
            detail=f'the key is of "{signer.signer}", what is signed has been changed or exchanged',
            hint=f"vmkit image delete {image.name}, then pull it again",
        )
    statement = parse_statement(content)
    if statement.digest != image.digest or referrer.subject.digest != image.digest:
        raise SignatureRefused(
            Reason.MIXED,
            f"{what} is of another image",
            detail=f"signed: {statement.name} {statement.digest}\nhere:   {image.name} {image.digest}",
            hint=f"do not use it; vmkit image delete {image.name}, then pull it again",
        )
    if statement.line != line_of(image.name):
        raise SignatureRefused(
            Reason.OTHER_LINE,
            f'image "{image.name}" was signed as "{statement.name}"',
            detail="under another name it could stand in for what it is not",
            hint=f"use it by its own name: {statement.name}",
        )
    if statement.expires <= now:
        raise _expired(what, statement.expires, image, statement)
    return Signed(signer=signer, statement=statement)


def _content(blob: Blob, images: ImageStore) -> bytes:
    return read_blob(images.blob(blob.digest), digest=blob.digest, size=blob.size)


def _expired(what: str, when: dt.datetime, image: Image, statement: Statement | None = None) -> SignatureRefused:
    return SignatureRefused(
        Reason.EXPIRED,
        f"{what} has expired",
        detail=f"on {show_time(when)}",
        hint=f"pull a newer image, or have it signed again: vmkit image sign {image.name} --key FILE",
        statement=statement,
    )
