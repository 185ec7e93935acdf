"""Files made to do harm, given to the real command: refused with 6, nothing left, no other file of ours opened."""

import hashlib
import json
import os
import plistlib
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from tests.canary import Canary
from tests.cliclient import command_line, environment, place_machine
from tests.ext4 import require_programs
from tests.foreign import json_machine, lume_config, qcow2_disk, tart_config, utm_bundle, utm_config
from tests.ipsw import build_manifest, manifest, write_ipsw
from tests.sshd import PROGRAM, running_sshd
from tests.unit.guest.test_extract import member, stream
from tests.unit.images.test_qcow2 import extension, header
from vmkit.cli import main
from vmkit.host.paths import Paths
from vmkit.host.report import Silent
from vmkit.images.layout import Boot, ImageMeta, digest_of
from vmkit.images.store import ImageStore
from vmkit.machines.store import MachineStore

CLUSTER = 1 << 16
COPIED, COMPRESSED = 1 << 63, 1 << 62
Maker = Callable[[Path, Canary], object]


def vmkit(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["--quiet", *(str(word) for word in words)])
    return ended.value.code


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    made = Canary(tmp_path)
    yield made
    made.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with one good image."""
    place = tmp_path / "home"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("VMKIT_HOME", str(place))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    disk = tmp_path / "disk"
    disk.write_bytes(b"good".ljust(1 << 20, b"."))
    meta = ImageMeta(arch="x86_64", boot=Boot.BIOS, user="agent", created="2026-01-02T03:04:05Z")
    ImageStore(place / "images").add("good:1", disk=disk, meta=meta, report=Silent())
    return place


def listing(home: Path) -> dict[str, str]:
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "/"
        for path in home.rglob("*")
        if path.suffix != ".lock" and path.name not in {"guard", "locks", "staging", "incoming"}
    }


# --- disks ------------------------------------------------------------------------------------------------------------


def qcow2(
    *, at: dict[int, bytes] | None = None, size: int = 4 * CLUSTER, refcounts: int = 4, **changes: object
) -> bytes:
    """Return an empty disk of 1 GiB that `qemu-img check` finds fault with only for what is changed."""
    content = bytearray(size)
    content[:CLUSTER] = header(**changes)
    tables = {0x10000: struct.pack(">Q", 0x20000), 0x20000: struct.pack(">H", 1) * refcounts}
    for offset, some in (tables | (at or {})).items():
        content[offset : offset + len(some)] = some
    return bytes(content)


def child(backing: str) -> bytes:
    name = backing.encode()
    return qcow2(at={0x200: name}, backing_offset=0x200, backing_size=len(name))


def compression_bomb() -> bytes:
    """Return 8192 entries that share one compressed cluster: 512 MiB, all consistent, in less than 400 KiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    packed = packer.compress(b"\xff" * CLUSTER) + packer.flush()
    assert len(packed) <= 512
    counts = struct.pack(">6H", 1, 1, 1, 1, 1, 8192)
    entries = struct.pack(">Q", COMPRESSED | 0x50000) * 8192
    tables = {0x20000: counts, 0x30000: struct.pack(">Q", COPIED | 0x40000), 0x40000: entries, 0x50000: packed}
    return qcow2(at=tables, size=6 * CLUSTER)


def vmdk(extent: Path) -> bytes:
    return (
        '# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        f'RW 8 FLAT "{extent}" 0\nddb.adapterType = "ide"\nddb.geometry.cylinders = "1"\n'
    ).encode()  # fmt: skip


def packed_tar(folder: Path, canary: Canary) -> bytes:
    path = folder / "packed"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("disk.raw")
        link.type, link.linkname = tarfile.SYMTYPE, str(canary.path)
        archive.addfile(link)
        archive.add(__file__, arcname="../../disk")
    return path.read_bytes()


def volume(mark: bytes, *, start: bytes = b"") -> bytes:
    return start.ljust(0x8001, b"\0") + mark.ljust(0x7FFF, b"\0") + bytes(1 << 16)


