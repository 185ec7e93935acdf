"""What stands around the proxy in its tests: names, addresses, servers that count who comes, and TLS hellos."""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from vmkit.network.audit import Event
from vmkit.network.dial import STREAM_LIMIT
from vmkit.network.policy import Mode, Policy, Rule
from vmkit.network.proxy import Limits, Proxy

GOOD, PLAIN, WILD = "good.example", "plain.example", "*.wild.example"
# Documentation addresses: the proxy takes them for public ones, and only this world knows what is behind them.
GOOD_ADDRESS, EVIL_ADDRESS = "192.0.2.1", "203.0.113.66"
POLICY = Policy(
    mode=Mode.STRICT, rules=(Rule(host=GOOD), Rule(host=PLAIN, ports=(80,)), Rule(host=WILD), Rule(host="127.0.0.1"))
)
HANG_S = 30  # nothing takes so long but a test that hangs

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class World:
    """Every name leads somewhere, evil ones too: only the proxy stands between. `reached` is who was connected to."""

    policy: Policy = POLICY
    limits: Limits = field(default_factory=Limits)
    addresses: dict[str, list[str]] = field(
        default_factory=lambda: {GOOD: [GOOD_ADDRESS], PLAIN: [GOOD_ADDRESS], "a.wild.example": [GOOD_ADDRESS]}
    )
    handler: Handler | None = None
    server_port: int = 0  # a server outside this world that stands for all of its servers
    reached: list[tuple[str, int]] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    now: float = 1_800_000_000.0

    async def resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        return self.addresses.get(host, [EVIL_ADDRESS])

    async def connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.reached.append((address, port))
        return await asyncio.open_connection("127.0.0.1", self.server_port, limit=STREAM_LIMIT)

    async def record(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve as any server of this world: keep what comes first, then do as `handler` does, or echo."""
        first = await reader.read(1 << 16)
        self.received.append(first)
        if self.handler:
            await self.handler(reader, writer)
            return
        writer.write(first)
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self, **changed: object) -> AsyncIterator["Running"]:
        given = {"resolve": self.resolve, "connect": self.connect, "clock": lambda: self.now, "limits": self.limits}
        proxy = Proxy(machine="kiro", policy=lambda: self.policy, audit=self.events.append, **{**given, **changed})
        servers = await asyncio.start_server(self.record, "127.0.0.1", 0)
        self.server_port = self.server_port or servers.sockets[0].getsockname()[1]
        listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=STREAM_LIMIT)
        try:
            yield Running(proxy, listener.sockets[0].getsockname()[1])
        finally:
            listener.close()
            servers.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)


@dataclass
class Running:
    proxy: Proxy
    port: int

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def tunnel(self, host: str = GOOD, hello: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a tunnel and send a hello for `host`."""
        reader, writer = await self.open()
        writer.write(connect_to(host))
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        writer.write(hello or client_hello(host))
        return reader, writer

    async def ask(self, *pieces: bytes) -> bytes:
        """Send `pieces`, one write each, and return all that comes until the proxy hangs up."""
        reader, writer = await self.open()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if len(pieces) > 1:
                    await asyncio.sleep(0.01)
            return await read_all(reader)
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the end, however it ends."""
    content = b""
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(1 << 16):
            content += chunk
    return content


def play(scene: Awaitable[None]) -> None:
    """Run one test's coroutine; a hang is a failure."""

    async def bounded() -> None:
        async with asyncio.timeout(HANG_S):
            await scene

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # the proxy under test has no event to wait for
        await asyncio.sleep(0.01)


def connect_to(host: str, port: int = 443) -> bytes:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def client_hello(name: str | None = GOOD) -> bytes:
    """Return what OpenSSL says first."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    talk = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        talk.do_handshake()
    return outgoing.read()


def handshake(body: bytes, *, kind: int = 1, length: int | None = None) -> bytes:
    return bytes([kind]) + (len(body) if length is None else length).to_bytes(3) + body


def hello_body(*extensions: bytes, session: bytes = b"", tail: bytes = b"") -> bytes:
    joined = b"".join(extensions)
    return (
        b"\3\3" + bytes(32) + bytes([len(session)]) + session + b"\0\2\x13\x01" + b"\1\0"
        + struct.pack(">H", len(joined)) + joined + tail
    )  # fmt: skip


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">HH", kind, len(content)) + content


def sni(*names: bytes, kind: int = 0) -> bytes:
    entries = b"".join(struct.pack(">BH", kind, len(name)) + name for name in names)
    return extension(0, struct.pack(">H", len(entries)) + entries)


def record(content: bytes, *, kind: int = 22, length: int | None = None) -> bytes:
    return struct.pack(">BHH", kind, 0x0301, len(content) if length is None else length) + content


def made_hello(*names: bytes) -> bytes:
    return record(handshake(hello_body(sni(*names))))


def fragments(hello: bytes, size: int) -> bytes:
    """Cut the one record of `hello` into records of `size` bytes."""
    content = hello[5:]
    return b"".join(record(content[at : at + size]) for at in range(0, len(content), size))
