"""Which cloud images there are, and where they come from."""

import pytest

from vmkit.errors import NotFound, UsageError
from vmkit.images.catalog import NAMES, find_cloud_image


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_every_image_is_one_file_under_its_publishers_address(name, arch):
    image = find_cloud_image(name, arch=arch, environment={})

    assert image.url.startswith(f"{image.publisher.base}/")
    assert image.url.startswith("https://")
    assert image.file_name.startswith(name)
    assert ("arm64" in image.file_name) == (arch == "aarch64")


def test_debian_signs_no_digests_and_ubuntu_does_with_a_key_that_is_shipped():
    debian, ubuntu = (
        find_cloud_image(name, arch="x86_64", environment={}).publisher for name in ("debian-13", "ubuntu-24.04")
    )

    assert debian.signer is None
    assert ubuntu.signer is not None
    assert ubuntu.signer.keyring.read_bytes()[0] & 0x80  # a packet, not ASCII armour: gpgv reads nothing else


def test_a_mirror_takes_the_publishers_place_and_keeps_its_layout():
    mirror = {"VMKIT_DEBIAN_IMAGES": "https://mirror.example:8443/cloud/"}

    debian = find_cloud_image("debian-12", arch="aarch64", environment=mirror)
    ubuntu = find_cloud_image("ubuntu-24.04", arch="x86_64", environment=mirror)

    assert debian.url == "https://mirror.example:8443/cloud/bookworm/latest/debian-12-genericcloud-arm64.qcow2"
    assert debian.host == "mirror.example"
    assert ubuntu.host == "cloud-images.ubuntu.com"


@pytest.mark.parametrize(
    "base", ["http://mirror.example", "ftp://mirror.example", "https://user@mirror.example", "mirror"]
)
def test_a_mirror_without_tls_is_a_usage_error(base):
    with pytest.raises(UsageError, match="VMKIT_DEBIAN_IMAGES"):
        find_cloud_image("debian-13", arch="x86_64", environment={"VMKIT_DEBIAN_IMAGES": base})


@pytest.mark.parametrize(
    ("name", "arch", "hint"),
    [
        ("debian-14", "x86_64", "fetch debian-1"),
        ("../x", "x86_64", "import"),
        ("debian-13", "riscv64", "fetch debian-13"),
    ],
)
def test_an_unknown_image_is_not_found_and_the_known_ones_are_named(name, arch, hint):
    with pytest.raises(NotFound) as caught:
        find_cloud_image(name, arch=arch, environment={})

    assert all(known in caught.value.detail for known in NAMES)
    assert hint in caught.value.hint
