"""Read and write the serial port of a machine that UTM runs, and keep what it says in a file."""

import contextlib
import os
import re
import select
import socket
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

from vmkit.errors import TransportFailed, VmkitError
from vmkit.host.text import printable

MAX_LOG = 8 << 20  # of which the older half goes when it is reached

_TERMINAL = re.compile(r"/dev/(?:ttys\d{1,5}|pts/\d{1,5})")
_SOCKET = re.compile(r"(127\.0\.0\.1|localhost|0\.0\.0\.0):(\d{1,5})")
_CONNECT_S = 5.0
_AGAIN_S = 1.0
_READ_BYTES = 16 << 10


def open_serial(place: str | None) -> int:
    """Open what `utmctl attach` named: a pseudo terminal, set raw, or a TCP port of this computer.

    Raises TransportFailed.
    """
    try:
        if place and _TERMINAL.fullmatch(place):
            return _open_terminal(place)
        found = _SOCKET.fullmatch(place or "")
        if found:
            with socket.create_connection(("127.0.0.1", int(found[2])), timeout=_CONNECT_S) as connection:
                connection.settimeout(None)
                return connection.detach()
    except (OSError, OverflowError, termios.error) as error:
        raise TransportFailed("the console could not be reached", detail=str(error)) from error
    said = f'UTM says that it is at "{printable(place, max_chars=60)}"' if place else "UTM has no serial port for it"
    raise TransportFailed("the console could not be reached", detail=said)


@contextlib.contextmanager
def recording(attach: Callable[[], str | None], log: Path) -> Iterator[None]:
    """Append what the serial port says to `log` while the context lasts. `attach` is asked where it is.

    The port may come later, end and come again; without one nothing is recorded.
    """
    stop_reader, stop_writer = os.pipe()
    thread = threading.Thread(target=_record, args=(attach, log, stop_reader), daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(stop_writer)
        thread.join(_CONNECT_S)
        if not thread.is_alive():  # else utmctl hangs: the thread still reads the pipe, and ends with it
            os.close(stop_reader)


def _open_terminal(place: str) -> int:
    descriptor = os.open(place, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        # Else the terminal would type back to the guest what the guest says. Now: what it has said is not lost.
        tty.setraw(descriptor, termios.TCSANOW)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _record(attach: Callable[[], str | None], log: Path, stop: int) -> None:
    while not select.select([stop], [], [], 0)[0]:
        with contextlib.suppress(VmkitError, OSError):
            serial = open_serial(attach())
            try:
                _copy(serial, log, stop)
            finally:
                os.close(serial)
        if select.select([stop], [], [], _AGAIN_S)[0]:
            return


def _copy(serial: int, log: Path, stop: int) -> None:
    """Copy until the port ends (EIO, or nothing more) or somebody closes the other end of `stop`."""
    with log.open("ab", buffering=0) as file:
        while True:
            ready, _, _ = select.select([serial, stop], [], [])
            if serial in ready:
                said = os.read(serial, _READ_BYTES)
                if not said:
                    return
                file.write(said)
                if file.tell() > MAX_LOG:
                    _shorten(log)
            elif stop in ready:
                return


def _shorten(log: Path) -> None:
    with log.open("r+b") as file:
        file.seek(-(MAX_LOG // 2), os.SEEK_END)
        kept = file.read()
        file.seek(0)
        file.write(kept)
        file.truncate()
