"""The proxy with honest programs: what is allowed works, what is not says why, and nothing costs more than its share."""

import asyncio
import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hostile_requests import GET_PLAIN, HOST_PLAIN, head
from tests.proxyworld import (
    GOOD,
    GOOD_ADDRESS,
    PLAIN,
    POLICY,
    Running,
    World,
    client_hello,
    connect_to,
    fragments,
    play,
    read_all,
    until,
)
from tests.tlsserver import TlsServer
from vmkit.network.audit import Kind
from vmkit.network.policy import Rule
from vmkit.network.proxy import Limits

CURL = shutil.which("curl")
HELLO = client_hello()

needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[TlsServer]:
    (tmp_path / "root").mkdir()
    with TlsServer(tmp_path / "root", tmp_path, name=GOOD) as server:
        yield server


async def curl(proxy: Running, *words: str) -> tuple[int, bytes, str]:
    process = await asyncio.create_subprocess_exec(
        CURL, "-q", "-sS", "--proxy", f"http://127.0.0.1:{proxy.port}", *words,
        env={"PATH": os.environ["PATH"]}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out, err.decode()


@needs_curl
def test_curl_fetches_50_mib_unchanged(publisher: TlsServer) -> None:
    content = random.Random(5).randbytes(50 << 20)
    (publisher.root / "big").write_bytes(content)
    world = World(server_port=publisher.port)

    async def run() -> None:
        async with world.running() as proxy:
            code, out, err = await curl(proxy, "--cacert", str(publisher.ca_file), f"https://{GOOD}/big")
            assert (code, err) == (0, "")
            assert hashlib.sha256(out).digest() == hashlib.sha256(content).digest()
            await until(lambda: len(world.events) == 2)

    play(run())

    opened, closed = world.events
    assert (opened.kind, opened.host, opened.port, opened.rule) == (Kind.OPENED, GOOD, 443, GOOD)
    assert (closed.kind, closed.reason) == (Kind.CLOSED, "")
    assert closed.bytes_down > len(content)
    assert closed.bytes_up >= len(HELLO) // 2
    assert world.looked_up == [GOOD]
    assert world.reached == [(GOOD_ADDRESS, 443)]


@needs_curl
def test_curl_is_told_why_and_what_to_do() -> None:
    world = World()

    async def run() -> None:
        async with world.running() as proxy:
            code, _, err = await curl(proxy, "-v", "https://evil.test/")
            assert code == 56
            assert (
                '< X-Vmkit-Reason: vmkit: "evil.test" is not in the policy; to allow it: vmkit net allow kiro ev' in err
            )
            code, out, _ = await curl(proxy, "http://good.exampel/")
            assert code == 0
            assert out.decode() == (
                'vmkit: "good.exampel" is not in the policy; the nearest name that is allowed: "good.example"; '
                "to allow it: vmkit net allow kiro good.exampel:80\n"
            )

    play(run())

    assert world.reached == []


@needs_curl
@pytest.mark.parametrize("options", [[], ["--head"]])
def test_curl_fetches_plain_http_of_a_named_host(options: list[str]) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + (b"" if options else b"hello"))
        writer.close()

    world = World(handler=answer)

    async def run() -> None:
        async with world.running() as proxy:
            headers = ["-H", "Connection: x-drop", "-H", "X-Drop: 1", "-H", "X-Keep: 2", "-H", "TE: trailers"]
            headers += ["-H", "Upgrade: websocket", "-H", "Proxy-Authorization: Basic eA==", "-A", "test"]
            code, out, err = await curl(proxy, *options, *headers, f"http://{PLAIN}/debian?a=b")
            assert (code, err) == (0, "")
            assert out.endswith(b"" if options else b"hello")

    play(run())

    method = b"HEAD" if options else b"GET"
    assert world.reached == [(GOOD_ADDRESS, 80)]
    assert world.received == [
        method + b" /debian?a=b HTTP/1.1\r\nhost: plain.example\r\nuser-agent: test\r\naccept: */*\r\n"
        b"x-keep: 2\r\nconnection: close\r\n\r\n"
    ]


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("split", [1, 50, 1 << 20])
def test_hello_in_fragments_arrives_as_it_was_sent(size: int, split: int) -> None:
    world = World()
    hello = fragments(HELLO, size)

    async def run() -> None:
        async with world.running() as proxy:
            reader, writer = await proxy.tunnel(hello=hello[:split])
            for at in range(split, len(hello), max(split, 50)):
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(hello[at : at + max(split, 50)])
            assert await reader.readexactly(len(hello)) == hello

    play(run())


