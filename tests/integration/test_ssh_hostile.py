"""Servers that do what no guest should, played by a Paramiko server."""

import contextlib
import os
import queue
import socket
import struct
import threading

import paramiko
import pytest

from vmkit.drivers.base import Address
from vmkit.errors import Refused, TimedOut, TransportFailed
from vmkit.guest.base import Command
from vmkit.guest.connection import Pty, Size
from vmkit.guest.dial import dial
from vmkit.guest.keys import make_keys
from vmkit.guest.ssh import connect
from vmkit.guest.transport import LoginRefused

ANY = Command("true")


class Hostile(paramiko.ServerInterface):
    def __init__(self, on_exec, *, admits=True):
        self.on_exec, self.admits = on_exec, admits
        self.offered, self.requests = [], []

    def check_auth_publickey(self, username, key):
        self.offered.append(key.get_base64())
        return paramiko.AUTH_SUCCESSFUL if self.admits else paramiko.AUTH_FAILED

    def check_auth_none(self, username):
        self.offered.append("none")
        return paramiko.AUTH_FAILED

    def get_allowed_auths(self, username):
        return "publickey"

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_env_request(self, channel, name, value):
        self.requests.append(name)
        return True

    def check_channel_pty_request(self, *_):
        return True

    def check_channel_x11_request(self, *_):
        self.requests.append("x11")
        return True

    def check_channel_forward_agent_request(self, channel):
        self.requests.append("agent")
        return True

    def check_port_forward_request(self, address, port):
        self.requests.append("forward")
        return port

    def check_channel_exec_request(self, channel, command):
        threading.Timer(0.1, self._run, args=(channel,)).start()  # after the reply to this request
        return True

    def _run(self, channel):
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self.on_exec(channel)


class Server:
    def __init__(self, keys, behaviour, prepare):
        self.keys, self.behaviour, self.transports = keys, behaviour, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.prepare = prepare
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self):
        return Address(host="127.0.0.1", port=self.listener.getsockname()[1])

    def connect(self, *, timeout_s=5.0, host_key=None):
        return connect(
            self.address, user="agent", key=self.keys.user_key,
            host_key=host_key or self.keys.host_public, timeout_s=timeout_s,
        )  # fmt: skip

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                transport = paramiko.Transport(connection)
                transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(self.keys.host_key)))
                self.prepare(transport)
                self.transports.append(transport)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(event=threading.Event(), server=self.behaviour)

    def close(self):
        self.listener.close()
        for transport in self.transports:
            transport.close()


@pytest.fixture
def server(tmp_path):
    keys = make_keys(tmp_path / "keys")
    servers = []

    def start(on_exec=lambda channel: None, *, admits=True, prepare=lambda transport: None):
        servers.append(Server(keys, Hostile(on_exec, admits=admits), prepare))
        return servers[-1]

    yield start
    for one in servers:
        one.close()


def answer(channel, *, code=0):
    channel.send_exit_status(code)
    channel.close()


def test_another_host_key_is_refused_before_any_authentication(server, tmp_path):
    squatter = server()
    expected = make_keys(tmp_path / "other").host_public

    with pytest.raises(Refused) as caught:
        squatter.connect(host_key=expected)

    assert caught.value.exit_code == 6
    assert squatter.behaviour.offered == []
    assert len(squatter.transports) == 1


