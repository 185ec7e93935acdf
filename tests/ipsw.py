"""Restore images as small as can be: a zip with the two manifests, and nothing that could be installed."""

import plistlib
import zipfile
from pathlib import Path
from typing import Any

PRODUCTS = ["Mac14,2", "Macmini9,1", "VirtualMac2,1"]


def manifest(**changes: Any) -> dict[str, Any]:
    """Return what both manifests say; a change to None takes a key away."""
    content = {
        "ProductVersion": "15.6.1",
        "ProductBuildVersion": "24G90",
        "SupportedProductTypes": PRODUCTS,
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def build_manifest(*, boards: tuple[str, ...] = ("j413ap", "vma2macosap"), **changes: Any) -> dict[str, Any]:
    """Return BuildManifest.plist."""
    identities = [
        {"ApBoardID": "0x20", "Info": {"DeviceClass": board, "Variant": "Customer Erase Install (IPSW)"}}
        for board in boards
    ]
    return manifest(ManifestVersion=0, BuildIdentities=identities, **changes)


def write_ipsw(path: Path, files: dict[str, bytes | dict[str, Any]] | None = None, **changes: Any) -> Path:
    """Write a restore image whose two manifests have `changes`, or one with just `files`."""
    if files is None:
        files = {"BuildManifest.plist": build_manifest(**changes), "Restore.plist": manifest(**changes)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kernelcache.release.vma2", b"not a kernel " * 1000)
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, bytes) else plistlib.dumps(content))
    return path