@pytest.mark.parametrize("host", ["GOOD.Example", "a.wild.example", "A.WILD.example"])
def test_case_and_wildcards_are_the_policys(host: str) -> None:
    world = World()

    async def run() -> None:
        async with world.running() as proxy:
            hello = client_hello(host)
            reader, _ = await proxy.tunnel(host, hello)
            assert await reader.readexactly(len(hello)) == hello

    play(run())

    assert world.events[0].host == host.lower()


@pytest.mark.parametrize("line", ["CONNECT good.example:443 HTTP/1.0", "CONNECT good.example:443 HTTP/1.1"])
@pytest.mark.parametrize("header", [[], ["Host: good.example"], ["host:  Good.Example:443 ", "User-Agent: x"]])
def test_the_ways_programs_ask(line: str, header: list[str]) -> None:
    world = World()

    async def run() -> None:
        async with world.running() as proxy:
            reader, writer = await proxy.open()
            writer.write("\r\n".join([line, *header, "", ""]).encode() + HELLO)  # in one go, as some do
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
            assert await reader.readexactly(len(HELLO)) == HELLO

    play(run())


def test_nothing_is_connected_to_before_the_hello() -> None:
    world = World()

    async def run() -> None:
        async with world.running() as proxy:
            reader, writer = await proxy.open()
            writer.write(connect_to(GOOD))
            await reader.readuntil(b"\r\n\r\n")
            assert world.reached == []
            writer.write(HELLO)
            await reader.readexactly(len(HELLO))
            assert world.reached == [(GOOD_ADDRESS, 443)]

    play(run())


def test_next_address_when_one_does_not_answer() -> None:
    world = World(addresses={GOOD: ["192.0.2.9", "192.0.2.8", GOOD_ADDRESS]}, limits=Limits(connect_s=0.6))
    tried = []

    async def connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tried.append(address)
        if address == "192.0.2.9":
            raise ConnectionRefusedError
        if address == "192.0.2.8":
            await asyncio.sleep(20)
        return await world.connect(address, port)

    async def run() -> None:
        async with world.running(connect=connect) as proxy:
            reader, _ = await proxy.tunnel()
            assert await reader.readexactly(len(HELLO)) or True

    play(run())

    assert tried == ["192.0.2.9", "192.0.2.8", GOOD_ADDRESS]


def test_server_that_does_not_answer_is_said() -> None:
    world = World()

    async def connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise ConnectionRefusedError

    async def run() -> None:
        async with world.running(connect=connect) as proxy:
            assert await proxy.ask(connect_to(GOOD) + HELLO)
            answer = await proxy.ask(head(GET_PLAIN, HOST_PLAIN))
            assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
            assert answer.endswith(b"\r\n\r\nvmkit: the server does not answer\n")

    play(run())

    assert [event.reason for event in world.events] == ["the server does not answer"] * 2


def test_guest_may_stop_sending_and_still_be_answered() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rest = await reader.read()
        writer.write(b"got %d" % len(rest))
        writer.close()

    world = World(handler=answer)

    async def run() -> None:
        async with world.running() as proxy:
            reader, writer = await proxy.tunnel(hello=HELLO)
            await until(lambda: bool(world.received))
            writer.write(bytes(100_000))
            writer.write_eof()
            assert await reader.read() == b"got 100000"

    play(run())


def test_200_connections_at_once() -> None:
    world = World()

    async def run() -> None:
        async with world.running() as proxy:
            streams = [await proxy.tunnel(hello=HELLO) for _ in range(200)]
            for reader, _ in streams:
                await reader.readexactly(len(HELLO))
            assert proxy.proxy.connections == 200
            said = [random.Random(number).randbytes(20_000) for number in range(200)]
            for (_, writer), content in zip(streams, said, strict=True):
                writer.write(content)
            for (reader, writer), content in zip(streams, said, strict=True):
                assert await reader.readexactly(len(content)) == content
                writer.close()
            await until(lambda: proxy.proxy.connections == 0)

    play(run())


def test_one_connection_too_many_is_turned_away_at_once() -> None:
    world = World(limits=Limits(connections=3))

    async def run() -> None:
        async with world.running() as proxy:
            held = [await proxy.tunnel() for _ in range(3)]
            await until(lambda: len(world.received) == 3)
            answer = await proxy.ask(b"")
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert answer.endswith(b"vmkit: more than 3 connections at once\n")
            held[0][1].transport.abort()
            await until(lambda: proxy.proxy.connections == 2)
            await proxy.tunnel()
            await until(lambda: len(world.received) == 4)

    play(run())


