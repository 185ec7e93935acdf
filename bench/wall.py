"""What the wall costs a real guest: its door and the proxy, against `ssh -R` to a plain forwarder; one run.

Both lead from a port of the guest's loopback through SSH to the same server here, take the same CONNECT, and alternate;
the plain one checks nothing. TLS is a recorded hello followed by plain bytes, since a guest's own encryption would be
most of what is measured. Times are taken in the guest.

Usage: python -m bench.wall [ROUNDS]
"""

import asyncio
import contextlib
import multiprocessing
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator

from bench.guestworld import NAME, BenchGuest, bench_guest
from bench.proxy import CHUNK, HELLO, HOST
from tests.closedworld import closed_world
from vmkit.network.dial import STREAM_LIMIT
from vmkit.network.door import DOOR_PORT

AT_LEAST = 0.8
SIZE = 16 << 20
CONNECTS = 20
PLAIN_HOST, PLAIN_PORT, PLAIN_DOOR = "plain.example", 8080, DOOR_PORT + 1

# Prints the seconds from connecting to the first byte back, of each connection, then those that the bytes take.
SCRIPT = """
import socket, sys, time
port, hello, size, connects = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
def begin():
    began = time.monotonic()
    peer = socket.create_connection(("127.0.0.1", port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(b"CONNECT HOST:443 HTTP/1.1\\r\\nHost: HOST:443\\r\\n\\r\\n")
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += peer.recv(4096) or sys.exit(f"it hung up: {head}")
    head.startswith(b"HTTP/1.1 200 ") or sys.exit(str(head))
    peer.sendall(hello)
    peer.recv(1) or sys.exit("no answer")
    return peer, time.monotonic() - began
for _ in range(connects):
    print(begin()[1])
peer, _ = begin()
began, got, block = time.monotonic(), 0, bytearray(1 << 18)
peer.sendall(size.to_bytes(8, "big"))
while count := peer.recv_into(block):
    got += count
got == size or sys.exit(f"{got} bytes came instead of {size}")
print(time.monotonic() - began)
""".replace("HOST", HOST)
PERMIT = f"""
set -eu
echo 'PermitListen 127.0.0.1:{DOOR_PORT} 127.0.0.1:{PLAIN_DOOR}' >/etc/ssh/sshd_config.d/00-a-bench.conf
systemctl reload ssh
"""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    times: dict[str, list[float]] = {"wall": [], "plain": []}
    rates: dict[str, list[float]] = {"wall": [], "plain": []}
    with (
        closed_world([HOST, PLAIN_HOST]) as world,
        served(world.listen(HOST), world.listen(PLAIN_HOST, PLAIN_PORT)),
        bench_guest("--egress", "strict", enter=world.enter) as guest,
    ):
        subprocess.run([*guest.vmkit, "net", "allow", NAME, HOST], check=True)
        guest.run("sudo", "sh", "-c", PERMIT)
        with forwarded(guest):
            for number in range(rounds + 1):
                for name, port in (("plain", PLAIN_DOOR), ("wall", DOOR_PORT)):
                    latency, rate = measured(guest, port)
                    if number:  # the first round warms up
                        times[name].append(latency)
                        rates[name].append(rate)
        print(f"medians of {rounds} ({guest.accelerator}):")
    speed = {name: statistics.median(values) for name, values in rates.items()}
    took = {name: statistics.median(values) for name, values in times.items()}
    print(f"  throughput: {speed['plain']:.2f} MiB/s plain, {speed['wall']:.2f} MiB/s through the wall")
    print(f"    ratio {speed['wall'] / speed['plain']:.2f} (at least {AT_LEAST})")
    print(f"  a connection: {took['plain'] * 1e3:.1f} ms plain, {took['wall'] * 1e3:.1f} ms through the wall")
    print(f"    ratio {took['plain'] / took['wall']:.2f} (at least {AT_LEAST})")


def measured(guest: BenchGuest, port: int) -> tuple[float, float]:
    """Return the seconds that a connection takes, the median of several, and MiB/s."""
    words = (str(port), HELLO.hex(), str(SIZE), str(CONNECTS))
    *connects, transfer = map(float, guest.run("python3", "-c", SCRIPT, *words).split())
    return statistics.median(connects), SIZE / 2**20 / transfer


@contextlib.contextmanager
def forwarded(guest: BenchGuest) -> Iterator[None]:
    """Hold `ssh -R` from the guest's other port to the plain forwarder."""
    way = f"127.0.0.1:{PLAIN_DOOR}:{PLAIN_HOST}:{PLAIN_PORT}"
    with guest.control_master() as shared:
        subprocess.run(guest.ssh(*shared, "-O", "forward", "-R", way), check=True, stdout=subprocess.DEVNULL)
        yield


@contextlib.contextmanager
def served(public: socket.socket, plain: socket.socket) -> Iterator[None]:
    """Run the server, which the proxy reaches at `public`, and the plain forwarder to it, each in a process."""
    context = multiprocessing.get_context("fork")  # both inherit their sockets, and the hello
    inside = socket.create_server(("127.0.0.1", 0))
    port = inside.getsockname()[1]
    processes = [
        context.Process(target=lambda: asyncio.run(server(public, inside)), daemon=True),
        context.Process(target=lambda: asyncio.run(forwarder(plain, port)), daemon=True),
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


async def server(*listeners: socket.socket) -> None:
    """Answer one byte at once, then send what was asked for by the bytes after the hello."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(len(HELLO))
            writer.write(b"!")
            wanted = int.from_bytes(await reader.readexactly(8))
            for _ in range(wanted // CHUNK):
                writer.write(bytes(CHUNK))
                await writer.drain()
        writer.close()

    servers = [await asyncio.start_server(serve, sock=listener, limit=STREAM_LIMIT) for listener in listeners]
    await asyncio.gather(*(one.serve_forever() for one in servers))


async def forwarder(listener: socket.socket, port: int) -> None:
    """Take any CONNECT and carry bytes both ways, to the server whatever was asked for."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(64 << 10):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            there = await asyncio.open_connection("127.0.0.1", port, limit=STREAM_LIMIT)
            await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))

    one = await asyncio.start_server(serve, sock=listener, limit=STREAM_LIMIT)
    await one.serve_forever()


if __name__ == "__main__":
    main()
