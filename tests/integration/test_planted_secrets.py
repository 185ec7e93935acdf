"""Secrets planted in a machine's disk, each in another place: the save is refused, says where, and shows none.

When they have been removed as people remove things, or were so before, no byte of them is in the image that is saved.
"""

import base64
import dataclasses
import json
import logging
import random
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.ext4 import make_ext4, make_gpt, require_programs
from tests.unit.images.secrets.test_scan import AWS_ID, GITHUB, LETTERS, PEM, SECRETS
from tests.unit.workflows.test_save import FILES, World
from vmkit.bundle.layout import LOGIN_NAME, Bundle
from vmkit.errors import Refused
from vmkit.images.volumes import free_runs, journal_runs, read_ext4

CHUNK = 4 << 20
FILLER = random.Random(1).randbytes(1 << 12)

Work = Callable[[Path], None]


def nothing(_: Path) -> None:
    pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planted:
    """A secret and where it is, and how people remove it; where they cannot, `--wipe` does."""

    secret: bytes
    rule: str
    place: str = ""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    deleted: tuple[str, ...] = ()
    plant: Work = nothing
    clean: Work = nothing
    size: int = 32 << 20


def debugfs(*requests: str) -> Work:
    def work(raw: Path) -> None:
        for request in requests:
            subprocess.run(["debugfs", "-w", "-R", request, raw], check=True, capture_output=True, timeout=60)

    return work


def poke(raw: Path, offset: int, content: bytes) -> None:
    with raw.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def find(raw: Path, content: bytes) -> int:
    offset = raw.read_bytes().find(content)
    assert offset >= 0
    return offset


def in_file(name: str, secret: bytes, rule: str, *, content: bytes | None = None) -> Planted:
    whole = b"\n" + secret + b"\n" if content is None else content
    return Planted(secret=secret, rule=rule, place=f"/{name}", files={name: whole}, clean=debugfs(f"rm /{name}"))


def kiro_database(folder: Path) -> bytes:
    path = folder / "data.sqlite3"
    said = json.dumps({"access_token": LETTERS, "refresh_token": LETTERS})
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE auth_kv (key TEXT PRIMARY KEY, value TEXT)")
        connection.execute("INSERT INTO auth_kv VALUES ('kirocli:odic:token', ?)", [said])
    connection.close()
    return path.read_bytes()


def over_a_border(raw: Path) -> None:
    """Put the secret where one chunk ends and the next begins, within the large file that lies there."""
    content = raw.read_bytes()
    borders = range(CHUNK, len(content), CHUNK)
    border = next(border for border in borders if content[border - 512 : border + 512] in FILLER * 3)
    poke(raw, border - 9, b"\n" + GITHUB.encode() + b"\n")


def behind_the_end(raw: Path) -> None:
    """Put the secret into the last block of a file, behind its end."""
    poke(raw, find(raw, b"s" * 100) + 2048, b"\n" + AWS_ID.encode() + b"\n")


