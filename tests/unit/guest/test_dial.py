import contextlib
import socket
import threading
import time

import pytest

from vmkit.drivers.base import Address
from vmkit.errors import TransportFailed
from vmkit.guest.dial import dial


@contextlib.contextmanager
def answering(talk):
    """A server that calls `talk(connection)` for each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        talk(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield Address(host="127.0.0.1", port=listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def call(address, tmp_path, **more):
    return dial(address, user="agent", key=tmp_path / "key", host_key="ssh-ed25519 AAAA", **{"timeout_s": 1.0, **more})


def endless(piece):
    def talk(connection):
        while True:
            connection.sendall(piece)
            time.sleep(0.001)

    return talk


def dribble(connection):
    for _ in range(100):
        connection.sendall(b"S")
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        (lambda connection: connection.recv(1), "said nothing"),
        (lambda connection: connection.close(), "hung up"),
        (lambda connection: connection.sendall(b"HTTP/1.1 400 Bad\r\n\r\n"), "no SSH server"),
        (endless(b"SSH-2.0-" * 100), "too long"),
        (endless(b"welcome\r\n"), "no SSH server"),
        (dribble, "no SSH server"),
        (lambda connection: (connection.sendall(b"SSH-2.0-"), connection.recv(1)), "said nothing"),
    ],
    ids=["silent", "hangs up", "http", "endless line", "endless lines", "dribble", "half a banner"],
)
def test_what_is_no_sshd_is_a_failed_transport(tmp_path, talk, message):
    with answering(talk) as address, pytest.raises(TransportFailed, match=message):
        call(address, tmp_path)


def test_nobody_listening_is_a_failed_transport(tmp_path):
    with pytest.raises(TransportFailed, match="cannot be reached"):
        call(Address(host="127.0.0.1", port=1), tmp_path)


def test_waiting_for_the_banner_can_be_given_up(tmp_path):
    with answering(lambda connection: connection.recv(1)) as address, pytest.raises(TransportFailed, match="stopped"):
        call(address, tmp_path, timeout_s=60.0, give_up=lambda: True)


def test_text_from_the_port_is_shown_printable(tmp_path):
    with (
        answering(lambda connection: connection.sendall(b"\x1b]0;evil\x07")) as address,
        pytest.raises(TransportFailed) as caught,
    ):
        call(address, tmp_path)

    assert "\x1b" not in caught.value.detail