NAMED: dict[str, Callable[[Canary], bytes]] = {
    "backing file": lambda c: child(str(c.path)),
    "backing file, relative": lambda c: child("../canary"),
    "backing file, json": lambda c: child("json:" + json.dumps({"driver": "file", "filename": str(c.path)})),
    "backing file with its format": lambda c: qcow2(
        at={0x200: str(c.path).encode()},
        backing_offset=0x200,
        backing_size=len(str(c.path)),
        extensions=extension(0xE2792ACA, b"raw"),
    ),
    "data file": lambda c: qcow2(incompatible=4, extensions=extension(0x44415441, str(c.path).encode())),
    "VMDK extent": lambda c: vmdk(c.path),
}  # fmt: skip
DISKS: dict[str, Callable[[Path, Canary], bytes]] = {
    **{name: (lambda _, canary, make=make: make(canary)) for name, make in NAMED.items()},
    "backing file, nbd": lambda _, c: child(f"nbd:unix:{c.path}"),
    "backing file, fd": lambda _, c: child("/dev/fd/3"),
    "data file, not needed": lambda _, c: qcow2(autoclear=2, extensions=extension(0x44415441, str(c.path).encode())),
    "huge L1": lambda *_: qcow2(l1_size=0x7FFFFFFF),
    "L1 beyond the end": lambda *_: qcow2(l1_offset=1 << 40),
    "L2 beyond the end": lambda *_: qcow2(at={0x30000: struct.pack(">Q", COPIED | 0x7FFF0000)}),
    "L2 over the refcounts": lambda *_: qcow2(at={0x30000: struct.pack(">Q", COPIED | 0x10000)}),
    "L2 is its own table": lambda *_: qcow2(at={0x30000: struct.pack(">Q", COPIED | 0x30000)}),
    "huge refcount table": lambda *_: qcow2(refcount_clusters=0xFFFFFFFF),
    "no refcounts": lambda *_: qcow2(at={0x10000: bytes(8)}),
    "snapshots beyond the end": lambda *_: qcow2(snapshots=60000, snapshots_offset=1 << 40),
    "encrypted by AES": lambda *_: qcow2(crypt=1),
    "encrypted by LUKS": lambda *_: qcow2(crypt=2, extensions=extension(0x0537BE77, bytes(16))),
    "unknown feature": lambda *_: qcow2(incompatible=1 << 40),
    "clusters of 2^63": lambda *_: qcow2(cluster_bits=63),
    "2^63 bytes": lambda *_: qcow2(virtual_bytes=1 << 63),
    "header cut off": lambda *_: qcow2()[:100],
    "tables cut off": lambda *_: qcow2()[: CLUSTER + 100],
    "extensions without end": lambda *_: qcow2(cluster_bits=21, extensions=extension(0x6803F857, b"") * 8179),
    "extension of 4 GiB": lambda *_: qcow2(extensions=extension(0x6803F857, b"", length=0xFFFFFFFF)),
    "compression bomb": lambda *_: compression_bomb(),
    "VHDX": lambda *_: b"vhdxfile".ljust(1 << 20, b"\0"),
    "ISO": lambda *_: volume(b"CD001\1"),
    "ISO that boots as a disk": lambda *_: volume(b"CD001\1", start=bytes(510) + b"\x55\xaa"),
    "UDF": lambda *_: volume(b"BEA01\1"),
    "tar": packed_tar,
    "gzip bomb": lambda *_: zlib.compress(bytes(64 << 20), 9, wbits=31),
    "zstd": lambda *_: zstandard.compress(bytes(64 << 20)),
    "nothing": lambda *_: b"",
    "half a sector": lambda *_: bytes(1000),
}  # fmt: skip


def import_disk(name: str) -> Maker:
    def make(folder: Path, canary: Canary) -> tuple[object, ...]:
        file = folder / "evil.raw"  # what it is called is believed by nobody
        file.write_bytes(DISKS[name](folder, canary))
        return "image", "import", file, "evil:1"

    return make


def import_large(folder: Path, _: Canary) -> tuple[object, ...]:
    with (folder / "evil.raw").open("wb") as file:
        file.truncate((2 << 40) + 512)
    return "image", "import", folder / "evil.raw", "evil:1"


def import_pipe(folder: Path, _: Canary) -> tuple[object, ...]:
    os.mkfifo(folder / "evil.raw")
    return "image", "import", folder / "evil.raw", "evil:1"


