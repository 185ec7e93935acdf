"""The cloud images that vmkit knows by name, and where their publishers keep them (data)."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vmkit.errors import NotFound
from vmkit.host.download import check_source
from vmkit.host.text import printable


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Who signs a list of digests: a key, known by the fingerprint of its primary key."""

    signature_name: str
    fingerprint: str
    keyring: Path


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Who makes images. `variable` names the environment variable that puts a mirror in the place of `base`."""

    title: str
    base: str
    variable: str
    algorithm: str
    sums_name: str
    signer: Signer | None = None


@dataclass(frozen=True, kw_only=True)
class CloudImage:
    """One file of a publisher: `folder` is an address without a trailing slash."""

    name: str
    arch: str
    publisher: Publisher
    folder: str
    file_name: str

    @property
    def url(self) -> str:
        """Where the image is."""
        return f"{self.folder}/{self.file_name}"

    @property
    def host(self) -> str:
        """Who is asked for it, for people."""
        return urlsplit(self.folder).hostname or "this computer"


_DEBIAN = Publisher(
    title="Debian",
    base="https://cloud.debian.org/images/cloud",
    variable="VMKIT_DEBIAN_IMAGES",
    algorithm="sha512",
    sums_name="SHA512SUMS",  # there is no signature beside it
)
_UBUNTU = Publisher(
    title="Ubuntu",
    base="https://cloud-images.ubuntu.com",
    variable="VMKIT_UBUNTU_IMAGES",
    algorithm="sha256",
    sums_name="SHA256SUMS",
    signer=Signer(
        signature_name="SHA256SUMS.gpg",
        fingerprint="D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81",  # UEC Image Automatic Signing Key
        keyring=Path(__file__).parent / "keys" / "ubuntu-cloudimage.gpg",
    ),
)
_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
_IMAGES = {
    "debian-13": (_DEBIAN, "trixie/latest", "debian-13-genericcloud-{arch}.qcow2"),
    "debian-12": (_DEBIAN, "bookworm/latest", "debian-12-genericcloud-{arch}.qcow2"),
    "ubuntu-24.04": (_UBUNTU, "releases/24.04/release", "ubuntu-24.04-server-cloudimg-{arch}.img"),
}
NAMES = tuple(_IMAGES)


def find_cloud_image(name: str, *, arch: str, environment: Mapping[str, str] = os.environ) -> CloudImage:
    """Return the catalog's entry. Raises NotFound with the names there are, UsageError for a mirror that is none."""
    if name not in _IMAGES or arch not in _ARCHES:
        what = printable(name if name not in _IMAGES else f"{name} for {arch}", max_chars=60)
        near = difflib.get_close_matches(name, NAMES, n=1)
        raise NotFound(
            f'vmkit knows no cloud image "{what}"',
            detail=f"it knows {', '.join(NAMES)}, each for {' and '.join(_ARCHES)}",
            hint=f"vmkit image fetch {near[0]}" if near else "vmkit image import FILE NAME takes any other",
        )
    publisher, folder, file_name = _IMAGES[name]
    base = check_source(environment.get(publisher.variable) or publisher.base, what=publisher.variable)
    return CloudImage(
        name=name,
        arch=arch,
        publisher=publisher,
        folder=f"{base}/{folder}",
        file_name=file_name.format(arch=_ARCHES[arch]),
    )
