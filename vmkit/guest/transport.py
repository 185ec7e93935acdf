"""Paramiko, narrowed: one pinned host key, one user key, modern algorithms, bounded packets, nothing of the user's.

The only module that imports paramiko; itself imported only by what is about to connect. Facts about Paramiko 5.1 are
read in its source.
"""

import contextlib
import io
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA, MSG_CHANNEL_REQUEST
from paramiko.message import Message
from paramiko.packet import Packetizer

from vmkit.errors import Refused, TransportFailed
from vmkit.guest.base import Secret
from vmkit.guest.connection import WINDOW_BYTES, Channel, Pty, Size
from vmkit.host.text import printable

_KEX = ("curve25519-sha256@libssh.org", "mlkem768x25519-sha256", "ecdh-sha2-nistp256")  # cheapest in the guest first
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
_DIGESTS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
_PACKET_BYTES = 32 << 10  # RFC 4253 6.1 asks for no more than 35000 bytes
_MAX_PACKET_BYTES = 256 << 10  # OpenSSH's own limit
_START_S = 30.0
_LOOPBACK = "127.0.0.1"
_MAX_SEEN = 4096
_FORWARD_WINDOW_BYTES = 256 << 10  # a guest may open hundreds of these, each with that much on its way


class LoginRefused(TransportFailed):
    """The guest's sshd does not take our key, or not yet."""


class _BoundedPacketizer(Packetizer):
    """Paramiko believes a packet length of 4 GiB and gathers it in memory."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002  # Paramiko's signature
        if not 0 <= n <= _MAX_PACKET_BYTES:
            raise paramiko.SSHException("the guest announced a packet that is too long")
        return super().read_all(n, check_rekey)


def _on_channel_request(channel: paramiko.Channel, message: Message) -> None:
    """Understand `exit-signal` (RFC 4254 6.10), which Paramiko ignores, and leave all else to it."""
    start = message.packet.tell()
    if message.get_text() == "exit-signal":
        message.get_boolean()
        number = getattr(signal, "SIG" + message.get_text(), signal.SIGKILL)
        channel.exit_status = 128 + int(number)
        channel.status_event.set()
        return
    message.packet.seek(start)
    channel._handle_request(message)  # type: ignore[attr-defined]  # noqa: SLF001  # the table's own entry


def _bounded(number: int) -> Callable[[paramiko.Channel, Message], None]:
    """Return the parent's handler of data with an end to it: Paramiko keeps whatever a guest sends past its window."""
    handle = paramiko.Transport._channel_handler_table[number]  # type: ignore[attr-defined]  # noqa: SLF001

    def on_data(channel: paramiko.Channel, message: Message) -> None:
        handle(channel, message)
        buffers: Any = channel
        if len(buffers.in_buffer) + len(buffers.in_stderr_buffer) > 3 * buffers.in_window_size:
            raise paramiko.SSHException("the guest's sshd ignores the window it was given")

    return on_data


class _Transport(paramiko.Transport):
    _channel_handler_table = {  # noqa: RUF012  # as in the parent
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]  # noqa: SLF001
        MSG_CHANNEL_REQUEST: _on_channel_request,
        MSG_CHANNEL_DATA: _bounded(MSG_CHANNEL_DATA),
        MSG_CHANNEL_EXTENDED_DATA: _bounded(MSG_CHANNEL_EXTENDED_DATA),
    }