# --- machines of other programs ---------------------------------------------------------------------------------------


def adopt(change: Callable[[Path, Canary], None], *, drive: str = "disk.qcow2", **qemu: list[str]) -> Maker:
    """Return what makes a bundle of UTM's, changes it and adopts it."""

    def make(folder: Path, canary: Canary) -> tuple[object, ...]:
        config = utm_config()
        config["Drive"][0]["ImageName"] = drive.replace("CANARY", str(canary.path))
        config["QEMU"] |= {
            key: [word.replace("CANARY", str(canary.path)) for word in words] for key, words in qemu.items()
        }
        bundle = utm_bundle(folder, config=config)
        change(bundle, canary)
        return "adopt", bundle, "--as", "evil", "--driver", "qemu", "--no-start"

    return make


def replaced(name: str, how: Callable[[Path, Canary], None]) -> Callable[[Path, Canary], None]:
    def change(folder: Path, canary: Canary) -> None:
        (folder / name).unlink()
        how(folder / name, canary)

    return change


def link(path: Path, canary: Canary) -> None:
    path.symlink_to(canary.path)


def pipe(path: Path, _: Canary) -> None:
    os.mkfifo(path)


def backed(path: Path, canary: Canary) -> None:
    qcow2_disk(path, backing=os.fsencode(canary.path))


def entity_bomb(canary: Canary) -> bytes:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    outside = f'<!ENTITY out SYSTEM "file://{canary.path}">'
    text = "<dict><key>a</key><string>&a11;&out;</string></dict>"
    return f'<?xml version="1.0"?><!DOCTYPE plist [{entities}{outside}]><plist version="1.0">{text}</plist>'.encode()


def nothing(*_: object) -> None:
    pass


def adopt_json(config: dict[str, object], change: Callable[[Path, Canary], None]) -> Maker:
    def make(folder: Path, canary: Canary) -> tuple[object, ...]:
        machine = json_machine(folder, config)
        change(machine, canary)
        return "adopt", machine, "--as", "evil", "--no-start"

    return make


MACHINES: dict[str, Maker] = {
    "disk with a backing file": adopt(replaced("Data/disk.qcow2", backed)),
    "disk that is a link": adopt(replaced("Data/disk.qcow2", link)),
    "disk that is a pipe": adopt(replaced("Data/disk.qcow2", pipe)),
    "disk elsewhere": adopt(nothing, drive="../../../canary"),
    "disk at an absolute path": adopt(nothing, drive="CANARY"),
    "firmware that is a link": adopt(replaced("Data/efi_vars.fd", link)),
    "firmware with a backing file": adopt(replaced("Data/efi_vars.fd", backed)),
    "arguments for QEMU": adopt(nothing, AdditionalArguments=["-drive", "file=CANARY,format=raw"]),
    "config that is a link": adopt(replaced("config.plist", link)),
    "config with entities": adopt(replaced("config.plist", lambda path, c: path.write_bytes(entity_bomb(c)))),
    "tart's disk is a link": adopt_json(tart_config(), replaced("disk.img", link)),
    "tart's disk is qcow2": adopt_json(tart_config(), replaced("disk.img", backed)),
    "lume's memory is a link": adopt_json(lume_config(), replaced("nvram.bin", link)),
    "lume's config is a link": adopt_json(lume_config(), replaced("config.json", link)),
}  # fmt: skip

# --- restore images ---------------------------------------------------------------------------------------------------


def install(make: Callable[[Path, Canary], object]) -> Maker:
    def made(folder: Path, canary: Canary) -> tuple[object, ...]:
        path = folder / "evil.ipsw"
        make(path, canary)
        return "create", "evil", "--template", "kiro-macos", "--ipsw", path, "--no-start"

    return made


