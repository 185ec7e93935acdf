"""Reach an sshd: one connection at a time, patient until its banner is there.

slirp accepts a connection before the guest has a network, so an open port proves nothing, and every connection that
was given up still costs the booting sshd a process.
"""

import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from vmkit.drivers.base import Address
from vmkit.errors import TransportFailed
from vmkit.guest.base import Secret
from vmkit.guest.connection import Connection, Listening
from vmkit.host.text import printable
from vmkit.host.wait import Deadline

_POLL_S = 0.1
_MAX_BANNER_BYTES = 255  # RFC 4253 4.2; lines before it are not sent by the servers we meet


class Dial(Protocol):
    """How a guest is reached: by `dial` below, or by whoever holds a connection already."""

    def __call__(
        self,
        address: Address,
        *,
        user: str,
        key: Path | Secret,
        host_key: str,
        timeout_s: float,
        give_up: Callable[[], bool] = ...,
    ) -> Connection:
        """Return an authenticated connection. Raises TransportFailed, Refused (another host key)."""


def dial(
    address: Address,
    *,
    user: str,
    key: Path | Secret,
    host_key: str,
    timeout_s: float,
    give_up: Callable[[], bool] = lambda: False,
) -> Listening:
    """Connect, wait for the banner, check the host key, log in with the private key, a file or its text.

    `give_up` is asked while there is no banner.

    Raises TransportFailed, LoginRefused (a TransportFailed), Refused (host key).
    """
    deadline = Deadline(timeout_s)
    connected = _connected(address, deadline, give_up)
    from vmkit.guest.transport import authenticated  # noqa: PLC0415  # as in _connected

    return authenticated(connected, user=user, key=key, host_key=host_key, timeout_s=max(1.0, deadline.left_s))


def ask_host_key(address: Address, *, timeout_s: float) -> str:
    """Return the public line of the key that the sshd at `address` shows, which nobody has vouched for.

    Raises TransportFailed, Refused (it has no Ed25519 key).
    """
    deadline = Deadline(timeout_s)
    connected = _connected(address, deadline, lambda: False)
    from vmkit.guest.transport import offered_key  # noqa: PLC0415  # as in _connected

    return offered_key(connected, timeout_s=max(1.0, deadline.left_s))


def _connected(address: Address, deadline: Deadline, give_up: Callable[[], bool]) -> socket.socket:
    """Connect and wait for the banner, while Paramiko is imported."""
    try:
        connected = socket.create_connection((address.host, address.port), timeout=max(0.1, deadline.left_s))
    except OSError as error:
        raise TransportFailed("the guest's sshd cannot be reached", detail=printable(str(error))) from error
    try:
        import vmkit.guest.transport  # noqa: F401, PLC0415  # 150 ms, while the banner is coming

        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _await_banner(connected, deadline, give_up)
    except BaseException:
        connected.close()
        raise
    return connected


def _await_banner(connected: socket.socket, deadline: Deadline, give_up: Callable[[], bool]) -> None:
    """Return when a whole banner lies in the socket, still unread: the transport wants to read it itself."""
    seen = b""
    while not deadline.passed:
        if give_up():
            raise TransportFailed("stopped waiting for the guest's sshd")
        readable, _, _ = select.select([connected], [], [], min(_POLL_S, deadline.left_s))
        if not readable:
            continue
        try:
            peeked = connected.recv(_MAX_BANNER_BYTES, socket.MSG_PEEK)
        except OSError as error:
            raise TransportFailed("the guest's sshd hung up", detail=printable(str(error))) from error
        if not peeked:
            raise TransportFailed("the guest's sshd hung up")
        if not b"SSH-2.0-".startswith(peeked[:8]):
            raise TransportFailed("what answers is no SSH server", detail=printable(peeked))
        if b"\n" in peeked:
            return
        if len(peeked) == _MAX_BANNER_BYTES:
            raise TransportFailed("the guest's SSH banner is too long", detail=printable(peeked))
        if peeked == seen:  # a part of the line, which keeps the socket readable
            select.select([], [], [], 0.01)
        seen = peeked
    raise TransportFailed(f"the guest's sshd said nothing for {deadline.seconds:g} s")
