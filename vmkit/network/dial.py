"""How the proxy finds and reaches a server: one look-up on this computer, then the addresses it gave, nothing else."""

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

Resolve = Callable[[str, int], Awaitable[list[str]]]
Connect = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

MAX_ADDRESSES = 8
STREAM_LIMIT = 32 << 10  # bytes a stream holds before it stops reading, twice this at most, and one read more

_WORKERS = 8


@functools.cache
def _pool() -> ThreadPoolExecutor:
    # Its own, bounded: a name server that hangs must not take asyncio's threads with it.
    return ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="resolve")


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of `host`, in the system's order. Raises OSError when there are none.

    A look-up cannot be interrupted: a caller that gives up leaves a thread waiting for the system's own time-out.
    """
    look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_pool(), look_up)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]


async def connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an address that has been checked. Raises OSError."""
    return await asyncio.open_connection(address, port, limit=STREAM_LIMIT)