def test_a_thousand_connections_cost_no_more_descriptors_than_allowed() -> None:
    world = World(limits=Limits(connections=20))
    open_files = Path("/proc/self/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")

    async def run() -> None:
        async with world.running() as proxy:
            before = len(list(open_files.iterdir()))
            held = []
            for _ in range(1000):
                held.append(await proxy.open())
                assert proxy.proxy.connections <= 20
            await until(lambda: len(world.events) == 980)
            mine = len(held)
            assert len(list(open_files.iterdir())) <= before + mine + 20
            for _, writer in held:
                writer.transport.abort()
            await until(lambda: proxy.proxy.connections == 0)
            await until(lambda: len(list(open_files.iterdir())) <= before)

    play(run())


def test_guest_that_never_reads_stops_the_server_and_is_cut_off() -> None:
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(bytes(64 << 10))
            await writer.drain()
            sent += 64 << 10

    world = World(handler=flood, limits=Limits(idle_s=1))

    async def run() -> None:
        async with world.running() as proxy:
            _reader, writer = await proxy.tunnel()
            writer.transport.pause_reading()
            await until(lambda: len(world.events) == 2)
            assert proxy.proxy.connections == 0

    play(run())

    assert world.events[1].reason == "nothing moved for 1 s"
    assert 0 < sent < 64 << 20  # what sockets and streams hold; without back-pressure it would have no end


def test_idle_connection_is_closed() -> None:
    world = World(limits=Limits(idle_s=0.2))

    async def run() -> None:
        async with world.running() as proxy:
            reader, _ = await proxy.tunnel()
            await read_all(reader)
            await until(lambda: len(world.events) == 2)

    play(run())

    assert world.events[1].reason == "nothing moved for 0.2 s"


def test_connection_ends_at_its_limit_of_bytes() -> None:
    world = World(limits=Limits(connection_bytes=100_000))

    async def run() -> None:
        async with world.running() as proxy:
            reader, writer = await proxy.tunnel()
            writer.write(bytes(90_000))
            await read_all(reader)
            await until(lambda: len(world.events) == 2)

    play(run())

    assert world.events[1].reason == "the limit of bytes is reached"


def test_day_has_a_limit_and_the_next_day_another() -> None:
    world = World(limits=Limits(day_bytes=2 << 20))

    async def run() -> None:
        async with world.running() as proxy:
            reader, writer = await proxy.tunnel()
            writer.write(bytes(2 << 20))
            await read_all(reader)
            assert b"the 2 MiB of this day are used up" in await proxy.ask(connect_to(GOOD))
            world.now += 86400
            reader, _ = await proxy.tunnel(hello=HELLO)
            assert await reader.readexactly(len(HELLO)) == HELLO

    play(run())


def test_connection_ends_when_its_rule_does() -> None:
    for change in ("denied", "expired"):
        world = World(limits=Limits(check_every_s=0.05))
        world.policy = replace(POLICY, rules=(Rule(host=GOOD, expires=world.now + 60),))

        async def run(world: World = world, change: str = change) -> None:
            async with world.running() as proxy:
                reader, _ = await proxy.tunnel(hello=HELLO)
                await reader.readexactly(len(HELLO))
                if change == "denied":
                    world.policy = replace(world.policy, denied=(GOOD,))
                else:
                    world.now += 61
                await read_all(reader)
                await until(lambda: len(world.events) == 2)

        play(run())

        assert world.events[1].reason.startswith("no longer allowed: ")


def test_policy_that_fails_meanwhile_ends_the_connection() -> None:
    world = World(limits=Limits(check_every_s=0.05))

    async def run() -> None:
        async with world.running() as proxy:
            reader, _ = await proxy.tunnel(hello=HELLO)
            await reader.readexactly(len(HELLO))
            proxy.proxy.policy = dict  # has no decide()
            await read_all(reader)
            await until(lambda: len(world.events) == 2)

    play(run())

    assert world.events[1].reason == "the proxy failed: AttributeError"


def test_policy_that_changes_during_the_hello_counts() -> None:
    world = World()

    async def run() -> None:
        async with world.running() as proxy:
            reader, writer = await proxy.open()
            writer.write(connect_to(GOOD))
            await reader.readuntil(b"\r\n\r\n")
            world.policy = replace(POLICY, denied=(GOOD,))
            writer.write(HELLO)
            await read_all(reader)

    play(run())

    assert world.reached == []
    assert [event.kind for event in world.events] == [Kind.REFUSED]


def test_stopping_the_proxy_closes_both_sides() -> None:
    world = World()
    ended = []

    async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        ended.append(await read_all(reader))

    world.handler = wait

    async def run() -> None:
        async with world.running() as proxy:
            before = asyncio.all_tasks()
            reader, _ = await proxy.tunnel()
            await until(lambda: bool(world.received))
            [task] = [task for task in asyncio.all_tasks() - before if task.get_coro().__name__ == "serve"]
            task.cancel()
            await read_all(reader)
            await until(lambda: bool(ended))

    play(run())

    assert world.events[-1].reason == "the proxy was stopped"
