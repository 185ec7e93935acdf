import io
import os
import tarfile

import pytest

from vmkit.errors import Refused, UsageError
from vmkit.guest.extract import extract, move_in


def member(name, *, kind=tarfile.REGTYPE, content=b"", link="", mode=0o644, size=None):
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.mode = kind, link, mode
    header.size = len(content) if size is None else size
    return header, content


def stream(*members, form=tarfile.GNU_FORMAT) -> io.BytesIO:
    packed = b""
    for header, content in members:
        packed += header.tobuf(form, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)
    return io.BytesIO(packed + bytes(1024))


def exactly(file):
    def read(wanted):
        content = file.read(wanted)
        if len(content) < wanted:
            raise EOFError
        return content

    return read


def staged(tmp_path, *members, max_bytes=1 << 20, form=tarfile.GNU_FORMAT):
    folder = tmp_path / "staged"
    folder.mkdir()
    extract(exactly(stream(*members, form=form)), folder, max_bytes=max_bytes)
    return folder


FOLDER = tarfile.DIRTYPE
LINK = tarfile.SYMTYPE

HOSTILE = {
    "parent": [member("../evil", content=b"x")],
    "parent inside": [member("a", kind=FOLDER), member("a/../../evil", content=b"x")],
    "absolute": [member("/etc/evil", content=b"x")],
    "link out": [member("a", link="../evil", kind=LINK)],
    "absolute link": [member("a", link="/etc/passwd", kind=LINK)],
    "link out through a link": [member("x", link=".", kind=LINK), member("y", link="x/x/../..", kind=LINK)],
    "write through a link": [member("x", link=".", kind=LINK), member("x/evil", content=b"x")],
    "empty link": [member("a", kind=LINK)],
    "hard link out": [member("a", link="/etc/passwd", kind=tarfile.LNKTYPE)],
    "hard link up": [member("a", link="../staged/x", kind=tarfile.LNKTYPE)],
    "hard link to nothing": [member("a", link="b", kind=tarfile.LNKTYPE)],
    "hard link to a link": [member("b", link="c", kind=LINK), member("a", link="b", kind=tarfile.LNKTYPE)],
    "hard link to a folder": [member("b", kind=FOLDER), member("a", link="b", kind=tarfile.LNKTYPE)],
    "hard link to the root": [member("a", link=".", kind=tarfile.LNKTYPE)],
    "fifo": [member("a", kind=tarfile.FIFOTYPE)],
    "character device": [member("a", kind=tarfile.CHRTYPE)],
    "block device": [member("a", kind=tarfile.BLKTYPE)],
    "sparse": [member("a", kind=tarfile.GNUTYPE_SPARSE)],
    "contiguous": [member("a", kind=tarfile.CONTTYPE)],
    "twice": [member("a", content=b"1"), member("a", content=b"2")],
    "twice in two cases": [member("Readme", content=b"1"), member("README", content=b"2")],
    "twice in two normal forms": [member("\u00e9"), member("e\u0301")],
    "file as folder": [member("a"), member("a/b")],
    "folder missing": [member("a/b")],
    "deep": [member("/".join("a" * 101))],
    "huge": [member("a", size=1 << 40)],
    "huge long name": [member("././@LongLink", kind=tarfile.GNUTYPE_LONGNAME, size=1 << 33)],
    "huge pax header": [member("x", kind=tarfile.XHDTYPE, size=1 << 33)],
    "broken pax header": [member("x", kind=tarfile.XHDTYPE, content=b"99999 path=a\n")],
    "pax path out": [member("x", kind=tarfile.XHDTYPE, content=b"16 path=../evil\n"), member("a", content=b"x")],
}  # fmt: skip


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_stream_is_refused_and_writes_nothing_outside(tmp_path, members):
    with pytest.raises(Refused):
        staged(tmp_path, *members)

    assert os.listdir(tmp_path) == ["staged"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_files_folders_and_links_arrive(tmp_path, form):
    folder = staged(
        tmp_path,
        member("./", kind=FOLDER),
        member("./sub", kind=FOLDER),
        member("./sub/file", content=b"x" * 1000, mode=0o755),
        member("./sub/link", link="../other", kind=LINK),
        form=form,
    )

    assert (folder / "sub/file").read_bytes() == b"x" * 1000
    assert os.access(folder / "sub/file", os.X_OK)
    assert os.readlink(folder / "sub/link") == "../other"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_arrive(tmp_path, form):
    name = "é" * 120

    folder = staged(tmp_path, member(name, content=b"x"), form=form)

    assert os.listdir(folder) == [name]


def test_a_hard_link_to_what_has_come_is_made(tmp_path):
    folder = staged(
        tmp_path,
        member("./sub", kind=FOLDER),
        member("./sub/a", content=b"x"),
        member("./b", link="./sub/a", kind=tarfile.LNKTYPE),
    )

    assert (folder / "b").read_bytes() == b"x"


def test_a_file_never_becomes_setuid(tmp_path):
    folder = staged(tmp_path, member("a", mode=0o6755))

    assert (folder / "a").stat().st_mode & 0o7000 == 0


def test_a_stream_longer_than_allowed_is_refused(tmp_path):
    with pytest.raises(Refused):
        staged(tmp_path, member("a", content=b"x" * 600), member("b", content=b"x" * 600), max_bytes=1000)


def test_noise_is_refused(tmp_path):
    with pytest.raises(Refused):
        extract(exactly(io.BytesIO(b"\xff" * 1024)), tmp_path, max_bytes=1 << 20)


def test_a_tree_is_merged_into_an_existing_one(tmp_path):
    source, final = tmp_path / "source", tmp_path / "final"
    for path, text in (
        (source / "a/new", "2"),
        (source / "a/both", "2"),
        (final / "a/both", "1"),
        (final / "old", "1"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    move_in(source, final)

    found = {str(path.relative_to(final)): path.read_text() for path in final.rglob("*") if path.is_file()}
    assert found == {"a/new": "2", "a/both": "2", "old": "1"}


def test_a_link_already_there_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "final").mkdir()
    (tmp_path / "final/a").symlink_to("../elsewhere")
    (tmp_path / "source/a").mkdir(parents=True)
    (tmp_path / "source/a/evil").write_text("x")

    with pytest.raises(Refused):
        move_in(tmp_path / "source", tmp_path / "final")

    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("source_is_folder", [True, False])
def test_a_file_and_a_folder_do_not_replace_each_other(tmp_path, source_is_folder):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("x")
    folder.mkdir()
    (folder / "kept").write_text("x")

    with pytest.raises(UsageError):
        move_in(folder, file) if source_is_folder else move_in(file, folder)

    assert file.read_text() == (folder / "kept").read_text() == "x"
