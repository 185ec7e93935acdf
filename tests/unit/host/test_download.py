import hashlib
import resource
import shutil
from pathlib import Path

import pytest

from vmkit.errors import HostLacks, Refused
from vmkit.host.download import Absent, Unreachable, download, read_small
from vmkit.host.report import Silent

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def get(
    source: Path, target: Path, *, sha256: str = DIGEST, size: int | None = len(CONTENT), limit: int = 1 << 30
) -> None:
    download(source.as_uri(), target, digest=f"sha256:{sha256}", size_bytes=size, max_bytes=limit, report=Silent())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "the source.bin"
    path.write_bytes(CONTENT)
    return path


def test_download_copies_a_local_file_and_leaves_nothing_else(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "to" / "file"
    target.parent.mkdir()

    get(source, target)

    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_download_goes_on_from_what_is_there(source: Path, tmp_path: Path) -> None:
    target, seen = tmp_path / "file", []
    target.with_name("file.partial").write_bytes(CONTENT[:1_000_000])

    class Watch(Silent):
        def progress(self, done: float, total: float | None, unit: str = "bytes") -> None:
            seen.append((done, total))

    download(
        source.as_uri(), target, digest=f"sha256:{DIGEST}", size_bytes=len(CONTENT), max_bytes=1 << 30, report=Watch()
    )

    assert target.read_bytes() == CONTENT
    assert seen == [(len(CONTENT), len(CONTENT))]  # one block: only what was missing


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)])
def test_download_starts_again_when_what_is_there_does_not_fit(source: Path, tmp_path: Path, left: bytes) -> None:
    target = tmp_path / "file"
    target.with_name("file.partial").write_bytes(left)

    get(source, target)

    assert target.read_bytes() == CONTENT


def test_download_refuses_another_digest_and_keeps_nothing(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "to" / "file"
    target.parent.mkdir()

    with pytest.raises(Refused, match="does not have the digest") as caught:
        get(source, target, sha256="0" * 64)

    assert DIGEST in (caught.value.detail or "")
    assert list(target.parent.iterdir()) == []


def test_download_refuses_a_file_that_is_too_short_and_keeps_it(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "file"

    with pytest.raises(Refused, match=f"truncated: the server has {len(CONTENT)} of {len(CONTENT) + 1} bytes"):
        get(source, target, size=len(CONTENT) + 1)

    assert not target.exists()
    assert target.with_name("file.partial").read_bytes() == CONTENT


@pytest.mark.parametrize(("size", "limit"), [(len(CONTENT) - 1, 1 << 30), (None, len(CONTENT) - 1)])
def test_download_refuses_a_file_that_is_too_long(source: Path, tmp_path: Path, size: int | None, limit: int) -> None:
    target = tmp_path / "file"

    with pytest.raises(Refused, match="larger than it should be"):
        get(source, target, size=size, limit=limit)

    assert list(tmp_path.iterdir()) == [source]


def test_download_needs_no_size(source: Path, tmp_path: Path) -> None:
    get(source, tmp_path / "file", size=None)

    assert (tmp_path / "file").read_bytes() == CONTENT


def test_download_tells_absent_from_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Absent):
        get(tmp_path / "nothing", tmp_path / "file")
    with pytest.raises(Unreachable):
        get(tmp_path, tmp_path / "file")


def test_read_small_stops_at_its_limit(source: Path) -> None:
    assert read_small(source.as_uri(), max_bytes=len(CONTENT)) == CONTENT
    with pytest.raises(Refused, match="larger than"):
        read_small(source.as_uri(), max_bytes=len(CONTENT) - 1)


def test_download_checks_other_digests_too(source: Path, tmp_path: Path) -> None:
    digest = f"sha512:{hashlib.sha512(CONTENT).hexdigest()}"

    download(source.as_uri(), tmp_path / "file", digest=digest, size_bytes=None, max_bytes=1 << 30, report=Silent())

    assert (tmp_path / "file").read_bytes() == CONTENT


def test_download_takes_nothing_that_the_disk_has_no_room_for(source: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(shutil.disk_usage(tmp_path).free + (1 << 30))

    with pytest.raises(HostLacks, match="not enough free space"):
        get(huge, tmp_path / "file", size=None, limit=1 << 60)

    assert not (tmp_path / "file.partial").exists()


def test_download_keeps_what_came_before_the_disk_was_full(source: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(HostLacks, match="no space is left"):
            get(source, tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert 0 < (tmp_path / "file.partial").stat().st_size <= 300_000
    get(source, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
