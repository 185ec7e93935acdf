"""The disk and the kernel of a Linux machine on Virtualization.framework."""

from pathlib import Path

import pytest

from vmkit.errors import Refused
from vmkit.images.layout import Boot, Image
from vmkit.workflows.apple import fill_apple, for_virtio_console, require_plain_kernel

ARM64_IMAGE = b"MZ" + b"\0" * 54 + b"ARM\x64" + b"\0" * 100
ZBOOT = b"MZ\0\0zimg" + b"\0" * 200


def image(root: Path, kernel: bytes | None, *, arch: str = "aarch64") -> Image:
    (root / "disk.raw").write_bytes(b"ext4" + b"\0" * 8188)
    if kernel is not None:
        (root / "kernel").write_bytes(kernel)
    return Image(
        name="debian-13:latest",
        digest="sha256:" + "0" * 64,
        arch=arch,
        boot=Boot.UEFI if kernel is None else Boot.DIRECT,
        user="agent",
        kernel_arguments="",
        virtual_bytes=8192,
        stored_bytes=8192,
        created="2026-01-01T00:00:00Z",
        release="13",
        disk=root / "disk.raw",
        kernel=None if kernel is None else root / "kernel",
        initrd=None,
    )


def test_the_disk_is_a_raw_copy_that_has_grown(tmp_path: Path) -> None:
    data = tmp_path / "Data"
    data.mkdir()

    fill_apple(data, image(tmp_path, ARM64_IMAGE), disk_name="x.img", size_bytes=1 << 20)

    made = data / "x.img"
    assert (made.stat().st_size, made.read_bytes()[:4]) == (1 << 20, b"ext4")
    assert (tmp_path / "disk.raw").stat().st_size == 8192


@pytest.mark.parametrize("kernel", [ZBOOT, b"\x1f\x8b" + b"\0" * 100, b""])
def test_a_compressed_kernel_is_refused_before_anything_is_copied(tmp_path: Path, kernel: bytes) -> None:
    data = tmp_path / "Data"
    data.mkdir()

    with pytest.raises(Refused, match="compressed"):
        fill_apple(data, image(tmp_path, kernel), disk_name="x.img", size_bytes=1 << 20)

    assert list(data.iterdir()) == []


def test_an_intel_kernel_unpacks_itself(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"bzImage")

    require_plain_kernel(tmp_path / "kernel", arch="x86_64")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("root=/dev/vda console=ttyS0 quiet", "root=/dev/vda quiet console=hvc0"),
        ("console=tty0 console=ttyAMA0,115200", "console=hvc0"),
        ("", "console=hvc0"),
    ],
)
def test_the_console_moves_to_the_framework_s_serial_port(before: str, after: str) -> None:
    assert for_virtio_console(before) == after
