"""An API key on its way to Kiro, over a real sshd: in the program's environment, and nowhere else."""

import contextlib
import hashlib
import json
import logging
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sshd import PROGRAM, ROOT, Sshd, running_sshd
from vmkit.errors import ToolFailed
from vmkit.guest.base import Secret
from vmkit.guest.handed import handed
from vmkit.workflows.run import session

pytestmark = [
    pytest.mark.skipif(not PROGRAM, reason="needs sshd"),
    pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc"),
]

KEY = "ksk_0123456789abcdef-that-nobody-may-see"
SHOWN = hashlib.sha256(KEY.encode()).hexdigest()
KIRO = '#!/bin/sh\nprintf %s "$KIRO_API_KEY" | sha256sum\necho "arguments: $*"\nsleep 1\nexit 7\n'
IN_A_TERMINAL = """
import json, sys
from pathlib import Path
from tests.integration.test_api_key import KEY
from vmkit.drivers.base import Address
from vmkit.guest.base import Secret
from vmkit.guest.ssh import connect
from vmkit.workflows.run import session
port, user, key, host_key, place = json.loads(sys.argv[1])
with connect(Address(host="127.0.0.1", port=port), user=user, key=Path(key), host_key=host_key) as guest:
    sys.exit(session(guest, Path(place), ["chat", "in-sight"], api_key=Secret(KEY)))
"""


class Place:
    """A user's home in the guest, with a kiro-cli that tells what it was given."""

    def __init__(self, folder: Path, sshd: Sshd) -> None:
        self.home, self.sshd = folder / "home", sshd
        (self.home / "tmp").mkdir()
        (self.home / ".local/bin").mkdir(parents=True)
        (self.home / ".local/bin/kiro-cli").write_text(KIRO)
        (self.home / ".local/bin/kiro-cli").chmod(0o755)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "home").mkdir()
    extra = f"SetEnv HOME={tmp_path / 'home'} TMPDIR={tmp_path / 'home/tmp'}\n"
    with running_sshd(tmp_path, extra=extra) as sshd:
        yield Place(tmp_path, sshd)


@contextlib.contextmanager
def watched() -> Iterator[set[bytes]]:
    """Collect the arguments of every process there is, over and over."""
    seen, ended = set[bytes](), threading.Event()

    def look() -> None:
        while not ended.is_set():
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(process.read_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def files_with_the_key(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_the_key_reaches_kiros_environment_and_nothing_else(
    place: Place, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    with watched() as seen, place.sshd.connect() as guest:
        code = session(guest, place.home, ["chat", "in-sight"], api_key=Secret(KEY))

    said = capfd.readouterr()
    assert code == 7
    assert SHOWN in said.out
    assert any(b"in-sight" in arguments for arguments in seen)  # the watch sees what there is to see
    assert not any(KEY.encode() in arguments for arguments in seen)
    assert files_with_the_key(place.home.parent) == []  # sshd's log lies there too
    assert list((place.home / "tmp").iterdir()) == []
    assert KEY not in caplog.text + said.out + said.err


def test_in_a_terminal_it_does_too(place: Place) -> None:
    given = (place.sshd.address.port, place.sshd.user, str(place.sshd.keys.user_key), place.sshd.keys.host_public)
    argv = [sys.executable, "-c", IN_A_TERMINAL, json.dumps([*given, str(place.home)])]
    ours, theirs = pty.openpty()

    with watched() as seen:
        child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while block := os.read(ours, 65536):
                shown += block
        code = child.wait(30)
    os.close(ours)

    assert code == 7, shown
    assert SHOWN.encode() in shown
    assert any(b"in-sight" in arguments and b"kiro-cli" in arguments for arguments in seen)
    assert not any(KEY.encode() in arguments for arguments in seen)
    assert KEY.encode() not in shown


def test_without_a_key_kiro_gets_none(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    with place.sshd.connect() as guest:
        session(guest, place.home, ["chat"])

    assert hashlib.sha256(b"").hexdigest() in capfd.readouterr().out


def test_a_guest_that_cannot_make_a_pipe_is_told_of(place: Place) -> None:
    (place.home / "tmp").rmdir()

    with place.sshd.connect() as guest, pytest.raises(ToolFailed, match="pipe"), handed(guest, Secret(KEY)):
        pass
