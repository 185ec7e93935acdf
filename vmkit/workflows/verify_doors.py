"""Doors on this computer for the time of a run: who comes through one has crossed a wall, whatever the guest says."""

import contextlib
import os
import select
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from vmkit.errors import HostLacks
from vmkit.host.text import printable
from vmkit.host.wait import Deadline
from vmkit.network.selftest import own_addresses

_LOOPBACK = ("127.0.0.1", "::1")
_SECOND = "127.0.0.2"  # Linux answers there too: what listens everywhere does, what listens on 127.0.0.1 does not
_TRIES = 20
_MAX_KEPT = 20
_MAX_READ = 200
_CONNECT_S = 2.0


class Doors:
    """Listeners on this computer's addresses, TCP and UDP, that note who comes. Use it in a `with`.

    `direct_port` is for what comes by the network card, `proxied_port` for what comes by the proxy.
    """

    def __init__(self, token: str) -> None:
        self.lan = tuple(own_addresses())
        self.others = self._others()
        self._greeting = f"vmkit self-test {token}\n".encode()
        self._stack = contextlib.ExitStack()
        self._arrived: dict[int, list[str]] = {}
        self._doors: list[socket.socket] = []
        self.direct_port = self.proxied_port = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.direct_port, self.proxied_port = self._open(stack), self._open(stack)
            reader, writer = socket.socketpair()
            thread = threading.Thread(target=self._serve, args=(reader,), daemon=True)
            thread.start()
            for ending in (reader.close, thread.join, writer.close):
                stack.callback(ending)
            stack.callback(writer.shutdown, socket.SHUT_WR)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def arrivals(self, port: int) -> str | None:
        """Say who came to a port of this run, and by which address."""
        came = self._arrived.get(port)
        return f"at this computer arrived: {'; '.join(came[:3])}" if came else None

    def arrived_within(self, port: int) -> bool:
        """Tell whether anybody has come by now, or comes within a second."""
        deadline = Deadline(1.0)
        while not self._arrived.get(port) and not deadline.passed:
            select.select([], [], [], 0.01)
        return bool(self._arrived.get(port))

    def _others(self) -> tuple[str, ...]:
        """Return addresses of this computer that a port on 127.0.0.1 does not answer at."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((_SECOND, 0))
            except OSError:  # macOS has no such address (unverified)
                return self.lan
        return (*self.lan, _SECOND)

    def _open(self, stack: contextlib.ExitStack) -> int:
        """Listen on one port at every address. Raises HostLacks."""
        for _ in range(_TRIES):
            with contextlib.ExitStack() as attempt:
                first = attempt.enter_context(_listener("127.0.0.1", socket.SOCK_STREAM, 0))
                port = int(first.getsockname()[1])
                doors = [first]
                try:
                    doors.append(attempt.enter_context(_listener("127.0.0.1", socket.SOCK_DGRAM, port)))
                    doors += [
                        attempt.enter_context(_listener(address, kind, port))
                        for address in self.others
                        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
                    ]
                except OSError:  # taken at one of them
                    continue
                with contextlib.suppress(OSError):  # no IPv6 here
                    doors.append(attempt.enter_context(_listener(_LOOPBACK[1], socket.SOCK_STREAM, port)))
                stack.enter_context(attempt.pop_all())
                self._doors += doors
                return port
        raise HostLacks("no port was free at all of this computer's addresses")

    def _serve(self, until: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([until, *self._doors], [], [])
            if until in ready:
                return
            for door in ready:
                with contextlib.suppress(OSError):
                    self._admit(door)

    def _admit(self, door: socket.socket) -> None:
        address, port = door.getsockname()[:2]
        if door.type == socket.SOCK_DGRAM:
            words, guest = door.recvfrom(_MAX_READ)
            kind = "UDP"
        else:
            connected, guest = door.accept()
            kind, words = "TCP", b""
        said = f" ({printable(words, max_chars=40)})" if words else ""
        kept = self._arrived.setdefault(port, [])
        if len(kept) < _MAX_KEPT:
            kept.append(f"{kind} from {guest[0]} at {address} port {port}{said}")
        if kind == "UDP":
            door.sendto(self._greeting, guest)
            return
        with connected:
            connected.sendall(self._greeting)
            connected.shutdown(socket.SHUT_WR)
            connected.settimeout(0.2)
            connected.recv(_MAX_READ)  # closing on unread bytes would take the greeting back


def _listener(address: str, kind: socket.SocketKind, port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    try:
        door.bind((address, port))
        if kind == socket.SOCK_STREAM:
            door.listen(50)
    except BaseException:
        door.close()
        raise
    return door


def answering(addresses: Sequence[str], port: int) -> list[str]:
    """Return the addresses of this computer at which a port answers."""
    found = []
    for address in addresses:
        with contextlib.suppress(OSError):
            socket.create_connection((address, port), timeout=_CONNECT_S).close()
            found.append(f"{address} port {port}")
    return found


def open_to_others(*, folders: Sequence[Path], private: Sequence[Path], own: Sequence[Path]) -> Iterator[str]:
    """Yield what other users of this computer could get at.

    Nobody else may enter `folders`, read `private` or write `own`; what is not there is no fault.
    """
    for paths, mask, what in (
        (folders, 0o077, "others may enter"), (private, 0o077, "others may read"), (own, 0o022, "others may change")
    ):  # fmt: skip
        for path in paths:
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid():
                yield f"{path} is not your own"
            elif found.st_mode & mask:
                yield f"{what} {path} (mode {stat.S_IMODE(found.st_mode):04o})"
