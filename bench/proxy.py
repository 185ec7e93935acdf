"""What the wall costs: the proxy against a plain forwarder to the same server, in the same run; and what a guest costs.

Both ends are of this computer and nothing is encrypted, so that the proxy itself is what is measured: each runs in a
process of its own and they alternate. Latency is from connecting until the first byte comes back; the forwarder needs
no CONNECT, so its ratio is the price of being checked. Then 10,000 connections are opened at the proxy, and as many
as it takes are sent a gigabyte each while the guest never reads.

Usage: python bench/proxy.py [ROUNDS]
"""

import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import ssl
import statistics
import sys
import time
from pathlib import Path

from vmkit.host.computer import raise_open_files
from vmkit.network.dial import STREAM_LIMIT
from vmkit.network.policy import Mode, Policy, Rule
from vmkit.network.proxy import Proxy

LIMIT = 0.8
SIZE = 64 << 20
CHUNK = 256 << 10
LATENCIES = 100
OPENED = 10_000
HOST = "server.example"
POLICY = Policy(mode=Mode.STRICT, rules=(Rule(host=HOST),))

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    talk = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST)
    with contextlib.suppress(ssl.SSLWantReadError):
        talk.do_handshake()
    return outgoing.read()


HELLO = client_hello()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with started(server) as upstream, started(proxy, upstream) as wall, started(forwarder, upstream) as plain:
        rates: dict[str, list[float]] = {"wall": [], "plain": []}
        times: dict[str, list[float]] = {"wall": [], "plain": []}
        for _ in range(rounds):
            for name, (port, _pid) in (("plain", plain), ("wall", wall)):
                rates[name].append(asyncio.run(throughput(port, through_wall=name == "wall")))
                times[name].append(asyncio.run(latency(port, through_wall=name == "wall")))
    rate = {name: statistics.median(values) for name, values in rates.items()}
    took = {name: statistics.median(values) for name, values in times.items()}
    pairs = statistics.median(wall / plain for wall, plain in zip(rates["wall"], rates["plain"], strict=True))
    print(f"throughput, medians: {rate['plain']:.0f} MiB/s plain, {rate['wall']:.0f} MiB/s through the wall")
    print(f"  median ratio {pairs:.2f} (at least {LIMIT})")
    print(f"latency, medians: {took['plain'] * 1e3:.2f} ms plain, {took['wall'] * 1e3:.2f} ms through the wall")
    print(f"  the checks cost {(took['wall'] - took['plain']) * 1e3:.2f} ms a connection")
    with started(server) as upstream, started(proxy, upstream) as wall:
        asyncio.run(crowd(*wall))
    with started(server) as upstream, started(proxy, upstream) as wall:
        asyncio.run(deaf(*wall))


@contextlib.contextmanager
def started(role, *arguments: tuple[int, int]):  # noqa: ANN001, ANN201  # a process that says its port
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=play, args=(role, theirs, *(argument[0] for argument in arguments)), daemon=True)
    process.start()
    try:
        yield ours.recv(), process.pid
    finally:
        process.kill()
        process.join()


def play(role, pipe: multiprocessing.connection.Connection, *arguments: int) -> None:  # noqa: ANN001  # as above
    raise_open_files(2 * OPENED)
    asyncio.run(role(pipe, *arguments))


async def listen(pipe: multiprocessing.connection.Connection, serve) -> None:  # noqa: ANN001  # a stream callback
    listener = await asyncio.start_server(serve, "127.0.0.1", 0, limit=STREAM_LIMIT)
    pipe.send(listener.sockets[0].getsockname()[1])
    await listener.serve_forever()


async def server(pipe: multiprocessing.connection.Connection) -> None:
    """Answer one byte at once, then send what was asked for by the byte after the hello."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(len(HELLO))
            writer.write(b"!")
            wanted = int.from_bytes(await reader.readexactly(8))
            for _ in range(wanted // CHUNK):
                writer.write(bytes(CHUNK))
                await writer.drain()
        writer.close()

    await listen(pipe, serve)


async def proxy(pipe: multiprocessing.connection.Connection, upstream: int) -> None:
    async def resolve(_host: str, _port: int) -> list[str]:
        return ["192.0.2.1"]

    async def connect(_address: str, _port: int) -> Streams:
        return await asyncio.open_connection("127.0.0.1", upstream, limit=STREAM_LIMIT)

    wall = Proxy(machine="bench", policy=lambda: POLICY, audit=lambda _: None, resolve=resolve, connect=connect)
    await listen(pipe, wall.serve)


async def forwarder(pipe: multiprocessing.connection.Connection, upstream: int) -> None:
    """Carry bytes both ways and know nothing, as `ssh -R` to the server itself would."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(64 << 10):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", upstream, limit=STREAM_LIMIT)
        await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))

    await listen(pipe, serve)


async def begin(port: int, *, through_wall: bool) -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if through_wall:
        writer.write(b"CONNECT %b:443 HTTP/1.1\r\n\r\n" % HOST.encode())
        await reader.readuntil(b"\r\n\r\n")
    writer.write(HELLO)
    await reader.readexactly(1)
    return reader, writer


async def throughput(port: int, *, through_wall: bool) -> float:
    reader, writer = await begin(port, through_wall=through_wall)
    begun = time.monotonic()
    writer.write(SIZE.to_bytes(8))
    got = 0
    while chunk := await reader.read(CHUNK):
        got += len(chunk)
    if got != SIZE:
        raise SystemExit(f"{got} bytes came instead of {SIZE}")
    writer.close()
    return SIZE / (time.monotonic() - begun) / 2**20


async def latency(port: int, *, through_wall: bool) -> float:
    took = []
    for _ in range(LATENCIES):
        begun = time.monotonic()
        _, writer = await begin(port, through_wall=through_wall)
        took.append(time.monotonic() - begun)
        writer.close()
    return statistics.median(took)


async def crowd(port: int, pid: int) -> None:
    """Open many connections, say nothing, and keep those that stay."""
    before = memory(pid), descriptors(pid)
    opened, most = [], 0
    for number in range(OPENED):
        opened.append(await asyncio.open_connection("127.0.0.1", port))
        if number % 50 == 0:
            most = max(most, descriptors(pid))
    print(
        f"{OPENED} connections that say nothing: at most {most - before[1]} more descriptors, and "
        f"{memory(pid) - before[0]:.0f} MiB more"
    )
    for _, writer in opened:
        writer.transport.abort()


async def deaf(port: int, pid: int) -> None:
    """Ask for a gigabyte on as many connections as are held, and read none of it."""
    before = memory(pid), descriptors(pid)
    opened = [await begin(port, through_wall=True) for _ in range(256)]
    for _, writer in opened:
        writer.transport.pause_reading()
        writer.write((1 << 30).to_bytes(8))
    await asyncio.sleep(8)
    print(
        f"{len(opened)} connections that are sent 1 GiB each and never read: "
        f"{descriptors(pid) - before[1]} more descriptors and {memory(pid) - before[0]:.0f} MiB more"
    )


def memory(pid: int) -> float:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


if __name__ == "__main__":
    raise_open_files(2 * OPENED)
    main()