def into_free_blocks(raw: Path) -> None:
    offset, length = max(free_runs(raw, read_ext4(raw, 0)), key=lambda run: run[1])
    poke(raw, offset + length // 2 + 100, b"\n" + GITHUB.encode() + b"\n")


def into_the_journal(raw: Path) -> None:
    offset, length = next(journal_runs(raw, read_ext4(raw, 0)))
    poke(raw, offset + length // 2, b"\n" + GITHUB.encode() + b"\n")


def out_of_reach(raw: Path) -> None:
    """Put it into a journal whose own superblock is not what it should be: that one is left alone."""
    into_the_journal(raw)
    offset, _ = next(journal_runs(raw, read_ext4(raw, 0)))
    poke(raw, offset - 4096, b"\0")


def partitioned(raw: Path, *, swap: bytes = b"", other: bytes = b"", gap: bytes = b"") -> None:
    """Make a disk with partitions of the file system in `raw`, of swap, and of what nobody knows."""
    area = bytearray(2 << 20)
    area[4086:4096] = b"SWAPSPACE2"
    area[9000 : 9000 + len(swap)] = swap
    unknown = b"?" * 5000 + other
    make_gpt(raw, [raw.read_bytes(), bytes(area), unknown.ljust(1 << 20, b"\0")])
    poke(raw, 1 << 19, gap)


def unreachable(place: str, **how: Any) -> Planted:
    return Planted(secret=GITHUB.encode(), rule="github-token", place=place, **how)


def partition(place: str, rule: str, secret: bytes, **where: bytes) -> Planted:
    def wipe(raw: Path) -> None:
        poke(raw, find(raw, secret), bytes(len(secret)))

    return Planted(secret=secret, rule=rule, place=place, plant=lambda raw: partitioned(raw, **where), clean=wipe)


NAMED = f"clone-{GITHUB}"
BASE64 = base64.b64encode(PEM.encode())
HISTORY = f"export KIRO_API_KEY={SECRETS['kiro-key']}\n".encode()
CASES: dict[str, Callable[[Path], Planted]] = {
    "live": lambda _: in_file("home/agent/notes", AWS_ID.encode(), "aws-id"),
    "private key": lambda _: in_file("home/agent/key.pem", PEM.encode(), "private-key"),
    "history": lambda _: in_file("home/agent/.zsh_history", SECRETS["kiro-key"].encode(), "kiro-key", content=HISTORY),
    "environment file": lambda _: in_file("etc/environment", SECRETS["environment"].encode(), "environment"),
    "database": lambda folder: in_file("opt/data.sqlite3", LETTERS.encode(), "login-token", content=kiro_database(folder)),
    "base64": lambda _: in_file("home/agent/secret.yaml", BASE64, "private-key-base64", content=b'key: "' + BASE64 + b'"'),
    "system journal": lambda _: in_file("var/log/journal/x/system.journal", SECRETS["web-token"].encode(), "web-token"),
    "swap file": lambda _: in_file(
        "swapfile", SECRETS["netrc"].encode(), "netrc", content=bytes(4086) + b"SWAPSPACE2" + SECRETS["netrc"].encode()
    ),
    "over the border of chunks": lambda _: Planted(
        secret=GITHUB.encode(),
        rule="github-token",
        place="/home/agent/large",
        files={"home/agent/large": FILLER * 2000},
        plant=over_a_border,
        clean=debugfs("rm /home/agent/large"),
    ),
    "behind the end of a file": lambda _: Planted(
        secret=AWS_ID.encode(),
        rule="aws-id",
        place="/home/agent/short",
        files={"home/agent/short": b"s" * 100},
        plant=behind_the_end,
        clean=debugfs("rm /home/agent/short"),
    ),
    "name of a deleted file": lambda _: Planted(
        secret=GITHUB.encode(),
        rule="github-token",
        place="/home/agent/dir",
        files={f"home/agent/dir/{NAMED}": b"x", "home/agent/dir/kept": b"x"},
        deleted=(f"home/agent/dir/{NAMED}",),
        clean=debugfs("rm /home/agent/dir/kept", "rmdir /home/agent/dir"),
    ),
    "deleted": lambda _: unreachable(
        "free space", files={"gone": GITHUB.encode()}, deleted=("gone",)
    ),
    "freed": lambda _: unreachable("free space", plant=into_free_blocks),
    "file system's journal": lambda _: unreachable("the file system's journal", plant=into_the_journal),
    "file system's journal, out of reach": lambda _: Planted(
        secret=GITHUB.encode(),
        rule="github-token",
        place="the file system's journal",
        plant=out_of_reach,
        clean=lambda raw: poke(raw, find(raw, GITHUB.encode()), bytes(len(GITHUB))),
    ),
    "swap": lambda _: partition("swap", "github-token", GITHUB.encode(), swap=GITHUB.encode()),
    "unknown partition": lambda _: partition("partition 3", "aws-id", AWS_ID.encode(), other=b"\n" + AWS_ID.encode()),
    "between partitions": lambda _: partition(
        "outside any file system", "aws-id", AWS_ID.encode(), gap=b"\n" + AWS_ID.encode() + b"\n"
    ),
}  # fmt: skip


def put_disk(world: World, raw: Path) -> None:
    """Give the machine another disk."""
    [disk] = [path for path in Bundle(world.machine.bundle).data.glob("*.qcow2") if path.name != LOGIN_NAME]
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)]
    subprocess.run(argv, check=True, timeout=60)


def fragments(secret: bytes) -> list[str]:
    """Return every piece of twelve letters that the secret has."""
    text = secret.decode()
    return [text[start : start + 12] for start in range(len(text) - 11)]


def require_none_in_image(world: World, image, secret: bytes) -> None:
    """Look for the secret in the assembled disk and in all blobs, as they are and unpacked."""
    with image.disk.open("rb") as file:
        assert secret not in file.read(64 << 20)
    manifest = world.images.manifest(image.digest)
    for blob in (*manifest.blobs,):
        content = world.images.blob(blob.digest).read_bytes()
        assert secret not in content
        if blob in {chunk.blob for chunk in manifest.chunks}:
            assert secret not in zstandard.ZstdDecompressor().decompress(content)


@pytest.mark.parametrize("case", CASES)
def test_it_refuses_the_save_and_afterwards_is_in_no_image(case, tmp_path, caplog):
    require_programs("qemu-img", "debugfs", "e2fsck")
    caplog.set_level(logging.DEBUG)
    world, planted = World(tmp_path, FILES), CASES[case](tmp_path)
    raw = make_ext4(tmp_path / "other.raw", FILES | planted.files, size=planted.size, deleted=planted.deleted)
    planted.plant(raw)
    assert planted.secret in raw.read_bytes()
    put_disk(world, raw)

    with pytest.raises(Refused) as caught:
        world.save()

    error = caught.value
    lines = [line for line in error.detail.splitlines() if f"({planted.rule}, offset " in line]
    assert error.exit_code == 6
    assert [line.partition(": ")[0] for line in lines] == [planted.place] * len(lines)
    at = int(re.search(r"offset (\d+)", lines[0])[1])
    assert abs(at - find(raw, planted.secret)) < 512
    shown = f"{error.message}{error.detail}{error.hint}{error!r}{caplog.text}"
    assert [piece for piece in fragments(planted.secret) if piece in shown] == []
    assert world.images.find("golden:1") is None
    assert world.leftovers() == []
    planted.clean(raw)
    put_disk(world, raw)

    saved = world.save(wipe=True)

    assert saved.image.sealed
    require_none_in_image(world, saved.image, planted.secret)


def test_a_file_system_whose_journal_was_emptied_is_whole(tmp_path):
    require_programs("e2fsck")
    world = World(tmp_path, FILES)
    raw = make_ext4(tmp_path / "other.raw", FILES)
    into_the_journal(raw)
    put_disk(world, raw)

    saved = world.save(wipe=True)

    argv = ["e2fsck", "-f", "-n", str(saved.image.disk)]
    assert subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0