def twice(path: Path, _: Canary) -> None:
    with zipfile.ZipFile(write_ipsw(path), "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("Restore.plist", plistlib.dumps(manifest()))


IPSWS: dict[str, Maker] = {
    "ISO": install(lambda path, _: path.write_bytes(volume(b"CD001\1"))),
    "manifest bomb": install(lambda path, _: write_ipsw(path, {"BuildManifest.plist": bytes(64 << 20)})),
    "manifest with entities": install(
        lambda path, c: write_ipsw(path, {"BuildManifest.plist": entity_bomb(c), "Restore.plist": manifest()})
    ),
    "names that lead out": install(
        lambda path, c: write_ipsw(path, {"../../BuildManifest.plist": build_manifest(), str(c.path): b"mine"})
    ),
    "one name twice": install(twice),
    "cut off": install(lambda path, _: path.write_bytes(write_ipsw(path).read_bytes()[:-40])),
    "pipe": install(pipe),
}  # fmt: skip

# --- folders of images ------------------------------------------------------------------------------------------------


def pull(change: Callable[[Path, dict[str, object], Canary], object]) -> Maker:
    """Return what moves the good image into a folder and changes its manifest there, or a file of it."""

    def make(folder: Path, canary: Canary) -> tuple[object, ...]:
        stick = folder / "stick"
        assert vmkit("image", "push", "--no-seal", "good:1", f"oci-dir:{stick}") == 0
        assert vmkit("image", "delete", "good:1") == 0  # what is here already is not brought
        [entry] = json.loads((stick / "index.json").read_text())["manifests"]
        said = json.loads((stick / "blobs/sha256" / entry["digest"][7:]).read_text())
        change(stick, said, canary)
        content = json.dumps(said).encode()
        if not (stick / "index.json").is_symlink():
            (stick / "blobs/sha256" / digest_of(content)[7:]).write_bytes(content)
            changed = entry | {"digest": said.get("as", digest_of(content)), "size": len(content)}
            (stick / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [changed]}))
        return "image", "pull", f"oci-dir:{stick}:good:1", "evil:1"

    return make


def as_canary(stick: Path, said: dict[str, object], canary: Canary, *, part: dict[str, object]) -> None:
    """Give a part the digest and the size that the canary has: whoever knows them could have it brought in."""
    content = canary.path.read_bytes()
    part |= {"digest": digest_of(content), "size": len(content)}
    (stick / "blobs/sha256" / digest_of(content)[7:]).symlink_to(canary.path)
    assert canary.was_opened()  # by this test


def zstd_bomb(stick: Path, said: dict[str, object], _: Canary) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(512 << 20))
    said["layers"][0] |= {"digest": digest_of(bomb), "size": len(bomb)}
    (stick / "blobs/sha256" / digest_of(bomb)[7:]).write_bytes(bomb)


def swapped(stick: Path, path: Path, how: Callable[[Path, Canary], None], canary: Canary) -> None:
    (stick / path).unlink()
    how(stick / path, canary)


def blob_of(part: dict[str, object]) -> Path:
    return Path("blobs/sha256") / part["digest"][7:]


FOLDERS: dict[str, Maker] = {
    "chunk that is a link": pull(lambda s, said, c: as_canary(s, said, c, part=said["layers"][0])),
    "config that is a link": pull(lambda s, said, c: as_canary(s, said, c, part=said["config"])),
    "chunk that is a pipe": pull(lambda s, said, c: swapped(s, blob_of(said["layers"][0]), pipe, c)),
    "config that is a pipe": pull(lambda s, said, c: swapped(s, blob_of(said["config"]), pipe, c)),
    "index that is a link": pull(lambda s, said, c: swapped(s, Path("index.json"), link, c)),
    "digest that is a path": pull(lambda s, said, c: said.update({"as": f"sha256:../../../{c.path.name}"})),
    "chunk that is a bomb": pull(zstd_bomb),
}  # fmt: skip

