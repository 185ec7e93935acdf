"""Read what a machine wrote to its console: hostile bytes, shown line by line."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vmkit.host.files import tail
from vmkit.host.text import printable_lines


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last `count` printable lines; nothing when there is no log yet."""
    return printable_lines(tail(path, max_bytes=min(count * 4096, 8 << 20)), max_lines=count)


def follow_log(path: Path, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[bytes]:
    """Yield what is written to the log from now on, whole lines where they are short, until the caller stops.

    A log that starts anew (the machine was restarted) is followed from its beginning.
    """
    offset = path.stat().st_size if path.exists() else 0
    rest = b""
    while True:
        size = path.stat().st_size if path.exists() else 0
        offset = min(offset, size)
        if size == offset:
            sleep(0.3)
            continue
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read(64 << 10)
        offset += len(block)
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield whole
        elif len(rest) > 4096:
            yield rest
            rest = b""
