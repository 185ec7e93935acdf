"""Build a release mirror in a folder: manifests, and real archives with the simulated Kiro CLI in them."""

import gzip
import hashlib
import io
import json
import lzma
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

VERSION = "2.24.1"
ARCHES = ("x86_64", "aarch64")
FORMATS = ("tar.gz", "tar.xz", "zip")
PROGRAMS = ("kiro-cli", "kiro-cli-chat", "kiro-cli-term", "q", "qchat")

_GUEST = Path(__file__).parent / "guest"


class Fault(StrEnum):
    """What can be wrong with a mirror."""

    DIGEST = "digest"  # the manifest promises other bytes
    TRUNCATED = "truncated"  # the archives are half as long as promised
    NO_AARCH64 = "no-aarch64"
    HTML = "html"  # manifest.json is a web page
    MISSING = "missing"  # in the manifest, not in the folder


def build_mirror(root: Path, *, service: str, version: str = VERSION, fault: Fault | None = None) -> Path:
    """Write `latest/` and `<version>/` under `root`, replacing what is there, and return `root`.

    `service` is the address of the authorization server as a guest sees it. The same arguments give the same bytes.
    """
    folder = root / version
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    packages = [
        # The real manifest lists more than archives for Linux; these are there to be passed over.
        {"os": "macos", "fileType": "dmg", "download": f"{version}/Kiro CLI.dmg", "sha256": "0" * 64, "size": 1},
        {"os": "linux", "fileType": "deb", "download": f"{version}/kiro-cli.deb", "sha256": "0" * 64, "size": 1},
    ]
    for arch in ARCHES:
        if fault is Fault.NO_AARCH64 and arch == "aarch64":
            continue
        for libc in ("", "-musl"):
            files = archive_files(version=version, service=service, target=f"{arch}-linux{libc}")
            packages += [
                _write(folder / f"kirocli-{arch}-linux{libc}.{form}", files, arch=arch, fault=fault) for form in FORMATS
            ]
    manifest = json.dumps({"version": version, "managedBy": "kirosim", "packages": packages}, indent=2)
    if fault is Fault.HTML:
        manifest = "<!doctype html><title>Sign in</title><p>Welcome to the hotel.</p>"
    for place in (folder, root / "latest"):
        place.mkdir(exist_ok=True)
        (place / "manifest.json").write_text(manifest)
    return root


def archive_files(*, version: str, service: str, target: str) -> dict[str, bytes]:
    """Return what an archive holds: paths and contents."""
    program = (_GUEST / "kiro_cli.py").read_text()
    for name, value in (("VERSION", version), ("SERVICE", service), ("TARGET", target)):
        before = next(line for line in program.splitlines() if line.startswith(f"{name} = "))
        program = program.replace(before, f"{name} = {value!r}", 1)
    files = {f"kirocli/bin/{name}": program.encode() for name in PROGRAMS}
    return {"kirocli/install.sh": (_GUEST / "install.sh").read_bytes(), **files}


def pack(files: Mapping[str, bytes], form: str) -> bytes:
    """Pack files, all executable, with fixed times and owners."""
    if form == "zip":
        return _zip(files)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in ("kirocli", "kirocli/bin"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), mtime=0) if form == "tar.gz" else lzma.compress(tar.getvalue(), preset=0)


def _zip(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr, entry.compress_type = 0o100755 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return packed.getvalue()


def _write(path: Path, files: Mapping[str, bytes], *, arch: str, fault: Fault | None) -> dict[str, object]:
    content = pack(files, path.name.split(".", 1)[1])
    promised = hashlib.sha256(content).hexdigest()
    if fault is Fault.DIGEST:
        promised = hashlib.sha256(content + b"!").hexdigest()
    if fault is not Fault.MISSING:
        path.write_bytes(content[: len(content) // 2] if fault is Fault.TRUNCATED else content)
    return {
        "os": "linux",
        "architecture": arch,
        "variant": "headless",
        "download": f"{path.parent.name}/{path.name}",
        "sha256": promised,
        "size": len(content),
    }
