"""Write a hostile tar stream into a fresh folder, and move what came to where the user wants it.

No name from the stream is ever followed: files are created new, in folders opened one by one without following
links, and links are made last.
"""

import contextlib
import os
import stat
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from vmkit.errors import Refused, UsageError
from vmkit.guest.tarstream import Member, Reader, padding, read_members
from vmkit.host.text import printable

_MAX_MEMBERS = 1_000_000
_MAX_DEPTH = 100
_MAX_PATH_BYTES = 4096
_COPY_BYTES = 256 << 10
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def extract(read: Reader, staged: Path, *, max_bytes: int, on_bytes: Callable[[int], None] | None = None) -> bool:
    """Write a stream's members into the empty folder `staged`, which nobody else may write to.

    Return whether the stream described that folder itself (as "."), so that it is a tree.

    Raises Refused: a name that leaves the folder, a name twice (also in another case), too many or too much.
    """
    links: list[tuple[tuple[str, ...], str]] = []
    seen: set[str] = set()
    total = 0
    is_tree = False
    for member in read_members(read):
        parts = _parts(member.name)
        if not parts and member.kind == tarfile.DIRTYPE:  # "./"
            is_tree = True
            continue
        folded = unicodedata.normalize("NFC", "/".join(parts)).casefold()
        if not parts or folded in seen:
            raise Refused(f'the guest sent "{printable(member.name)}" twice, or in two cases')
        seen.add(folded)
        total += member.size_bytes
        if len(seen) > _MAX_MEMBERS or total > max_bytes:
            raise Refused(f"the guest sent more than {_MAX_MEMBERS} files, or than {max_bytes} bytes")
        if member.kind == tarfile.SYMTYPE:
            _check_link(member, parts)
            links.append((parts, member.link))
        else:
            _create(read, staged, member, parts)
            if on_bytes:
                on_bytes(total)
    for parts, link in links:
        with _parent(staged, parts) as folder:
            os.symlink(link, parts[-1], dir_fd=folder)
    return is_tree


def move_in(staged: Path, final: Path) -> None:
    """Move an extracted file or tree to `final`, into what is there: each file appears whole, no link is followed.

    Raises UsageError when a folder would replace a file or the other way round, Refused for a linked folder.
    """
    if staged.is_dir() and not staged.is_symlink() and os.path.lexists(final):
        for child in staged.iterdir():
            move_in(child, _mergeable(final) / child.name)
        return
    if final.is_dir() and not final.is_symlink():
        raise UsageError(f'"{final}" is a folder, what the guest sent is not')
    staged.replace(final)


def _mergeable(final: Path) -> Path:
    mode = final.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise Refused(f'"{final}" is a symbolic link: what the guest sent would land elsewhere')
    if not stat.S_ISDIR(mode):
        raise UsageError(f'"{final}" is no folder, what the guest sent is one')
    return final


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if (
        name.startswith("/")
        or ".." in parts
        or "\0" in name
        or len(parts) > _MAX_DEPTH
        or len(os.fsencode(name)) > _MAX_PATH_BYTES
    ):
        raise Refused(f'the guest sent a name that is not allowed: "{printable(name, max_chars=200)}"')
    return parts


def _check_link(member: Member, parts: tuple[str, ...]) -> None:
    """Allow `..` only at the start, and no more of them than there are folders: then no chain of links gets out."""
    steps = [part for part in member.link.split("/") if part not in {"", "."}]
    up = next((index for index, step in enumerate(steps) if step != ".."), len(steps))
    if not member.link or member.link.startswith("/") or "\0" in member.link or ".." in steps[up:] or up >= len(parts):
        raise Refused(
            f'"{printable(member.name)}" is a symbolic link that leads out of what is copied',
            detail=f"to {printable(member.link)}",
            hint="copy what it points to, or pack the folder in the guest and copy the archive",
        )


def _create(read: Reader, staged: Path, member: Member, parts: tuple[str, ...]) -> None:
    try:
        with _parent(staged, parts) as folder:
            if member.kind == tarfile.DIRTYPE:
                os.mkdir(parts[-1], member.mode | 0o700, dir_fd=folder)
                return
            if member.kind == tarfile.LNKTYPE:
                _link_again(staged, _parts(member.link), parts[-1], folder)
                return
            descriptor = os.open(parts[-1], _NEW, member.mode | 0o600, dir_fd=folder)
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
        raise Refused(f'the guest sent "{printable(member.name)}" out of order') from error
    with os.fdopen(descriptor, "wb") as file:
        left = member.size_bytes
        while left:
            block = read(min(_COPY_BYTES, left))
            file.write(block)
            left -= len(block)
    read(padding(member.size_bytes))


def _link_again(staged: Path, earlier: tuple[str, ...], name: str, folder: int) -> None:
    """Make a hard link to what has come already; nothing else can be there, and symbolic links come later."""
    if not earlier:
        raise FileNotFoundError
    with _parent(staged, earlier) as first:
        if not stat.S_ISREG(os.stat(earlier[-1], dir_fd=first, follow_symlinks=False).st_mode):
            raise FileNotFoundError
        os.link(earlier[-1], name, src_dir_fd=first, dst_dir_fd=folder, follow_symlinks=False)


@contextlib.contextmanager
def _parent(staged: Path, parts: tuple[str, ...]) -> Iterator[int]:
    folder = os.open(staged, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)
