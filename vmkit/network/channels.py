"""An SSH channel as an asyncio transport, so that the proxy serves it like any other connection.

A channel can be waited for only when it has something to read; whether it takes more to write has to be asked again,
so a writer that is held back by the guest asks at intervals that grow to 50 ms.
"""

import asyncio
import contextlib
from typing import Any

from vmkit.guest.connection import Channel
from vmkit.network.dial import STREAM_LIMIT

READ_BYTES = 64 << 10
HIGH_BYTES = 256 << 10  # more than this waits for the guest: the server is not read on

_FIRST_S, _LONGEST_S = 0.002, 0.05


class ChannelTransport(asyncio.Transport):
    """Reads and writes one channel on the running loop; closes it when both sides are done."""

    def __init__(
        self, channel: Channel, protocol: asyncio.StreamReaderProtocol, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__()
        self._channel, self._protocol, self._loop = channel, protocol, loop
        self._buffer = bytearray()
        self._closing = self._ending = self._held = self._reading = False
        self._retry: asyncio.TimerHandle | None = None
        self._wait_s = _FIRST_S
        self._descriptor = channel.fileno()
        protocol.connection_made(self)
        self.resume_reading()

    def is_reading(self) -> bool:
        """Tell whether data is wanted."""
        return self._reading

    def pause_reading(self) -> None:
        """Let the guest wait: its window fills up, and then it stops sending."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def resume_reading(self) -> None:
        """Read on."""
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._descriptor, self._readable)

    def get_write_buffer_size(self) -> int:
        """Return the bytes that the guest has not yet taken."""
        return len(self._buffer)

    def write(self, data: Any) -> None:
        """Send to the guest, or keep until it takes more."""
        if self._closing:
            return
        self._buffer += data
        if self._retry is None:
            self._send()
        if len(self._buffer) > HIGH_BYTES and not self._held:
            self._held = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Return True: SSH has half-closed channels."""
        return True

    def write_eof(self) -> None:
        """End what the guest reads, when it has taken all."""
        self._ending = True
        if not self._buffer and not self._closing:
            self._end_output()

    def is_closing(self) -> bool:
        """Tell whether it is closed or about to be."""
        return self._closing

    def close(self) -> None:
        """Close when the guest has taken what is left."""
        if not self._closing:
            self._closing = True
            self.pause_reading()
            if not self._buffer:
                self._loop.call_soon(self._lost, None)

    def abort(self) -> None:
        """Close at once."""
        self._buffer.clear()
        if not self._closing:
            self._closing = True
            self.pause_reading()
        self._loop.call_soon(self._lost, None)

    def _readable(self) -> None:
        try:
            data = self._channel.recv(READ_BYTES)
        except TimeoutError:  # woken for nothing
            return
        except OSError as error:
            self._fail(error)
            return
        if data:
            self._protocol.data_received(data)
            return
        self.pause_reading()
        if not self._protocol.eof_received():
            self.close()

    def _send(self) -> None:
        self._retry = None
        while self._buffer:
            try:
                sent = self._channel.send(bytes(self._buffer[:READ_BYTES]))
            except TimeoutError:
                self._retry = self._loop.call_later(self._wait_s, self._send)
                self._wait_s = min(_LONGEST_S, self._wait_s * 2)
                return
            except OSError as error:
                self._fail(error)
                return
            if sent == 0:
                self._fail(ConnectionResetError("the guest closed it"))
                return
            del self._buffer[:sent]
            self._wait_s = _FIRST_S
        if self._held:
            self._held = False
            self._protocol.resume_writing()
        if self._closing:
            self._lost(None)
        elif self._ending:
            self._end_output()

    def _end_output(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def _fail(self, error: OSError) -> None:
        self._buffer.clear()
        self._closing = True
        self.pause_reading()
        self._lost(error)

    def _lost(self, error: OSError | None) -> None:
        if self._retry:
            self._retry.cancel()
            self._retry = None
        if self._channel is not None:
            channel, self._channel = self._channel, None  # type: ignore[assignment]  # nothing comes after this
            with contextlib.suppress(OSError, EOFError):
                channel.close()
            self._protocol.connection_lost(error)


def open_streams(channel: Channel) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a channel's two streams on the running loop. The channel must not block (`settimeout(0)`)."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=STREAM_LIMIT, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = ChannelTransport(channel, protocol, loop)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
