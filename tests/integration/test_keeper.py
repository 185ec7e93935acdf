"""The keeper over a real sshd: what commands borrow, what dies with it, and what a guest can cost it."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keeperworld import Kept, ask_door, keeper_inside, kept_machine, the_door
from tests.proxyworld import client_hello
from tests.sshd import until
from vmkit.errors import Refused
from vmkit.guest.base import Command
from vmkit.guest.keys import make_keys
from vmkit.guest.ssh import SshGuest
from vmkit.network.door import DOOR_PORT

GOOD = "good.example"
POLICY = f'mode = "strict"\n\n[[allow]]\nhost = "{GOOD}"\n'
CONNECT = f"CONNECT {GOOD}:443 HTTP/1.1\r\nHost: {GOOD}:443\r\n\r\n".encode()
HELLO = client_hello(GOOD)
BLOCK = bytes(1 << 20)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    with kept_machine(tmp_path) as kept:
        yield kept


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Kept]:
    with the_door(), kept_machine(tmp_path, egress="strict", policy=POLICY) as kept:
        yield kept


class Upstream:
    """Stands for every server: greets each connection, holds it, and counts; or sends without end."""

    def __init__(self) -> None:
        self.endless = False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self.listener.accept()
            except OSError:
                return
            self.held.append(connected)
            connected.sendall(b"hello from the server")
            if self.endless:
                threading.Thread(target=self._send, args=(connected,), daemon=True).start()

    def _send(self, connected: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected.sendall(BLOCK)

    def close(self) -> None:
        self.listener.close()
        for connected in self.held:
            connected.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


def leading_to(upstream: Upstream) -> dict[str, object]:
    async def resolve(host: str, port: int) -> list[str]:
        return ["203.0.113.9"]

    async def connect(address: str, port: int):
        return await asyncio.open_connection("127.0.0.1", upstream.port, limit=32 << 10)

    return {"resolve": resolve, "connect": connect}


def keeper_pid(kept: Kept) -> int:
    status = kept.keeper.status()
    assert status
    return int(str(status["pid"]))


def test_commands_share_one_connection_of_a_process_that_outlives_them(kept: Kept) -> None:
    first = kept.vmkit("exec", "kept", "--", "sh", "-c", "echo $PPID; cat; echo err >&2; exit 7", stdin=b"in")
    assert first.returncode == 7, first.stderr
    pid = keeper_pid(kept)
    second = kept.vmkit("exec", "kept", "--", "true")

    assert (first.returncode, first.stderr, second.returncode) == (7, b"err\n", 0)
    assert first.stdout.endswith(b"\nin")
    assert keeper_pid(kept) == pid
    assert kept.sshd.log.read_text().count("Accepted publickey") == 1


def test_a_killed_keeper_is_back_with_the_next_command(kept: Kept) -> None:
    kept.vmkit("exec", "kept", "--", "true")
    killed = keeper_pid(kept)
    os.kill(killed, signal.SIGKILL)
    until(lambda: not kept.keeper.is_up)

    after = kept.vmkit("exec", "kept", "--", "true")
    assert after.returncode == 0, after.stderr
    assert keeper_pid(kept) != killed


def test_a_keeper_that_hangs_is_replaced(kept: Kept) -> None:
    kept.vmkit("exec", "kept", "--", "true")
    hung = keeper_pid(kept)
    os.kill(hung, signal.SIGSTOP)

    assert kept.vmkit("exec", "kept", "--", "true").returncode == 0
    assert keeper_pid(kept) != hung


def test_a_command_whose_keeper_dies_says_that_the_connection_was_lost(kept: Kept) -> None:
    connection = kept.reach()
    channel = connection.start(Command("sleep", "60").wire())
    os.kill(keeper_pid(kept), signal.SIGKILL)

    assert channel.recv(100) == b""
    channel.status_event.wait(20)
    assert channel.exit_status == -1
    assert not connection.is_alive()


def test_the_keeper_ends_when_the_machine_has_stopped(kept: Kept) -> None:
    kept.reach()
    kept.sshd.drop_connections()
    kept.sshd.process.terminate()

    until(lambda: not kept.keeper.is_up, seconds=30)

    assert "the machine has stopped" in kept.keeper.log.read_text()


def test_the_keeper_reaches_a_guest_again_whose_connection_broke(kept: Kept) -> None:
    kept.reach()
    kept.sshd.drop_connections()

    until(lambda: kept.sshd.log.read_text().count("Accepted publickey") == 2)
    until(lambda: (kept.keeper.status() or {}).get("ready"))


def test_a_renewed_connection_is_another_of_the_same_keeper(kept: Kept) -> None:
    kept.reach()
    pid = keeper_pid(kept)

    kept.keeper.renew()
    kept.reach()

    assert kept.sshd.log.read_text().count("Accepted publickey") == 2
    assert keeper_pid(kept) == pid


def test_what_runs_while_a_connection_is_renewed_runs_on(closed: Kept, upstream: Upstream) -> None:
    with keeper_inside(closed, **leading_to(upstream)):
        running = closed.reach().start(Command("sh", "-c", "echo $PPID; cat").wire())
        first = running.recv(100)

        closed.keeper.renew()
        after = closed.reach().start(Command("sh", "-c", "echo $PPID").wire())
        assert after.recv(100) not in {first, b""}
        assert ask_door(CONNECT, then=HELLO[:-1]).startswith(b"HTTP/1.1 200")  # the door has moved

        running.sendall(b"still here")
        running.shutdown_write()
        assert running.recv(100) == b"still here"
        running.status_event.wait(20)
        assert running.exit_status == 0
        running.close()
        until(lambda: closed.sshd.log.read_text().count("Transferred: sent") == 1)


def test_a_guest_with_another_host_key_is_refused_and_nothing_is_lent(kept: Kept, tmp_path: Path) -> None:
    other = make_keys(tmp_path / "other")

    with pytest.raises(Refused, match="host key"):
        kept.keeper.dial(
            kept.sshd.address,
            user=kept.sshd.user,
            key=kept.sshd.keys.user_key,
            host_key=other.host_public,
            timeout_s=20,
        )

    assert not (kept.keeper.status() or {}).get("ready")


def test_nobody_else_can_talk_to_it(kept: Kept) -> None:
    kept.reach()

    assert kept.keeper.socket.stat().st_mode & 0o777 == 0o600
    assert kept.keeper.socket.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "sent", [b"", b"\n", b"[]\n", b'{"op": "start"}\n', b'{"op": 5}\n', b'{"op": "dial"}\n', b"{" * 99]
)
def test_nonsense_harms_no_other(kept: Kept, sent: bytes) -> None:
    kept.reach()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(kept.keeper.socket))
        client.sendall(sent)

    after = kept.vmkit("exec", "kept", "--", "true")
    assert after.returncode == 0, after.stderr


def test_a_guest_reaches_what_its_policy_names_and_nothing_else(closed: Kept, upstream: Upstream) -> None:
    with keeper_inside(closed, **leading_to(upstream)):
        closed.reach()
        good = ask_door(CONNECT, then=HELLO[:-1])  # its last byte is missing: nothing goes on
        assert upstream.held == []
        evil = ask_door(CONNECT.replace(b"good", b"evil"))

    assert good.startswith(b"HTTP/1.1 200")
    assert evil.startswith(b"HTTP/1.1 403")
    assert b"vmkit net allow kept evil.example" in evil
    assert upstream.held == []


def test_a_change_of_the_policy_reaches_the_guest_at_once(closed: Kept) -> None:
    closed.reach()
    before = ask_door(CONNECT.replace(b"good", b"evil"))
    changed = closed.vmkit("net", "allow", "kept", "evil.example")
    after = ask_door(CONNECT.replace(b"good", b"evil"))

    assert before.startswith(b"HTTP/1.1 403")
    assert changed.returncode == 0, changed.stderr
    assert b"has no address" in after


def test_a_dead_keeper_leaves_the_guest_nothing(closed: Kept) -> None:
    closed.vmkit("exec", "kept", "--", "true")
    assert ask_door(CONNECT.replace(b"good", b"evil")).startswith(b"HTTP/1.1 403")

    os.kill(keeper_pid(closed), signal.SIGKILL)

    until(lambda: not reaches_door())
    closed.vmkit("exec", "kept", "--", "true")
    until(reaches_door, seconds=5)


def test_an_open_machine_has_no_door(tmp_path: Path) -> None:
    with the_door(), kept_machine(tmp_path) as kept:
        kept.reach()
        assert not reaches_door()


def test_a_taken_port_is_said_and_taken_as_soon_as_it_is_free(closed: Kept) -> None:
    with socket.create_server(("127.0.0.1", DOOR_PORT)):
        closed.reach()
        assert "forward" in str((closed.keeper.status() or {})["closed_door"])

    until(lambda: (closed.keeper.status() or {})["door"])


def test_two_hundred_connections_are_held_at_once(closed: Kept, upstream: Upstream) -> None:
    with keeper_inside(closed, **leading_to(upstream)) as _:
        closed.reach()
        guests = [open_tunnel() for _ in range(200)]
        greeted = [guest.recv(100) for guest in guests]
        held = len(upstream.held)
        for guest in guests:
            guest.close()

    assert greeted == [b"hello from the server"] * 200
    assert held == 200


def test_guests_that_never_read_cost_bounded_memory(closed: Kept, upstream: Upstream) -> None:
    upstream.endless = True
    with keeper_inside(closed, **leading_to(upstream)):
        closed.reach()
        before, _ = cost(os.getpid())
        guests = [open_tunnel() for _ in range(100)]
        time.sleep(5)  # what can be sent ahead is sent by then
        after, files = cost(os.getpid())
        alive = SshGuest(closed.reach()).run(Command("echo", "alive")).text
        for guest in guests:
            guest.close()
    print(f"100 connections that never read: {after - before} MiB, {files} open files")

    assert after - before < 200
    assert alive == "alive\n"


@pytest.mark.slow
def test_ten_thousand_connections_cost_bounded_memory_and_files(closed: Kept) -> None:
    closed.reach()
    pid = keeper_pid(closed)
    before = cost(pid)
    most = before
    for _ in range(20):
        guests = []
        for _ in range(500):
            guest = socket.create_connection(("127.0.0.1", DOOR_PORT), timeout=20)
            guest.sendall(CONNECT[:20])  # and no more: it waits
            guests.append(guest)
        most = max(most, cost(pid))
        for guest in guests:
            guest.close()
    print(f"memory in MiB and open files: {before} before, {most} at most, {cost(pid)} after")

    assert most[0] - before[0] < 200
    assert most[1] < 1500
    until(lambda: int(str((closed.keeper.status() or {})["connections"])) == 0)
    assert SshGuest(closed.reach()).run(Command("echo", "alive")).text == "alive\n"


def open_tunnel() -> socket.socket:
    guest = socket.create_connection(("127.0.0.1", DOOR_PORT), timeout=20)
    guest.sendall(CONNECT)
    assert guest.recv(4096).startswith(b"HTTP/1.1 200")
    guest.sendall(HELLO)
    return guest


def reaches_door() -> bool:
    try:
        socket.create_connection(("127.0.0.1", DOOR_PORT), timeout=5).close()
    except OSError:
        return False
    return True


def cost(pid: int) -> tuple[int, int]:
    """Resident memory in MiB, and open files."""
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() >> 20
    return resident, len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives root up")
def test_the_keeper_of_root_is_not_root(kept: Kept) -> None:
    kept.reach()

    status = Path(f"/proc/{keeper_pid(kept)}/status").read_text()
    users = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert "0" not in users
    assert "NoNewPrivs:\t1" in status
