"""What a taken-over guest may say to the proxy: nothing of it may reach a server, and all of it ends with a reason."""

import asyncio
import socket

import pytest

from tests.hostile_requests import (
    BAD_ADDRESSES,
    GET_PLAIN,
    HEADS,
    HELLO,
    HOST_PLAIN,
    HOSTS,
    PORTS,
    SAID_IN_TUNNEL,
    TO_GOOD,
    head,
)
from tests.proxyworld import EVIL_ADDRESS, GOOD, GOOD_ADDRESS, HANG_S, PLAIN, World, connect_to, play
from vmkit.network.audit import Kind
from vmkit.network.proxy import Limits

QUICK = Limits(head_s=0.5, hello_s=0.5, resolve_s=0.5, connect_s=0.5, idle_s=0.5, linger_s=0.5)


def assert_refused(world: World, answer: bytes, *, tunnel: bool = False) -> None:
    """Nobody was reached, and the log and the guest were told why."""
    assert world.reached == []
    assert world.received == []
    assert [event.kind for event in world.events] == [Kind.REFUSED]
    assert world.events[0].reason
    assert (world.events[0].reason + world.events[0].host).isprintable()
    if tunnel:
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.partition(b"\r\n\r\n")[2] == bytes([21, 3, 3, 0, 2, 2, 49])
    else:
        assert answer[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")
        said = answer.partition(b"\r\n\r\n")[2].decode("ascii")
        assert said.startswith("vmkit: ")
        assert said[:-1].isprintable()
        assert said.endswith("\n")


def scene(world: World, *pieces: bytes, tunnel: bool = False) -> None:
    async def run() -> None:
        async with world.running() as proxy:
            answer = await proxy.ask(*pieces)
            assert_refused(world, answer, tunnel=tunnel)

    play(run())


def test_there_are_enough_of_them() -> None:
    assert len(HOSTS) + len(PORTS) + len(HEADS) + len(BAD_ADDRESSES) + len(SAID_IN_TUNNEL) >= 150


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_host(host: bytes) -> None:
    target = host + b":443"

    scene(World(limits=QUICK), head(b"CONNECT " + target + b" HTTP/1.1", b"Host: " + target) + HELLO)


@pytest.mark.parametrize("port", PORTS, ids=lambda port: repr(port[:20]))
def test_port(port: bytes) -> None:
    target = b"good.example:" + port

    scene(World(limits=QUICK), head(b"CONNECT " + target + b" HTTP/1.1", b"Host: " + target) + HELLO)


@pytest.mark.parametrize("name", HEADS)
def test_head(name: str) -> None:
    scene(World(limits=QUICK), HEADS[name] + HELLO)


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_address_behind_an_allowed_name(address: str) -> None:
    scene(World(limits=QUICK, addresses={GOOD: [address]}), connect_to(GOOD) + HELLO)


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1"])
def test_one_bad_address_among_good_ones(address: str) -> None:
    scene(World(limits=QUICK, addresses={GOOD: [GOOD_ADDRESS, address]}), connect_to(GOOD) + HELLO)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1"])
def test_address_behind_a_plain_name(address: str) -> None:
    scene(World(limits=QUICK, addresses={PLAIN: [address]}), head(GET_PLAIN, HOST_PLAIN))


@pytest.mark.parametrize("name", SAID_IN_TUNNEL)
def test_said_in_tunnel(name: str) -> None:
    scene(World(limits=QUICK), connect_to(GOOD), SAID_IN_TUNNEL[name], tunnel=True)


@pytest.mark.parametrize("name", ["second-connect", "plain-http", "sni-evil", "two-names"])
def test_said_in_tunnel_before_it_is_open(name: str) -> None:
    scene(World(limits=QUICK), connect_to(GOOD) + SAID_IN_TUNNEL[name], tunnel=True)


def test_name_that_moves_between_check_and_connection() -> None:
    world = World()
    answers = [[GOOD_ADDRESS], ["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        world.looked_up.append(host)
        return answers.pop(0)

    async def run() -> None:
        async with world.running(resolve=rebinding) as proxy:
            reader, _ = await proxy.tunnel()
            await reader.readexactly(len(HELLO))

    play(run())

    assert world.looked_up == [GOOD]
    assert world.reached == [(GOOD_ADDRESS, 443)]


def test_second_connect_inside_an_open_tunnel_stays_inside() -> None:
    world = World()

    async def run() -> None:
        async with world.running() as proxy:
            reader, writer = await proxy.tunnel(hello=HELLO)
            writer.write(connect_to("evil.example"))
            await reader.readexactly(len(HELLO) + len(connect_to("evil.example")))

    play(run())

    assert world.reached == [(GOOD_ADDRESS, 443)]
    assert EVIL_ADDRESS not in dict(world.reached)


def test_second_request_after_a_plain_one_goes_nowhere() -> None:
    world = World()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        world.received.append(await reader.read(1 << 16) if not reader.at_eof() else b"")
        writer.close()

    world.handler = answer
    world.limits = QUICK
    second = head(b"GET http://evil.example/ HTTP/1.1", b"Host: evil.example")

    async def run() -> None:
        async with world.running() as proxy:
            got = await proxy.ask(head(GET_PLAIN, HOST_PLAIN) + second + connect_to("evil.example"))
            assert got.endswith(b"ok")

    play(run())

    assert world.reached == [(GOOD_ADDRESS, 80)]
    assert b"evil" not in b"".join(world.received)


@pytest.mark.parametrize("fault", [socket.gaierror(-2, "x"), UnicodeError("x"), RuntimeError("x"), TimeoutError()])
def test_look_up_that_fails(fault: Exception) -> None:
    world = World(limits=QUICK)

    async def broken(host: str, port: int) -> list[str]:
        raise fault

    async def run() -> None:
        async with world.running(resolve=broken) as proxy:
            assert_refused(world, await proxy.ask(connect_to(GOOD) + HELLO))

    play(run())


def test_look_up_that_hangs() -> None:
    world = World(limits=QUICK)

    async def hanging(host: str, port: int) -> list[str]:
        await asyncio.sleep(HANG_S)
        return [GOOD_ADDRESS]

    async def run() -> None:
        async with world.running(resolve=hanging) as proxy:
            assert_refused(world, await proxy.ask(connect_to(GOOD) + HELLO))

    play(run())


def test_policy_that_fails() -> None:
    world = World(limits=QUICK)

    def broken() -> None:
        raise ValueError("a bad file")

    async def run() -> None:
        async with world.running() as proxy:
            proxy.proxy.policy = broken
            assert_refused(world, await proxy.ask(connect_to(GOOD) + HELLO))

    play(run())


def test_log_that_cannot_be_written() -> None:
    world = World(limits=QUICK)

    def full(event: object) -> None:
        raise OSError(28, "No space left on device")

    async def run() -> None:
        async with world.running() as proxy:
            proxy.proxy.audit = full
            reader, writer = await proxy.open()
            writer.write(connect_to(GOOD) + HELLO)
            assert (await reader.read()).endswith(bytes([21, 3, 3, 0, 2, 2, 49]))

    play(run())

    assert world.received == []  # connected to, and closed before a byte was said


STOPS = [b"", b"C", b"CONNECT good.example:443 HTTP/1.1\r\nHost: good", head(TO_GOOD) + HELLO[:40]]


@pytest.mark.parametrize("sent", STOPS, ids=["nothing", "one byte", "a header", "a hello"])
def test_guest_that_hangs_up_or_stops_in_the_middle(sent: bytes) -> None:
    for hang_up in (True, False):
        world = World(limits=QUICK)

        async def run(world: World = world, *, hang_up: bool = hang_up) -> None:
            async with world.running() as proxy:
                reader, writer = await proxy.open()
                writer.write(sent)
                if hang_up:
                    writer.write_eof()
                assert_refused(world, await reader.read(), tunnel=sent.endswith(HELLO[:40]))

        play(run())


def test_guest_that_says_one_byte_at_a_time_is_cut_off() -> None:
    world = World(limits=QUICK)

    async def run() -> None:
        async with world.running() as proxy:
            reader, writer = await proxy.open()
            answer = asyncio.create_task(reader.read())
            for byte in b"CONNECT good.example:443 HTTP/1.1\r\nX-Slow: " + b"y" * 400:
                if answer.done():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)
            assert_refused(world, await answer)
            assert world.events[0].reason == "the request did not come in time"

    play(run())
