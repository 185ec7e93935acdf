"""A publisher's signature, checked by the real gpgv. The data was signed once, with keys made for these tests."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from vmkit.errors import Refused
from vmkit.host.process import Runner
from vmkit.images.catalog import Signer, find_cloud_image
from vmkit.images.signature import require_signature

DATA = Path(__file__).parents[2] / "data/cloud-images"
SIGNER = Signer(
    signature_name="SHA256SUMS.gpg",
    fingerprint="3ECC190CEB6F318931BC1941ED4FC88498DB37AB",
    keyring=DATA / "key.gpg",
)
UBUNTU = find_cloud_image("ubuntu-24.04", arch="x86_64", environment={}).publisher.signer

pytestmark = pytest.mark.skipif(shutil.which("gpgv") is None, reason="needs gpgv")


def check(signature: str = "SHA256SUMS.gpg", *, signer: Signer = SIGNER, content: bytes | None = None) -> None:
    content = (DATA / "SHA256SUMS").read_bytes() if content is None else content
    require_signature(content, (DATA / signature).read_bytes(), signer=signer, what="SHA256SUMS", runner=Runner())


@pytest.mark.parametrize("signature", ["SHA256SUMS.gpg", "both.gpg"])
def test_a_signature_by_the_publishers_key_passes_also_beside_another(signature):
    check(signature)


@pytest.mark.parametrize("signature", ["other.gpg", "SHA256SUMS", "key.gpg"])
def test_any_other_signature_is_refused(signature):
    with pytest.raises(Refused, match="not signed by the key") as caught:
        check(signature)

    assert SIGNER.fingerprint in caught.value.detail


def test_a_changed_list_is_refused():
    with pytest.raises(Refused):
        check(content=(DATA / "SHA256SUMS").read_bytes() + b"\n")


def test_a_key_in_the_keyring_with_another_fingerprint_is_refused():
    with pytest.raises(Refused):
        check(signer=replace(SIGNER, fingerprint=UBUNTU.fingerprint))


def test_the_shipped_key_is_one_that_gpgv_reads():
    with pytest.raises(Refused) as caught:
        check(signer=UBUNTU)

    assert "No public key" in caught.value.detail  # and not: no valid OpenPGP data
