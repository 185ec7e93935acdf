import os

import pytest

from tests.sshd import PROGRAM, running_sshd
from vmkit.errors import NotFound, Refused, UsageError
from vmkit.guest.base import CommandFailed
from vmkit.guest.copy import copy_into, copy_out

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="sshd is not installed")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running_sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def guest(sshd):
    with sshd.connect() as connected:
        yield connected


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    (folder / "sub dir").mkdir(parents=True)
    (folder / "sub dir" / "it's é\n").write_bytes(os.urandom(3 << 20))
    (folder / "empty").write_bytes(b"")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("sub dir/it's é\n")
    os.link(folder / "run.sh", folder / "same.sh")
    return folder


def contents(folder):
    return {
        str(path.relative_to(folder)): (os.readlink(path) if path.is_symlink() else path.is_dir() or path.read_bytes())
        for path in sorted(folder.rglob("*"))
    }


def into(guest, sources, target):
    copy_into(guest, sources if isinstance(sources, list) else [sources], str(target))


def out(guest, source, target):
    return copy_out(guest, str(source), target)


BOTH = pytest.mark.parametrize("copy", [into, out])


@BOTH
def test_a_tree_becomes_a_new_target(guest, tree, tmp_path, copy):
    copy(guest, tree, tmp_path / "new")

    assert contents(tmp_path / "new") == contents(tree)
    assert os.access(tmp_path / "new/run.sh", os.X_OK)
    assert sorted(os.listdir(tmp_path)) == ["new", "tree"]


@BOTH
def test_a_tree_goes_into_an_existing_folder_and_merges_there(guest, tree, tmp_path, copy):
    (tmp_path / "there/tree").mkdir(parents=True)
    (tmp_path / "there/tree/old").write_text("kept")
    (tmp_path / "there/tree/empty").write_text("replaced")

    copy(guest, tree, tmp_path / "there")

    assert contents(tmp_path / "there/tree") == {**contents(tree), "old": b"kept"}


@BOTH
def test_a_file_becomes_a_new_target(guest, tmp_path, copy):
    (tmp_path / "file").write_bytes(b"x" * 513)

    copy(guest, tmp_path / "file", tmp_path / "new")

    assert (tmp_path / "new").read_bytes() == b"x" * 513


@BOTH
def test_a_file_goes_into_an_existing_folder(guest, tmp_path, copy):
    (tmp_path / "file").write_text("x")
    (tmp_path / "there").mkdir()

    copy(guest, tmp_path / "file", tmp_path / "there")

    assert contents(tmp_path / "there") == {"file": b"x"}


@BOTH
def test_a_file_replaces_a_file(guest, tmp_path, copy):
    (tmp_path / "file").write_text("new")
    (tmp_path / "old").write_text("old and longer")

    copy(guest, tmp_path / "file", tmp_path / "old")

    assert (tmp_path / "old").read_text() == "new"


@BOTH
def test_a_linked_file_is_followed_when_it_is_named(guest, tmp_path, copy):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")

    copy(guest, tmp_path / "link", tmp_path / "new")

    assert not (tmp_path / "new").is_symlink()
    assert (tmp_path / "new").read_text() == "x"


@BOTH
def test_a_missing_source_is_not_found(guest, tmp_path, copy):
    with pytest.raises(NotFound):
        copy(guest, tmp_path / "missing", tmp_path / "new")

    assert os.listdir(tmp_path) == []


@BOTH
def test_a_missing_folder_is_not_found(guest, tmp_path, copy):
    (tmp_path / "file").write_text("x")

    with pytest.raises(NotFound):
        copy(guest, tmp_path / "file", tmp_path / "missing/new")


@BOTH
def test_a_folder_does_not_replace_a_file(guest, tree, tmp_path, copy):
    (tmp_path / "file").write_text("kept")

    with pytest.raises((UsageError, CommandFailed)):
        copy(guest, tree, tmp_path / "file")

    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(os.listdir(tmp_path)) == ["file", "tree"]


def test_several_sources_go_into_a_folder(guest, tmp_path):
    for name in ("a", "b", "there"):
        (tmp_path / name).mkdir() if name == "there" else (tmp_path / name).write_text(name)

    into(guest, [tmp_path / "a", tmp_path / "b"], tmp_path / "there")

    assert contents(tmp_path / "there") == {"a": b"a", "b": b"b"}


def test_several_sources_need_a_folder(guest, tmp_path):
    (tmp_path / "a").write_text("a")

    with pytest.raises(NotFound):
        into(guest, [tmp_path / "a", tmp_path / "a"], tmp_path / "new")


def test_progress_reaches_the_size(guest, tmp_path):
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    sent, received = [], []

    copy_into(guest, [tmp_path / "file"], str(tmp_path / "there"), on_bytes=sent.append)
    copy_out(guest, str(tmp_path / "there"), tmp_path / "back", on_bytes=received.append)

    assert sent == sorted(sent)
    assert sent[-1] >= 1 << 20
    assert received == [1 << 20]


def test_a_link_that_leads_out_is_refused_and_leaves_nothing(guest, tmp_path):
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/link").symlink_to("/etc")
    (tmp_path / "home").mkdir()

    with pytest.raises(Refused):
        out(guest, tmp_path / "evil", tmp_path / "home")

    assert os.listdir(tmp_path / "home") == []


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_no_file_is_refused(guest, tmp_path, kind):
    (tmp_path / "evil").mkdir()
    if kind == "fifo":
        os.mkfifo(tmp_path / "evil/fifo")
    source = tmp_path / "evil" if kind == "fifo" else "/dev/null"

    with pytest.raises(Refused):
        out(guest, source, tmp_path / "new")

    assert os.listdir(tmp_path) == ["evil"]


def test_a_link_below_what_was_named_stays_a_link(guest, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a").write_text("x")
    (tmp_path / "tree/loop").symlink_to("loop")

    into(guest, tmp_path / "tree", tmp_path / "new")

    assert os.readlink(tmp_path / "new/loop") == "loop"


def test_a_guest_folder_without_a_name_needs_one(guest, tmp_path):
    with pytest.raises(UsageError):
        out(guest, "/", tmp_path)