class ParamikoConnection:
    """A Connection, made by `authenticated`."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport

    def start(self, wire: str | None, *, pty: Pty | None = None) -> Channel:
        """Start a line for the guest's shell, or (None) the login shell itself."""
        with self._deadline(_START_S), _translated():
            channel = self._transport.open_session(window_size=WINDOW_BYTES, timeout=_START_S)
            if pty is not None:
                if pty.language is not None:
                    channel.set_environment_variable("LANG", pty.language)
                channel.set_combine_stderr(True)  # one stream is read, and a hostile sshd sends both
                channel.get_pty(pty.term, pty.size.columns, pty.size.rows)
            if wire is None:
                channel.invoke_shell()
            else:
                channel.exec_command(wire)
            return channel

    def accept(self, port: int, admit: Callable[[Channel], None]) -> None:
        """Have the guest's sshd listen on its loopback `port`; each connection there is a channel that never blocks.

        `admit` is called on the connection's own thread, which must not wait. Raises TransportFailed (refused, taken).
        """

        def arrived(channel: paramiko.Channel, _origin: object, server: tuple[str, int]) -> None:
            if tuple(server) != (_LOOPBACK, port):
                channel.close()
                return
            channel.settimeout(0)
            self._forget_channels()
            admit(channel)

        with self._deadline(_START_S), _translated():
            self._transport.request_port_forward(_LOOPBACK, port, arrived)

    def refuse(self, port: int) -> None:
        """End what `accept` began; the channels that there are stay. Raises TransportFailed."""
        with self._deadline(_START_S), _translated():
            self._transport.cancel_port_forward(_LOOPBACK, port)

    def resize(self, channel: Channel, size: Size) -> None:
        """Tell a program's terminal its new size; nothing when the program has ended."""
        if isinstance(channel, paramiko.Channel):
            with contextlib.suppress(paramiko.SSHException, OSError):  # "Channel is not open"
                channel.resize_pty(size.columns, size.rows)

    def buffered_bytes(self, channel: Channel) -> int:
        """Return how much a channel holds that nobody has read."""
        buffers: Any = channel
        return len(buffers.in_buffer) + len(buffers.in_stderr_buffer)

    def is_alive(self) -> bool:
        """Tell whether the connection still stands, as far as is known."""
        return self._transport.is_active()

    def ask_alive(self) -> None:
        """Ask the guest's sshd for any answer; return when it came or the connection ended."""
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            self._transport.global_request("keepalive@openssh.com", wait=True)

    def close(self) -> None:
        """End it."""
        self._transport.close()

    def _forget_channels(self) -> None:
        """Paramiko remembers the number of every channel there was, and a guest can open them without end."""
        seen: dict[int, bool] = self._transport.channels_seen
        while len(seen) > _MAX_SEEN:
            del seen[next(iter(seen))]

    @contextlib.contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        # get_pty and exec_command wait for the guest's reply without a limit; only ending the connection wakes them
        timer = threading.Timer(seconds, self._transport.close)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def authenticated(
    connected: socket.socket, *, user: str, key: Path | Secret, host_key: str, timeout_s: float
) -> ParamikoConnection:
    """Speak SSH on a connected socket, which this takes over, and log in.

    Raises Refused, before any authentication, when the host key is not `host_key`; LoginRefused; TransportFailed.
    """
    transport = _transport(connected, timeout_s)
    try:
        with _translated():
            transport.start_client(timeout=timeout_s)
            _check_server(transport, host_key)
            _log_in(transport, user, key)
    except BaseException:
        transport.close()
        raise
    return ParamikoConnection(transport)


def offered_key(connected: socket.socket, *, timeout_s: float) -> str:
    """Return the public line of the host key that an sshd shows, and hang up: nothing is sent of ours.

    Raises Refused (no Ed25519 key, no modern algorithm), TransportFailed.
    """
    transport = _transport(connected, timeout_s)
    try:
        with _translated():
            transport.start_client(timeout=timeout_s)
            if not transport.initial_kex_done:
                raise TransportFailed("the guest's sshd did not finish the key exchange in time")
            shown = transport.get_remote_server_key()
            return f"{shown.get_name()} {shown.get_base64()}"
    finally:
        transport.close()


def _transport(connected: socket.socket, timeout_s: float) -> _Transport:
    logger = logging.getLogger("paramiko")
    logger.setLevel(logging.CRITICAL + 1)  # it prints tracebacks of what we report ourselves
    transport = _Transport(
        connected,
        default_window_size=_FORWARD_WINDOW_BYTES,
        default_max_packet_size=_PACKET_BYTES,
        packetizer_class=_BoundedPacketizer,
    )
    transport.daemon = True
    transport.auth_timeout = timeout_s
    options = transport.get_security_options()
    options.kex, options.ciphers, options.digests = _KEX, _CIPHERS, _DIGESTS
    options.key_types = ("ssh-ed25519",)
    return transport


def _check_server(transport: paramiko.Transport, host_key: str) -> None:
    if not transport.initial_kex_done:
        raise TransportFailed("the guest's sshd did not finish the key exchange in time")
    shown = transport.get_remote_server_key()
    expected = host_key.split()[:2]
    if [shown.get_name(), shown.get_base64()] != expected:
        raise Refused(
            "the guest's host key is not the one that vmkit made for this machine",
            detail=f"expected {' '.join(expected)}\ngot      {shown.get_name()} {printable(shown.get_base64())}",
            hint="nothing was sent. Another program may hold the port: vmkit restart",
        )
    if not transport.agreed_on_strict_kex:  # type: ignore[attr-defined]  # types-paramiko has yet to learn of it
        raise Refused("the guest's sshd does not know strict key exchange (CVE-2023-48795)", hint="update the guest")


def _log_in(transport: paramiko.Transport, user: str, key: Path | Secret) -> None:
    text = key.value if isinstance(key, Secret) else key.read_text()
    transport.auth_publickey(user, paramiko.Ed25519Key.from_private_key(io.StringIO(text)))
    if not transport.is_authenticated():
        raise LoginRefused("the guest's sshd wants more than our key")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except paramiko.AuthenticationException as error:
        raise LoginRefused("the guest does not take our key", detail=printable(str(error))) from error
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise Refused("the guest's sshd offers no algorithm that vmkit takes", detail=printable(str(error))) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise TransportFailed("the connection to the guest failed", detail=printable(str(error))) from error
