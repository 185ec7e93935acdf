"""The only way out of a closed machine: one guest connection, checked name by name, then carried to its server.

The order is the wall: the host's bytes, the policy, the addresses, the TLS name; only then is anything connected to.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from vmkit.errors import Refused
from vmkit.host.text import printable
from vmkit.network import dial
from vmkit.network.addresses import why_refused
from vmkit.network.audit import Event, Kind
from vmkit.network.hello import read_hello
from vmkit.network.http_request import Denied, read_request
from vmkit.network.policy import Decision, Policy
from vmkit.network.relay import Daily, Meter, Streams, relay
from vmkit.network.rules import HTTPS, checked_host

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_ALERT = bytes([21, 3, 3, 0, 2, 2, 49])  # TLS: fatal, access_denied; the guest's program says so at once
_MAX_LEFT_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one machine may cost this computer. Times are seconds."""

    connections: int = 256
    head_s: float = 10
    hello_s: float = 10
    resolve_s: float = 10
    connect_s: float = 10
    idle_s: float = 120
    check_every_s: float = 5
    linger_s: float = 1
    connection_bytes: int = 8 << 30
    day_bytes: int = 64 << 30


@dataclass(kw_only=True)
class Proxy:
    """Serves one machine. `policy` gives the policy of this moment: open connections follow it too."""

    machine: str
    policy: Callable[[], Policy]
    audit: Callable[[Event], None]
    limits: Limits = field(default_factory=Limits)
    resolve: dial.Resolve = dial.resolve
    connect: dial.Connect = dial.connect
    clock: Callable[[], float] = time.time
    connections: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._daily = Daily(self.limits.day_bytes, self.clock)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the guest and close it. Raises nothing but CancelledError."""
        visit = _Visit(self, reader, writer)
        if self.connections >= self.limits.connections:
            await visit.turn_away()
            return
        self.connections += 1
        try:
            await visit.run()
        finally:
            self.connections -= 1
            writer.transport.abort()  # all that was to be sent is out by now, or will never be read

    @property
    def meter(self) -> Meter:
        """Return a fresh meter for one connection."""
        return Meter(self._daily, self.limits.connection_bytes)

    def judge(self, host: str, port: int) -> Decision:
        """Return why the guest may reach `host` now. Raises Denied when it may not."""
        decision = self.policy().decide(host, port, now=self.clock())
        if not decision.allowed:
            near = f'; the nearest name that is allowed: "{decision.nearest}"' if decision.nearest else ""
            target = host if port == HTTPS else f"{host}:{port}"
            raise Denied(decision.reason + near, status=403, hint=f"vmkit net allow {self.machine} {target}")
        if self._daily.is_used_up:
            raise Denied(f"the {self.limits.day_bytes >> 20} MiB of this day are used up", status=403)
        return decision


class _Visit:
    """One connection of the guest: where it wants to go, and how far it has come."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.guest = (reader, writer)
        self.host = ""
        self.port = 0
        self.rule: str | None = None
        self.tunnel = False
        self.begun = asyncio.get_running_loop().time()

    async def turn_away(self) -> None:
        """Refuse at once: nothing is read, nothing is waited for."""
        reason = f"more than {self.proxy.limits.connections} connections at once"
        with contextlib.suppress(OSError):
            self._log(Kind.REFUSED, reason)
            self.guest[1].write(_answer(Denied(reason, status=503)))
            self.guest[1].close()  # what the socket does not take at once is dropped with it
            await asyncio.sleep(0)
        self.guest[1].transport.abort()

    async def run(self) -> None:
        """Check, connect, carry. Whatever goes wrong, the guest gets nothing but a reason."""
        try:
            server, first = await self._admit()
        except Denied as denied:
            await self._refuse(denied)
        except Refused as refused:
            reason = f"{refused.message}: {refused.detail}" if refused.detail else refused.message
            await self._refuse(Denied(reason, status=403))
        except TimeoutError:
            await self._refuse(Denied("the request did not come in time", status=408))
        except (EOFError, ConnectionError):
            await self._refuse(Denied("the guest hung up before its request was whole"))
        except Exception as error:  # noqa: BLE001  # a flaw in here must close the way out, not open it
            await self._refuse(Denied(f"the proxy failed: {type(error).__name__}", status=500))
        else:
            await self._carry(server, first)

    async def _admit(self) -> tuple[Streams, bytes]:
        """Return the connection to the server, and what has to be sent there first. Raises Refused, Denied."""
        limits = self.proxy.limits
        async with asyncio.timeout(limits.head_s):
            request = await read_request(self.guest[0])
        self.host, self.port = request.host.decode("ascii", "backslashreplace"), request.port
        self.host = checked_host(request.host)
        rule = self.proxy.judge(self.host, self.port).rule
        self.rule = rule.host if rule else None
        addresses = await self._addresses()
        first = await self._hello() if request.is_tunnel else request.forward
        self.proxy.judge(self.host, self.port)  # the policy may have changed meanwhile
        server = await self._connect(addresses)
        try:
            self._log(Kind.OPENED)
        except BaseException:
            server[1].transport.abort()
            raise
        return server, first

    async def _addresses(self) -> list[str]:
        """Look the name up, once, and judge every address."""
        try:
            async with asyncio.timeout(self.proxy.limits.resolve_s):
                addresses = await self.proxy.resolve(self.host, self.port)
        except TimeoutError:
            raise Denied("looking the name up took too long", status=504) from None
        except OSError as error:
            raise Denied("the name has no address", status=502) from error
        if not addresses:
            raise Denied("the name has no address", status=502)
        for address in addresses:
            if what := why_refused(address):
                raise Denied(f"the name leads to {printable(address, max_chars=60)}: {what}", status=403)
        return addresses

    async def _hello(self) -> bytes:
        """Open the tunnel as far as the guest's first words, which have to be TLS for the same host."""
        self.tunnel = True
        self.guest[1].write(_ESTABLISHED)
        try:
            async with asyncio.timeout(self.proxy.limits.hello_s):
                hello = await read_hello(self.guest[0])
        except TimeoutError:
            raise Denied("no TLS hello came in time") from None
        if checked_host(hello.server_name) != self.host:
            raise Denied(f'the TLS hello names "{printable(hello.server_name, max_chars=253)}", not the host')
        return hello.raw

    async def _connect(self, addresses: list[str]) -> Streams:
        """Connect to the first address that answers; they are never looked up again."""
        budget_s = self.proxy.limits.connect_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(budget_s):
                for address in addresses:
                    with contextlib.suppress(OSError):  # TimeoutError is one
                        async with asyncio.timeout(budget_s / 3):
                            return await self.proxy.connect(address, self.port)
        raise Denied("the server does not answer", status=502)

    async def _carry(self, server: Streams, first: bytes) -> None:
        meter = self.proxy.meter
        why = ""
        try:
            meter.is_full(up=len(first))
            server[1].write(first)
            why = await relay(
                self.guest, server, meter, one_way=not self.tunnel, idle_s=self.proxy.limits.idle_s,
                check=self._why_no_longer, check_every_s=self.proxy.limits.check_every_s,
            )  # fmt: skip
            if not why:
                await self._flush()
        except asyncio.CancelledError:
            why = "the proxy was stopped"
            raise
        except Exception as error:  # noqa: BLE001  # as in `run`: a flaw ends the connection
            why = f"the proxy failed: {type(error).__name__}"
        finally:
            server[1].transport.abort()
            with contextlib.suppress(OSError):  # the connection is over: there is nothing left to deny
                self._log(Kind.CLOSED, why, meter)

    def _why_no_longer(self) -> str | None:
        try:
            self.proxy.judge(self.host, self.port)
        except Denied as denied:
            return f"no longer allowed: {denied.message}"
        return None

    async def _flush(self) -> None:
        writer = self.guest[1]
        writer.close()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(self.proxy.limits.idle_s):
                await writer.wait_closed()

    async def _refuse(self, denied: Denied) -> None:
        with contextlib.suppress(OSError):  # a log that cannot be written allows nothing either
            self._log(Kind.REFUSED, denied.message)
        reader, writer = self.guest
        with contextlib.suppress(OSError):
            async with asyncio.timeout(self.proxy.limits.linger_s):
                writer.write(_ALERT if self.tunnel else _answer(denied))
                if writer.can_write_eof():
                    writer.write_eof()
                # Closing on unread bytes resets the connection, and the answer with it.
                left = _MAX_LEFT_BYTES
                while left > 0 and (chunk := await reader.read(left)):
                    left -= len(chunk)

    def _log(self, kind: Kind, reason: str = "", meter: Meter | None = None) -> None:
        self.proxy.audit(
            Event(
                kind=kind, host=_one_line(self.host), port=self.port, reason=_one_line(reason), rule=self.rule,
                bytes_up=meter.up if meter else 0, bytes_down=meter.down if meter else 0,
                seconds=round(asyncio.get_running_loop().time() - self.begun, 3),
            )
        )  # fmt: skip


def _answer(denied: Denied) -> bytes:
    """Write a refusal for people and for the programs between: the reason is a header too, for `curl -v`."""
    line = denied.message + (f"; to allow it: {denied.hint}" if denied.hint else "")
    reason = _one_line(f"vmkit: {line}").encode("ascii", "backslashreplace")
    head = (
        f"HTTP/1.1 {denied.status} {HTTPStatus(denied.status).phrase}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(reason) + 1}\r\nConnection: close\r\nX-Vmkit-Reason: "
    )
    return head.encode() + reason + b"\r\n\r\n" + reason + b"\n"


def _one_line(text: str) -> str:
    return printable(text.replace("\t", " "), max_chars=600)
