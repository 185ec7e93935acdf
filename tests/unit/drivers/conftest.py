"""A peer for the socket clients: one thread that accepts one connection and plays a part."""

import contextlib
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Part = Callable[["Peer"], None]


class Peer:
    """The other end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.reader = connection.makefile("rb")
        self.heard: list[bytes] = []

    def say(self, value: object, prefix: bytes = b"") -> None:
        self.connection.sendall(prefix + json.dumps(value).encode() + b"\n")

    def hear(self) -> dict:
        line = self.reader.readline()
        self.heard.append(line)
        return json.loads(line.lstrip(b"\xff"))


@pytest.fixture
def serve() -> Iterator[Callable[[Part], Path]]:
    """Serve a part on a socket; give its path (short: pytest's folders may be longer than a socket's path may be)."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmkit-test-")))

        def start(part: Part) -> Path:
            path = folder / "peer.sock"
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listener.bind(str(path))
            listener.listen(1)

            def run() -> None:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError, ValueError):
                    part(Peer(connection))

            threading.Thread(target=run, daemon=True).start()
            return path

        yield start