CASES: dict[str, Maker] = {
    **{f"image import: {name}": import_disk(name) for name in DISKS},
    "image import: over 2 TiB": import_large,
    "image import: pipe": import_pipe,
    **{f"adopt: {name}": make for name, make in MACHINES.items()},
    **{f"create --ipsw: {name}": make for name, make in IPSWS.items()},
    **{f"image pull: {name}": make for name, make in FOLDERS.items()},
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_and_nothing_else_is_opened_or_left(case, tmp_path, home, canary, capsys):
    require_programs("qemu-img")
    (tmp_path / "in").mkdir()
    words = CASES[case](tmp_path / "in", canary)
    before = listing(home)
    canary.was_opened()
    capsys.readouterr()

    code = vmkit(*words)

    said = capsys.readouterr()
    assert not canary.was_opened()
    assert (code, "bug in vmkit" in said.err) == (6, False), said.err
    assert canary.secret.decode() not in said.out + said.err
    assert listing(home) == before


@pytest.mark.parametrize("name", NAMED)
def test_what_is_refused_would_have_been_opened(name, tmp_path, canary):
    """The canary sings when qemu-img is given the same files: what the tests above see is no accident."""
    require_programs("qemu-img")
    (tmp_path / "in").mkdir()
    evil = tmp_path / "in/evil"
    evil.write_bytes(NAMED[name](canary))

    subprocess.run(["qemu-img", "convert", "-O", "raw", evil, tmp_path / "out"], capture_output=True, check=False)

    assert canary.was_opened()


def test_a_name_that_looks_like_a_protocol_is_a_name(tmp_path, home, canary, monkeypatch):
    require_programs("qemu-img")
    monkeypatch.chdir(tmp_path / "home")
    name = json.dumps({"driver": "file", "filename": canary.path.name})
    for file in (f"json:{name}", "nbd:unix:canary", "fd:3"):
        Path(file).write_bytes(qcow2())

        assert vmkit("image", "import", file, "mine:1") == 0

    assert not canary.was_opened()


def test_a_folder_that_is_pushed_to_leads_nowhere_else(tmp_path, home, canary):
    """The parts of an image that others have too are known before they come."""
    stick = tmp_path / "stick"
    (stick / "blobs/sha256").mkdir(parents=True)
    for blob in (home / "images/blobs/sha256").iterdir():
        (stick / "blobs/sha256" / f"{blob.name}.partial").symlink_to(canary.path)
        (stick / "blobs/sha256" / blob.name).symlink_to(canary.path)
    before = canary.path.stat()

    assert vmkit("image", "push", "--no-seal", "good:1", f"oci-dir:{stick}") == 0

    assert not canary.was_opened()
    assert canary.path.stat() == before


# --- what a guest sends -----------------------------------------------------------------------------------------------

LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
STREAMS = {
    "a name that leads up": [member("../evil", content=b"x")],
    "an absolute name": [member("CANARY", content=b"x")],
    "a link to the canary": [member("a", link="CANARY", kind=LINK)],
    "a hard link to the canary": [member("a", link="CANARY", kind=HARD)],
    "a file through a link": [member("a", link="..", kind=LINK), member("a/canary", content=b"x")],
    "a device": [member("a", kind=tarfile.CHRTYPE)],
    "a file of 2^62 bytes": [member("a", size=1 << 62)],
    "a name of 8 GiB": [member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME, size=1 << 33)],
    "one name twice": [member("a", content=b"1"), member("A", content=b"2")],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="sshd is not installed")
def test_what_a_guest_sends_is_refused_and_nothing_is_written(tmp_path, canary):
    """One sshd for all: its `tar` sends what a hostile guest would."""
    fake, answer, target = tmp_path / "fake", tmp_path / "answer", tmp_path / "target"
    for folder in (fake, target, tmp_path / "ssh", tmp_path / "home"):
        folder.mkdir(mode=0o700)
    (fake / "tar").write_text(f"#!/bin/sh\nexec cat '{answer}'\n")
    (fake / "tar").chmod(0o755)
    home = tmp_path / "home"
    machines = MachineStore(Paths(config=home, data=home, cache=home / "cache"))
    codes = {}
    with running_sshd(tmp_path / "ssh", extra=f"SetEnv PATH={fake}:/usr/bin:/bin\n") as sshd:
        place_machine(machines, sshd, name="a")
        for name, members in STREAMS.items():
            for header_, _ in members:
                header_.name = header_.name.replace("CANARY", str(canary.path))
                header_.linkname = header_.linkname.replace("CANARY", str(canary.path))
            answer.write_bytes(stream(*members).getvalue())
            words = command_line("copy", "a:/etc", str(target / "new"))
            done = subprocess.run(words, env=environment(home), capture_output=True, text=True, timeout=60, check=False)
            codes[name] = done.returncode if done.returncode == 6 else done.stderr

    assert codes == dict.fromkeys(STREAMS, 6)
    assert list(target.iterdir()) == []
    assert canary.path.stat().st_nlink == 1
    assert not canary.was_opened()