def test_one_key_is_offered_whatever_the_agent_holds(server, monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nonexistent/agent")
    guest = server(answer)

    with guest.connect() as connected:
        connected.run(ANY)

    assert set(guest.behaviour.offered) == {guest.keys.user_public.split()[1]}


def test_an_unwanted_key_is_its_own_error(server):
    with pytest.raises(LoginRefused):
        server(admits=False).connect()


def test_no_environment_is_sent(server):
    guest = server(answer)

    with guest.connect() as connected:
        connected.run(ANY)

    assert guest.behaviour.requests == []


def test_neither_agent_nor_display_is_offered_with_a_terminal_either(server, monkeypatch):
    for name in ("SSH_AUTH_SOCK", "DISPLAY", "XAUTHORITY"):
        monkeypatch.setenv(name, "/nonexistent")
    guest = server(answer)

    connection = dial(
        guest.address, user="agent", key=guest.keys.user_key, host_key=guest.keys.host_public, timeout_s=5
    )
    channel = connection.start("true", pty=Pty(term="xterm", size=Size(columns=80, rows=24)))
    ended = channel.status_event.wait(20)
    connection.close()

    assert ended
    assert guest.behaviour.requests == []


@pytest.fixture
def forward(server):
    """A guest's connection with one forward registered, and what was admitted through it."""
    guest, admitted = server(answer), queue.SimpleQueue()
    connection = dial(
        guest.address, user="agent", key=guest.keys.user_key, host_key=guest.keys.host_public, timeout_s=5
    )
    connection.accept(13128, admitted.put)
    yield guest.transports[0], admitted
    connection.close()


def opened(transport, kind, to):
    return transport.open_channel(kind, dest_addr=to, src_addr=("127.0.0.1", 50_000), timeout=5)


def test_what_comes_by_the_registered_forward_is_admitted(forward):
    transport, admitted = forward

    channel = opened(transport, "forwarded-tcpip", ("127.0.0.1", 13128))
    held = admitted.get(timeout=20)  # which Paramiko closes when nobody holds it

    assert not channel.closed
    assert not held.closed
    assert admitted.empty()


@pytest.mark.parametrize(
    "to", [("127.0.0.1", 22), ("127.0.0.1", 3128), ("0.0.0.0", 13128), ("", 13128), ("::1", 13128)]
)
def test_what_comes_by_another_forward_is_hung_up_on(forward, to):
    transport, admitted = forward

    said = b""
    with contextlib.suppress(paramiko.SSHException):  # it may be gone before the opener looks
        channel = opened(transport, "forwarded-tcpip", to)
        channel.settimeout(5)
        said = channel.recv(1)

    assert said == b""
    assert admitted.empty()


@pytest.mark.parametrize(
    "kind", ["x11", "auth-agent@openssh.com", "session", "direct-tcpip", "forwarded-streamlocal@openssh.com"]
)
def test_a_registered_forward_opens_no_other_kind_of_channel(forward, kind):
    transport, admitted = forward

    with pytest.raises(paramiko.ChannelException) as refusal:
        opened(transport, kind, ("127.0.0.1", 13128))

    assert refusal.value.code == 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED
    assert admitted.empty()


@pytest.mark.parametrize(
    "kind", ["tcpip-forward", "streamlocal-forward@openssh.com", "hostkeys-00@openssh.com", "no-more-sessions"]
)
def test_a_guest_that_asks_for_something_at_large_gets_no(server, kind):
    answers = []

    def ask(channel):
        answers.append(channel.get_transport().global_request(kind, ("127.0.0.1", 1), wait=True))
        answer(channel)

    with server(ask).connect() as guest:
        guest.run(ANY, timeout_s=20.0)

    assert answers == [None]


def test_output_without_end_stops_at_the_deadline(server):
    def flood(channel):
        while True:
            channel.sendall(b"x" * 65536)

    with server(flood).connect() as guest, pytest.raises(TimedOut):
        guest.run(ANY, timeout_s=1.0)


def test_one_line_without_end_stops_at_the_deadline(server):
    def flood(channel):
        while True:
            channel.sendall_stderr(b"x" * 65536)

    lines = []
    with server(flood).connect() as guest, pytest.raises(TimedOut):
        guest.run(ANY, timeout_s=1.0, on_line=lines.append)

    assert sum(map(len, lines)) < 10_000


def test_no_exit_status_is_a_failed_transport(server):
    with (
        server(lambda channel: channel.close()).connect() as guest,
        pytest.raises(TransportFailed, match="no exit code"),
    ):
        guest.run(ANY, timeout_s=20.0)


def test_an_end_of_output_without_an_end_stops_at_the_deadline(server):
    with server(lambda channel: channel.shutdown_write()).connect() as guest, pytest.raises(TimedOut):
        guest.run(ANY, timeout_s=1.0)


def test_silence_stops_at_the_deadline(server):
    with server().connect() as guest, pytest.raises(TimedOut):
        guest.run(ANY, timeout_s=1.0)


def test_a_connection_that_falls_is_a_failed_transport(server):
    with (
        server(lambda channel: channel.get_transport().close()).connect() as guest,
        pytest.raises(TransportFailed, match="lost"),
    ):
        guest.run(ANY, timeout_s=20.0)


@pytest.mark.parametrize("kind", ["x11", "auth-agent@openssh.com", "session", "forwarded-tcpip", "direct-tcpip"])
def test_a_channel_from_the_guest_is_refused(server, kind):
    answers = []

    def ask(channel):
        try:
            channel.get_transport().open_channel(kind, dest_addr=("127.0.0.1", 1), src_addr=("127.0.0.1", 1), timeout=5)
            answers.append("open")
        except paramiko.ChannelException as refusal:
            answers.append(refusal.code)
        answer(channel)

    with server(ask).connect() as guest:
        guest.run(ANY, timeout_s=20.0)

    assert answers == [1]  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED


def test_a_huge_packet_ends_the_connection(server):
    def announce(channel):
        # under AES-GCM the length goes in the clear
        channel.get_transport().sock.sendall(struct.pack(">I", 0xFFFFFFF0) + os.urandom(64))

    with server(announce).connect() as guest, pytest.raises(TransportFailed):
        guest.run(ANY, timeout_s=20.0)


def test_weak_algorithms_are_not_negotiated(server):
    def weaken(transport):
        options = transport.get_security_options()
        options.ciphers = ("aes128-cbc", "3des-cbc")

    with pytest.raises(Refused, match="algorithm"):
        server(prepare=weaken).connect()


def test_a_server_without_strict_key_exchange_is_refused(server):
    def weaken(transport):
        transport.advertise_strict_kex = False

    weak = server(prepare=weaken)

    with pytest.raises(Refused, match="strict"):
        weak.connect()

    assert weak.behaviour.offered == []


def test_a_flood_beyond_the_window_is_refused(server):
    def flood(channel):
        while True:
            channel.out_window_size = 1 << 30
            channel.send(b"x" * 30000)

    release = threading.Event()
    with server(flood).connect() as guest:
        try:
            with pytest.raises(Refused, match="window"):
                guest.stream(
                    ANY,
                    produce=lambda send: None,
                    out=lambda read: release.wait(),
                    err=lambda read: None,
                    timeout_s=30.0,
                )
        finally:
            release.set()
