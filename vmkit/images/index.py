"""The store's `index.json`: which names mean which manifests, and which artifacts refer to a manifest."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vmkit.errors import Refused
from vmkit.host.text import printable
from vmkit.images.layout import INDEX_TYPE, MANIFEST_TYPE, REF_NAME, Blob, parse_object, parse_reference
from vmkit.images.signing.referrer import SIGNATURE_TYPE, SUBJECT

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """`names`: name to digest. `referrers`: an artifact's digest to that of the manifest it refers to."""

    names: Mapping[str, str] = field(default_factory=dict)
    referrers: Mapping[str, str] = field(default_factory=dict)


def parse_index(content: bytes) -> Index:
    """Read `index.json`. Raises Refused."""
    names: dict[str, str] = {}
    referrers: dict[str, str] = {}
    manifests = parse_object(content, what="the image index").get("manifests") or []
    if not isinstance(manifests, list):
        raise Refused("the image index has no list of manifests")
    for value in manifests:
        try:
            digest, said = value["digest"], value["annotations"]
            if value.get("artifactType") == SIGNATURE_TYPE:
                referrers[_checked(digest)] = _checked(said[SUBJECT])
            elif parse_reference(said[REF_NAME]):
                names[said[REF_NAME]] = _checked(digest)
        except (KeyError, TypeError, AttributeError) as error:
            raise Refused("the image index has an entry without name or digest") from error
    return Index(names=names, referrers=referrers)


def render_index(index: Index, *, sizes: Mapping[str, int]) -> bytes:
    """Return `index.json`. `sizes`: of every manifest in it, by digest."""
    named = [
        _descriptor(digest, sizes) | {"annotations": {REF_NAME: name}} for name, digest in sorted(index.names.items())
    ]
    referring = [
        _descriptor(digest, sizes) | {"artifactType": SIGNATURE_TYPE, "annotations": {SUBJECT: subject}}
        for digest, subject in sorted(index.referrers.items())
    ]
    value = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": named + referring}
    return json.dumps(value, indent=1).encode()


def _descriptor(digest: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    return Blob(media_type=MANIFEST_TYPE, digest=digest, size=sizes[digest]).descriptor()


def _checked(digest: Any) -> str:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise Refused("the image index has a digest that is none", detail=printable(str(digest), max_chars=120))
    return digest
