"""A Guest that is a home folder on this computer: commands run for real, as nobody when the tests run as root.

`sudo` is a stub that just runs the command, so nothing outside the folder can be written: steps as root in these tests
have targets below the home.
"""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from vmkit.errors import NotFound, TransportFailed
from vmkit.guest.base import Command, CommandFailed, Outcome
from vmkit.host.process import Runner
from vmkit.host.text import printable_lines
from vmkit.recipes.assets import AssetIdentity
from vmkit.recipes.facts import Facts

NOBODY = 65534
# Debian's own tools stay out of the tests; every call is written down. The archive has what the test put into it.
STUBS = {
    "sudo": 'shift 2; echo "$*" >>"$HOME/sudo.log"; exec "$@"',
    "sync": ":",
    "dpkg": ":",
    "dpkg-query": '[ ! -f "$HOME/installed" ] || sed "s/.*/package\\t&\\tinstalled/" "$HOME/installed"',
    "apt-cache": 'grep -qx "$3" "$HOME/archive"',
    "apt-get": """
case $* in
*-s*autoremove*) sed 's/.*/Remv & (1)/' "$HOME/unneeded"; exit ;;
*-s*install*) while [ "$1" != -- ]; do shift; done; shift; printf 'Inst %s (1)\\n' "$@" library; exit ;;
esac
echo "$*" >>"$HOME/apt.log"
case $* in *--*) for p; do last=$p; done; echo "$last" >>"$HOME/installed" ;; esac
""",
    "apt-mark": 'echo "apt-mark $*" >>"$HOME/apt.log"',
}


class HereGuest:
    """Implements `vmkit.guest.base.Guest`. `lose_after`: how many commands come through before the connection is lost."""

    def __init__(self, root: Path, *, enter: tuple[str, ...]) -> None:
        self.root = root
        self.home = root / "home"
        self.stamps = root / "stamps"
        self.enter = enter
        self.commands: list[str] = []
        self.puts: list[str] = []
        self.lose_after: int | None = None

    def run(
        self,
        command: Command,
        *,
        stdin: bytes = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        max_bytes: int = 1 << 20,
        on_line: Callable[[str], None] | None = None,
    ) -> Outcome:
        if self.lose_after is not None and len(self.commands) >= self.lose_after:
            raise TransportFailed("the connection to the guest was lost")
        self.commands.append(str(command))
        environment = {"HOME": str(self.home), "PATH": f"{self.root}/bin:{os.environ['PATH']}"}
        done = Runner().run(
            [*self.enter, "sh", "-c", command.wire()],
            stdin=stdin,
            timeout_s=min(timeout_s, 60),
            env=environment,
            ok_codes=None,
        )
        for line in printable_lines(done.stdout + done.stderr) if on_line else ():
            on_line(line)
        outcome = Outcome(
            command=str(command), code=done.code, stdout=done.stdout[:max_bytes], stderr=done.stderr[:max_bytes]
        )
        if check and not outcome.ok:
            raise CommandFailed(outcome)
        return outcome

    def put(
        self, source: Path, target: str, *, mode: int = 0o644, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        self.puts.append(target)
        self.put_bytes(source.read_bytes(), target, mode=mode)
        if on_bytes:
            on_bytes(source.stat().st_size)

    def put_bytes(self, content: bytes, target: str, *, mode: int = 0o644) -> None:
        self.run(Command("sh", "-c", 'cat >"$1" && chmod "$2" "$1"', "sh", target, f"{mode:o}"), stdin=content)

    def get_bytes(self, source: str, *, max_bytes: int = 1 << 20) -> bytes:
        try:
            return Path(source).read_bytes()
        except FileNotFoundError:
            raise NotFound(source) from None

    def close(self) -> None:
        pass

    def give(self, *names: str) -> None:
        """Make files that the test wrote into the home the guest's own."""
        for name in names if self.enter else ():
            os.chown(self.home / name, NOBODY, NOBODY)


class FileAsset:
    """An AssetProvider with one file; counts what it is asked for."""

    def __init__(self, path: Path, identity: AssetIdentity) -> None:
        self.path, self.identity = path, identity
        self.asked = self.fetched = 0

    def wanted(self, facts: Facts) -> AssetIdentity:
        self.asked += 1
        return self.identity

    def fetch(self, facts: Facts, report: object) -> Path:
        self.fetched += 1
        return self.path


def make_guest() -> HereGuest:
    """Make a guest in a folder that nobody may enter; remove `guest.root` afterwards."""
    root = Path(tempfile.mkdtemp(prefix="vmkit-here-"))
    (root / "bin").mkdir()
    (root / "home").mkdir()
    for name, body in STUBS.items():
        stub = root / "bin" / name
        stub.write_text(f"#!/bin/sh\n{body}\n")
        stub.chmod(0o755)
    enter: tuple[str, ...] = ()
    if os.getuid() == 0:
        for folder in (root, root / "bin", root / "home"):
            folder.chmod(0o755)
        os.chown(root, NOBODY, NOBODY)
        os.chown(root / "home", NOBODY, NOBODY)
        setpriv = shutil.which("setpriv")
        assert setpriv is not None
        enter = (setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return HereGuest(root, enter=enter)


def pack(folder: Path, archive: Path) -> None:
    """Write `folder` as a tar archive, compressed as the name of `archive` says."""
    kind = archive.suffix[1:]
    with tarfile.open(archive, f"w:{kind}") as tar:  # type: ignore[call-overload]  # gz or xz
        tar.add(folder, folder.name)
