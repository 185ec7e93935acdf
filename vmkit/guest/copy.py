"""Copy files and trees into a guest and out of it, each as one tar stream: many times faster than file by file."""

import posixpath
import secrets
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from vmkit.errors import NotFound, Refused, UsageError
from vmkit.guest.base import Command, CommandFailed, Outcome
from vmkit.guest.conversation import Reader, Sender
from vmkit.guest.extract import extract, move_in
from vmkit.guest.ssh import SshGuest
from vmkit.guest.tarstream import END_MARK, write_end, write_tree
from vmkit.host.computer import free_bytes
from vmkit.host.text import printable

_DAY_S = 86400.0
_RESERVE_BYTES = 256 << 20
_MAX_SAID_BYTES = 16 << 10
_BLOCK_BYTES = 128 << 10
_MISSING = 44

_PROBE = """
if [ -d "$1" ]; then echo folder
elif [ -e "$1" ]; then echo file
elif [ -d "$2" ]; then echo new
else echo missing; fi
"""
# Extracted beside the target, then moved: what is cut off leaves nothing. $1 folder, $2 our part's name, then names.
_INTO = f"""
set -e; cd -- "$1"; part=$2; shift 2
trap 'rm -rf -- "$part"' EXIT
mkdir -m 700 -- "$part"
tar -xof - -C "$part"
[ -e "$part/{END_MARK}" ] || {{ echo "the files came incomplete" >&2; exit 1; }}
for name in "$@"; do
  if [ -d "$part/$name" ] && [ -d "./$name" ]; then cp -a -- "$part/$name/." "./$name/"
  elif [ -d "./$name" ]; then echo "$name is a directory" >&2; exit 1
  elif [ -d "$part/$name" ] && [ -e "./$name" ]; then echo "$name is not a directory" >&2; exit 1
  else mv -f -- "$part/$name" "./$name"; fi
done
"""
# What the user named is followed (-h for a file); links below it stay links. A folder comes as ".", a file by name.
_OUT = f"""
[ -e "$1" ] || exit {_MISSING}
if [ -d "$1" ]; then cd -- "$1" && exec tar -cf - .; fi
cd -- "$2" && exec tar -chf - -- "./$3"
"""


def copy_into(
    guest: SshGuest, sources: Sequence[Path], target: str, *, on_bytes: Callable[[int], None] | None = None
) -> None:
    """Copy files and trees into the guest: into `target` when that is a folder or ends in "/", else they become it.

    `on_bytes`: bytes sent so far. Raises NotFound (a source, the target's folder), UsageError, CommandFailed.
    """
    for source in sources:
        if not source.exists():
            raise NotFound(f'there is no "{source}"')
    folder, names = _placed(guest, sources, target)

    def produce(send: Sender) -> None:
        gathered = _Gathered(send, on_bytes)
        for source, name in zip(sources, names, strict=True):
            write_tree(gathered.send, source, name)
        write_end(gathered.send)
        gathered.flush()

    said = _Said()
    command = Command("sh", "-c", _INTO, "sh", folder, f".vmkit-{secrets.token_hex(4)}", *names)
    code = guest.stream(command, produce=produce, out=said.read_all, err=said.read_all, timeout_s=_DAY_S)
    if code:
        raise said.failure(f"copy to {target}", code)


