"""Carry bytes both ways between a guest and a server, no faster than each takes them, within limits."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

CHUNK = 64 << 10

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Daily:
    """How many bytes all connections together have carried today (UTC)."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._day = -1
        self._used = 0

    @property
    def is_used_up(self) -> bool:
        """Tell whether nothing more may be carried today."""
        return self.add(0) >= self._limit

    def add(self, size: int) -> int:
        """Count `size` bytes; return the day's sum."""
        day = int(self._clock() // 86400)
        if day != self._day:
            self._day, self._used = day, 0
        self._used += size
        return self._used


@dataclass(slots=True)
class Meter:
    """What one connection has carried, and when it last did."""

    daily: Daily
    limit: int
    up: int = 0
    down: int = 0
    active_at: float = 0.0

    def is_full(self, *, up: int = 0, down: int = 0) -> bool:
        """Count bytes; tell whether the connection must end now."""
        self.up += up
        self.down += down
        self.daily.add(up + down)
        return self.up + self.down > self.limit or self.daily.is_used_up


async def relay(
    guest: Streams, server: Streams, meter: Meter, *, one_way: bool, idle_s: float, check: Callable[[], str | None],
    check_every_s: float
) -> str:  # fmt: skip
    """Carry bytes until both sides have ended, and return why it ended, "" for the ordinary way.

    With `one_way`, what the guest sends is read and thrown away. `check` is asked now and then and returns a reason to
    end. The streams are left open.
    """
    meter.active_at = asyncio.get_running_loop().time()
    up = asyncio.create_task(_pump(guest[0], None if one_way else server[1], meter, is_up=True))
    down = asyncio.create_task(_pump(server[0], guest[1], meter, is_up=False))
    watch = asyncio.create_task(_watch(meter, idle_s, check, check_every_s))
    tasks = [up, down, watch]
    try:
        waiting = {down, watch} if one_way else set(tasks)
        while waiting - {watch}:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if why := task.result():
                    return why
        return ""
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, meter: Meter, *, is_up: bool) -> str:
    loop = asyncio.get_running_loop()
    try:
        while chunk := await reader.read(CHUNK):
            if meter.is_full(up=len(chunk)) if is_up else meter.is_full(down=len(chunk)):
                return "the limit of bytes is reached"
            if writer:
                writer.write(chunk)
                await writer.drain()
            meter.active_at = loop.time()
        if writer and writer.can_write_eof():
            writer.write_eof()
    except OSError:
        return "the connection broke"
    return ""


async def _watch(meter: Meter, idle_s: float, check: Callable[[], str | None], every_s: float) -> str:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(every_s, idle_s / 4))
        if loop.time() - meter.active_at > idle_s:
            return f"nothing moved for {idle_s:g} s"
        if why := check():
            return why
