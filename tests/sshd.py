"""A real sshd on loopback for the tests that talk to one: own keys, own configuration, ended by its pid."""

import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmkit.drivers.base import Address
from vmkit.guest.keys import Keys, make_keys
from vmkit.guest.ssh import SshGuest, connect

ROOT = Path(__file__).parent.parent
PROGRAM = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/libexec")


@dataclass(frozen=True, kw_only=True)
class Sshd:
    """A running sshd that lets this user in with one key."""

    address: Address
    user: str
    keys: Keys
    log: Path
    process: subprocess.Popen

    def connect(self, **changed) -> SshGuest:
        given = {"user": self.user, "key": self.keys.user_key, "host_key": self.keys.host_public}
        return connect(self.address, timeout_s=30, **{**given, **changed})

    def client(self, how: str, argv: list[str] | None) -> list[str]:
        """Return the command line of tests/sshclient.py for this sshd."""
        given = (str(self.address.port), self.user, str(self.keys.user_key), self.keys.host_public)
        return [sys.executable, "-m", "tests.sshclient", how, *given, json.dumps(argv)]

    def drop_connections(self) -> None:
        """Kill the sshd processes that serve connections, as a dying guest would."""
        serving = children(self.process.pid)
        below = [grandchild for child in serving for grandchild in children(child)]
        for pid in [*serving, *below]:  # in this order: sshd would still tell how the programs below it ended
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


@contextlib.contextmanager
def running_sshd(folder: Path, *, extra: str = "") -> Iterator[Sshd]:
    keys = make_keys(folder / "keys")
    (folder / "authorized_keys").write_text(keys.user_public + "\n")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    port = free_port()
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {keys.host_key}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPermitRootLogin yes\nPermitUserRC no\nLogLevel DEBUG1\nUseDNS no\n"
        f"PrintMotd no\nPrintLastLog no\nAcceptEnv LANG LC_*\nMaxStartups 100\n{extra}"
    )
    log = folder / "sshd.log"
    process = subprocess.Popen([str(PROGRAM), "-D", "-f", str(config), "-E", str(log)], stdin=subprocess.DEVNULL)
    sshd = Sshd(
        address=Address(host="127.0.0.1", port=port), user=pwd.getpwuid(os.getuid()).pw_name,
        keys=keys, log=log, process=process,
    )  # fmt: skip
    try:
        wait_for_port(port)
        yield sshd
    finally:
        sshd.drop_connections()
        process.terminate()
        process.wait(10)


def until(happened, *, seconds: float = 20):
    """Wait for a condition; its value."""
    end = time.monotonic() + seconds
    while not (value := happened()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return value


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")
