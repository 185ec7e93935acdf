"""Tar streams: written for a guest, and read from one with every length bounded.

tarfile is not used for reading: it gathers a long name or a pax header of any announced size in memory.
"""

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import Refused
from vmkit.host.text import printable

BLOCK = 512
END_MARK = ".vmkit-end"  # the last member that we send: without it, some is missing

_COPY_BYTES = 128 << 10
_MAX_HEADER_BYTES = 64 << 10
_MAX_PATH_BYTES = 4096

_FILE_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_READ_TYPES = (*_FILE_TYPES, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)

Reader = Callable[[int], bytes]  # exactly that many bytes, or an error


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file, folder or link in a stream; its names are as the sender wrote them."""

    name: str
    kind: bytes  # tarfile's REGTYPE, DIRTYPE, SYMTYPE or LNKTYPE
    mode: int
    size_bytes: int
    link: str


def write_tree(send: Callable[[bytes], None], source: Path, name: str) -> None:
    """Send a file or a tree under `name`. Links stay links; sockets, fifos and devices are left out."""
    status = source.lstat() if name.count("/") else source.stat()  # what the user named is followed
    header = tarfile.TarInfo(name)
    header.mode, header.mtime = stat.S_IMODE(status.st_mode) & 0o777, int(status.st_mtime)
    if stat.S_ISREG(status.st_mode):
        _send_file(send, source, header)
    elif stat.S_ISLNK(status.st_mode):
        header.type, header.linkname = tarfile.SYMTYPE, str(source.readlink())
        send(_encoded(header))
    elif stat.S_ISDIR(status.st_mode):
        header.type = tarfile.DIRTYPE
        send(_encoded(header))
        for child in sorted(os.listdir(source)):  # noqa: PTH208  # names alone
            write_tree(send, source / child, f"{name}/{child}")


def write_end(send: Callable[[bytes], None]) -> None:
    """End a stream."""
    send(_encoded(tarfile.TarInfo(END_MARK)) + bytes(2 * BLOCK))


def read_members(read: Reader) -> Iterator[Member]:
    """Yield the members of a hostile stream up to its end mark; read a file's bytes, all of them, before the next.

    Raises Refused on what is no file, folder or link, and on a header that is wrong or too long.
    """
    name = link = None
    size: int | None = None
    while any(block := read(BLOCK)):
        header = _parsed(block)
        if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            text = os.fsdecode(_read_header(read, header).rstrip(b"\0"))
            name, link = (text, link) if header.type == tarfile.GNUTYPE_LONGNAME else (name, text)
        elif header.type == tarfile.XHDTYPE:
            records = _pax_records(_read_header(read, header))
            name, link = records.get("path", name), records.get("linkpath", link)
            size = int(records["size"]) if records.get("size", "").isdigit() else size
        elif header.type == tarfile.XGLTYPE:
            _read_header(read, header)
        elif header.type not in _READ_TYPES:
            raise Refused(f'"{printable(name or header.name)}" is no file, folder or link')
        else:
            is_file = header.type in _FILE_TYPES
            yield Member(
                name=name or header.name,
                kind=tarfile.REGTYPE if is_file else header.type,
                mode=header.mode & 0o777,
                size_bytes=(header.size if size is None else size) if is_file else 0,
                link=link or header.linkname,
            )
            name = link = size = None


def padding(size_bytes: int) -> int:
    """Return how many bytes follow a file of that size up to the next block."""
    return -size_bytes % BLOCK


def _send_file(send: Callable[[bytes], None], source: Path, header: tarfile.TarInfo) -> None:
    with source.open("rb") as file:
        header.size = os.fstat(file.fileno()).st_size
        send(_encoded(header))
        left = header.size
        while left:
            block = file.read(min(_COPY_BYTES, left))
            # a file that shrinks while it is read is filled up, as tar does: the stream must keep its promise
            block = block or bytes(min(_COPY_BYTES, left))
            send(block)
            left -= len(block)
    send(bytes(padding(header.size)))


def _encoded(header: tarfile.TarInfo) -> bytes:
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise Refused("what the guest sent is no tar stream", detail=printable(str(error))) from error
    if header.size < 0:
        raise Refused("what the guest sent has a file of a negative size")
    return header


def _read_header(read: Reader, header: tarfile.TarInfo) -> bytes:
    if header.size > _MAX_HEADER_BYTES:
        raise Refused("what the guest sent has a header that is too long")
    content = read(header.size)
    read(padding(header.size))
    return content


def _pax_records(content: bytes) -> dict[str, str]:
    """Parse records of the form "LENGTH KEY=VALUE" and a line feed (POSIX.1-2001)."""
    records = {}
    while content:
        length, _, _ = content.partition(b" ")
        if not length.isdigit() or len(length) > 6 or not len(length) + 1 < int(length) <= len(content):
            raise Refused("what the guest sent has a broken pax header")
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        records[os.fsdecode(key)] = os.fsdecode(value)
        content = content[int(length) :]
    return records