def copy_out(guest: SshGuest, source: str, target: Path, *, on_bytes: Callable[[int], None] | None = None) -> Path:
    """Copy a file or a tree out of the guest, into `target` when that is a folder, else it becomes it; return where.

    Nothing half-made is left. Raises NotFound, Refused (a name, a link or a size that is hostile), UsageError.
    """
    path = posixpath.normpath(source)
    name = posixpath.basename(path)
    final = target / name if target.is_dir() else target
    if target.is_dir() and name in {"", ".", ".."}:
        raise UsageError(f'"{source}" has no name to copy it by', hint=f"name the new folder: {target}/NAME")
    if not final.parent.is_dir():
        raise NotFound(f'there is no folder "{final.parent}"')
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".vmkit-", ignore_cleanup_errors=True) as folder:
        staged = Path(folder) / "tree"
        staged.mkdir()
        incoming = _Incoming(staged, on_bytes)
        said = _Said()
        command = Command("sh", "-c", _OUT, "sh", path, posixpath.dirname(path) or ".", name)
        code = guest.stream(command, produce=_nothing, out=incoming.read_all, err=said.read_all, timeout_s=_DAY_S)
        if code == _MISSING:
            raise NotFound(f'there is no "{printable(source)}" in the guest')
        if code or incoming.cut_off:
            raise said.failure(f"copy {source}", code)
        move_in(staged if incoming.is_tree else _only_file(staged, name), final)
    return final


def _placed(guest: SshGuest, sources: Sequence[Path], target: str) -> tuple[str, list[str]]:
    """Return the guest's folder that receives, and the name of each source in it."""
    path = posixpath.normpath(target or ".")
    parent = posixpath.dirname(path) or "."
    what = guest.run(Command("sh", "-c", _PROBE, "sh", path, parent), max_bytes=64).text.strip()
    names = [source.resolve().name if source.name in {"", ".."} else source.name for source in sources]
    if what == "folder":
        if len(set(names)) < len(names):
            raise UsageError("two of the sources have the same name")
        return path, names
    if len(sources) > 1 or (target.endswith("/") and not sources[0].is_dir()):
        raise NotFound(f'there is no folder "{target}" in the guest')
    if what not in {"file", "new"}:
        raise NotFound(f'there is no folder "{parent}" in the guest')
    return parent, [posixpath.basename(path)]


class _Incoming:
    """Extract what the guest sends."""

    def __init__(self, staged: Path, on_bytes: Callable[[int], None] | None) -> None:
        self._staged, self._on_bytes = staged, on_bytes
        self.is_tree = self.cut_off = False
        self._block, self._at = b"", 0

    def read_all(self, read: Reader) -> None:
        max_bytes = max(0, free_bytes(self._staged) - _RESERVE_BYTES)
        try:
            self.is_tree = extract(
                lambda wanted: self._take(read, wanted), self._staged, max_bytes=max_bytes, on_bytes=self._on_bytes
            )
        except EOFError:  # the exit code tells why
            self.cut_off = True

    def _take(self, read: Reader, wanted: int) -> bytes:
        taken = self._block[self._at : self._at + wanted]
        self._at += len(taken)
        while len(taken) < wanted:
            self._block, self._at = read(), 0
            if not self._block:
                raise EOFError
            more = self._block[: wanted - len(taken)]
            self._at = len(more)
            taken += more
        return taken


class _Said:
    """The first words of a guest's program, for its error."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._lock = threading.Lock()

    def read_all(self, read: Reader) -> None:
        while block := read():
            with self._lock:
                self._kept += block[: _MAX_SAID_BYTES - len(self._kept)]

    def failure(self, what: str, code: int) -> CommandFailed:
        said = bytes(self._kept) or b"the files came incomplete"
        return CommandFailed(Outcome(command=what, code=code or 1, stdout=b"", stderr=said))


def _only_file(staged: Path, name: str) -> Path:
    if [child.name for child in staged.iterdir()] != [name] or (staged / name).is_symlink():
        raise Refused("the guest sent something else than was asked for")
    return staged / name


class _Gathered:
    """Send small pieces in large blocks, and tell how much has been sent."""

    def __init__(self, send: Sender, on_bytes: Callable[[int], None] | None) -> None:
        self._send, self._on_bytes = send, on_bytes
        self._pending = bytearray()
        self._sent = 0

    def send(self, piece: bytes) -> None:
        self._pending += piece
        if len(self._pending) >= _BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        self._send(bytes(self._pending))
        self._sent += len(self._pending)
        self._pending.clear()
        if self._on_bytes:
            self._on_bytes(self._sent)


def _nothing(_send: Sender) -> None:
    """Give a program no input."""
