"""The one door of a closed machine: a port on the guest's own loopback, behind which the proxy stands."""

import asyncio
import threading

from vmkit.guest.connection import Channel
from vmkit.network.channels import open_streams
from vmkit.network.proxy import Proxy

DOOR_PORT = 13128  # not 3128, which Kiro's own login asks for first

_SPARE = 64  # beyond what the proxy serves: these are told why they are turned away


class Door:
    """Hands the guest's connections to the proxy, on its loop."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy, self._loop = proxy, loop
        self._lock = threading.Lock()
        self._inside = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many connections of the guest are held."""
        return self._inside

    def admit(self, channel: Channel) -> None:
        """Take a connection, from any thread; close it at once when there are far too many."""
        with self._lock:
            full = self._inside >= self._proxy.limits.connections + _SPARE
            self._inside += not full
        if full:
            channel.close()
            return
        try:
            self._loop.call_soon_threadsafe(self._begin, channel)
        except RuntimeError:  # the loop has ended, and the connection with it
            channel.close()

    async def close(self) -> None:
        """End all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, channel: Channel) -> None:
        task = self._loop.create_task(self._serve(channel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, channel: Channel) -> None:
        try:
            reader, writer = open_streams(channel)
            await self._proxy.serve(reader, writer)
        except OSError:  # no descriptor left: nothing was opened
            channel.close()
        finally:
            with self._lock:
                self._inside -= 1
