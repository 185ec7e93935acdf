"""A world for closed machines: a network namespace with its own names and addresses, and real servers behind them.

vmkit, QEMU and the keeper run in it by `World.enter`, knowing nothing of it. The servers stay in the tests' process, on
sockets that a helper in the namespace opened: nothing listens outside. A relay leads to a real server of that name.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

# A documentation range, which the proxy takes for public. The kernel answers for all of it, yet connects to it from
# another address: so a server in here is not what the proxy takes for this computer itself.
_NETWORK, _OWN = "198.51.100.0/24", "198.51.100.1"
_SETUP = f"""set -eu
ip link set lo up
ip address add {_OWN}/32 dev lo
ip route add local {_NETWORK} dev lo src {_OWN}
mount --bind "$1" /etc/hosts
shift
exec "$@"
"""
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class World:
    """A running world. `enter` is what runs a command in it."""

    enter: tuple[str, ...]
    addresses: dict[str, str]
    helper: socket.socket

    def listen(self, name: str, port: int = 443) -> socket.socket:
        """Return a listening socket in the world, at one of its names."""
        self.helper.send(f"{self.addresses[name]} {port}".encode())
        _, descriptors, _, _ = socket.recv_fds(self.helper, 16, 1)
        return socket.socket(fileno=descriptors[0])

    def relay(self, name: str, port: int = 443) -> None:
        """Let a name of the world lead to the real server of that name, outside."""
        threading.Thread(target=_accept, args=(self.listen(name, port), name, port), daemon=True).start()


@contextlib.contextmanager
def closed_world(names: Sequence[str]) -> Iterator[World]:
    """Make a world in which `names` have addresses and no other name has; skip the test where it cannot be made."""
    addresses = {name: f"198.51.100.{number}" for number, name in enumerate(names, start=10)}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="vmkit-world-") as folder, ours:
        hosts = Path(folder) / "hosts"
        lines = ["127.0.0.1 localhost", f"127.0.1.1 {socket.gethostname()}"]
        hosts.write_text("\n".join([*lines, *(f"{address} {name}" for name, address in addresses.items())]) + "\n")
        hosts.chmod(0o644)
        # fmt: off
        helper = subprocess.Popen(
            [
                "unshare", *([] if is_root else ["--user", "--map-current-user", "--keep-caps"]), "--net", "--mount",
                "sh", "-c", _SETUP, "sh", hosts, sys.executable, "-m", "tests.closedworld", str(theirs.fileno()),
            ],
            pass_fds=[theirs.fileno()], cwd=_ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        # fmt: on
        theirs.close()
        try:
            if not ours.recv(16):
                said = helper.stderr.read().decode(errors="replace") if helper.stderr else ""
                pytest.skip(f"no network namespace can be made here: {said.strip()}")
            joined = () if is_root else ("--user", "--preserve-credentials")
            yield World(("nsenter", f"--target={helper.pid}", *joined, "--net", "--mount"), addresses, ours)
        finally:
            helper.kill()
            helper.communicate()


def _accept(listener: socket.socket, name: str, port: int) -> None:
    while True:
        guest, _ = listener.accept()
        try:
            server = socket.create_connection((name, port), timeout=30)
        except OSError:
            guest.close()
            continue
        server.settimeout(None)
        for source, target in ((guest, server), (server, guest)):
            threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def main() -> None:
    """Open the sockets that are asked for, until the tests hang up."""
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        asked.send(b"ready")
        while request := asked.recv(256):
            address, port = request.decode().split()
            with socket.create_server((address, int(port)), backlog=128) as listener:
                socket.send_fds(asked, [b"there"], [listener.fileno()])


if __name__ == "__main__":
    main()
