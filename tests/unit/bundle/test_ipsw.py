"""A restore image is judged by its two manifests; each broken one is refused for its own reason, and never read whole."""

import plistlib
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ipsw import build_manifest, manifest, write_ipsw
from vmkit.bundle.ipsw import check_ipsw
from vmkit.bundle.mac_platform import read_hardware_model
from vmkit.errors import NotFound, Refused


def test_a_restore_image_tells_its_version_build_and_products(tmp_path: Path) -> None:
    image = check_ipsw(write_ipsw(tmp_path / "mac.ipsw"))

    assert (image.version, image.release, image.build) == ("15.6.1", (15, 6, 1), "24G90")
    assert image.products == ("Mac14,2", "Macmini9,1", "VirtualMac2,1")


@pytest.mark.parametrize(("version", "minimum"), [("12.6", (12, 0, 0)), ("13.0", (13, 0, 0)), ("26.4", (13, 0, 0))])
def test_its_version_chooses_the_hardware_model(tmp_path: Path, version: str, minimum: tuple[int, ...]) -> None:
    image = check_ipsw(write_ipsw(tmp_path / "mac.ipsw", ProductVersion=version))

    assert read_hardware_model(image.hardware_model).minimum_os == minimum


def test_binary_manifests_are_read_too(tmp_path: Path) -> None:
    files = {
        "BuildManifest.plist": plistlib.dumps(build_manifest(), fmt=plistlib.FMT_BINARY),
        "Restore.plist": plistlib.dumps(manifest(), fmt=plistlib.FMT_BINARY),
    }

    assert check_ipsw(write_ipsw(tmp_path / "mac.ipsw", files)).version == "15.6.1"


def cut(path: Path, keep: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def plain(path: Path) -> Path:
    path.write_bytes(b"<html>sign in to the network</html>" * 100)
    return path


def two_of_one_name(path: Path) -> Path:
    write_ipsw(path)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Restore.plist", plistlib.dumps(manifest(ProductVersion="26.0")))
    return path


def bomb(path: Path) -> Path:
    return write_ipsw(path, {"BuildManifest.plist": b"\0" * (40 << 20), "Restore.plist": manifest()})


def liar(path: Path) -> Path:
    """A member that unpacks to more than its header says."""
    write_ipsw(path, {"BuildManifest.plist": b"A" * 1_000_000, "Restore.plist": manifest()})
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 1_000_000), struct.pack("<I", 10)))
    return path


def flipped(path: Path) -> Path:
    write_ipsw(path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("BuildManifest.plist").header_offset
    content[offset + 60] ^= 0xFF
    path.write_bytes(content)
    return path


def encrypted(path: Path) -> Path:
    write_ipsw(path)
    content = bytearray(path.read_bytes())
    for at in range(len(content) - 4):
        if content[at : at + 4] == b"PK\x01\x02":
            content[at + 8] |= 1
    path.write_bytes(content)
    return path


def huge_directory(path: Path) -> Path:
    """An end record that claims a directory of 3 GiB in a file that has holes of that size."""
    directory = 3 << 30
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(100 + directory)
        file.seek(100 + directory)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, directory, 100, 0))
    return path


def with_files(**files: object) -> Callable[[Path], Path]:
    return lambda path: write_ipsw(path, {name.replace("__", "."): content for name, content in files.items()})  # type: ignore[misc]


def with_changes(**changes: object) -> Callable[[Path], Path]:
    return lambda path: write_ipsw(path, **changes)


DEEP = b"<plist>" + b"<array>" * 50 + b"</array>" * 50 + b"</plist>"
LAUGHS = b'<!DOCTYPE plist [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><plist><string>&b;</string></plist>'
BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "not a zip": (plain, "not a zip archive"),
    "empty": (lambda path: cut(write_ipsw(path), 0), "not a zip archive"),
    "truncated": (lambda path: cut(write_ipsw(path), 0.6), "truncated"),
    "no build manifest": (with_files(Restore__plist=manifest()), 'no "BuildManifest.plist"'),
    "no restore manifest": (with_files(BuildManifest__plist=build_manifest()), 'no "Restore.plist"'),
    "a manifest twice": (two_of_one_name, '"Restore.plist" twice'),
    "broken plist": (
        with_files(BuildManifest__plist=b"<plist><dict>", Restore__plist=manifest()),
        "not a property list",
    ),
    "a list": (with_files(BuildManifest__plist=plistlib.dumps([1]), Restore__plist=manifest()), "not a dictionary"),
    "deep plist": (with_files(BuildManifest__plist=DEEP, Restore__plist=manifest()), "nested deeper"),
    "entities": (with_files(BuildManifest__plist=LAUGHS, Restore__plist=manifest()), "declares entities"),
    "iPhone": (with_changes(SupportedProductTypes=["iPhone18,1"]), "for iPhone18,1, not for a Mac"),
    "Intel Mac": (with_changes(SupportedProductTypes=["iBridge2,1", "iBridge2,3"]), "another architecture"),
    "real Macs only": (with_changes(SupportedProductTypes=["Mac14,2"]), "does not support the virtual Mac"),
    "no board": (
        with_files(BuildManifest__plist=build_manifest(boards=("j413ap",)), Restore__plist=manifest()),
        "no build for its board",
    ),
    "no products": (with_changes(SupportedProductTypes=[]), "no supported products"),
    "products of another kind": (with_changes(SupportedProductTypes="VirtualMac2,1"), "no list of products"),
    "too old": (with_changes(ProductVersion="11.7.10"), "macOS 11.7.10 is too old"),
    "no version": (with_changes(ProductVersion=None), '"ProductVersion" is missing'),
    "a version that is none": (with_changes(ProductVersion="15; rm -rf"), '"ProductVersion" is missing'),
    "no build": (with_changes(ProductBuildVersion="\u202e24G90"), '"ProductBuildVersion" is missing'),
    "contradiction": (
        with_files(BuildManifest__plist=build_manifest(), Restore__plist=manifest(ProductVersion="26.0")),
        "name a different ProductVersion",
    ),
    "products that the other does not name": (
        with_files(BuildManifest__plist=build_manifest(), Restore__plist=manifest(SupportedProductTypes=["Mac14,2"])),
        "does not support the virtual Mac",
    ),
    "bomb": (bomb, "would unpack to 40 MiB"),
    "more than it says": (liar, "damaged"),
    "damaged": (flipped, "damaged"),
    "encrypted": (encrypted, "encrypted"),
    "huge directory": (huge_directory, "larger than 64 MiB"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_restore_image_is_refused_for_its_own_reason(tmp_path: Path, name: str) -> None:
    make, reason = BROKEN[name]
    path = tmp_path / "broken.ipsw"
    make(path)

    with pytest.raises(Refused) as raised:
        check_ipsw(path)

    assert reason in str(raised.value.detail)
    assert raised.value.exit_code == 6


def test_a_restore_image_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "none.ipsw", tmp_path):
        with pytest.raises(NotFound):
            check_ipsw(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_is_flipped_it_is_judged_and_never_crashes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("ipsw") / "mac.ipsw"
    content = bytearray(write_ipsw(path).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)

    try:
        image = check_ipsw(path)
    except Refused:
        return

    assert "VirtualMac2,1" in image.products
