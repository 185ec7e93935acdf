"""Choose a loopback port for a machine's sshd."""

import random
import socket

from vmkit.errors import HostLacks

# Below the ephemeral ranges of Linux (32768) and macOS (49152), so that no outgoing connection takes it meanwhile.
_RANGE = range(20000, 30000)


def choose_port() -> int:
    """Return a random port on 127.0.0.1 that nobody listens on now. Raises HostLacks.

    Two machines may draw the same one while neither runs: the later start moves to another.
    """
    for port in random.sample(_RANGE, 200):
        if _is_free(port):
            return port
    raise HostLacks("no free port was found on 127.0.0.1", detail=f"200 of {_RANGE.start}-{_RANGE.stop} were tried")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
