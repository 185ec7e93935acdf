"""Throughput of the terminal filter against decoding and encoding the same bytes, side by side, in one run.

Usage: python -m bench.terminal [ROUNDS]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.fullscreen import programs, record
from vmkit.guest.terminal import TerminalFilter

CHUNK = 64 << 10  # what the relay reads at once
SIZE = 8 << 20
AT_LEAST = {"plain": 20, "coloured": 20}  # MB/s


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    inputs = {"plain": plain(), "coloured": coloured(), **screens()}
    print(f"{SIZE >> 20} MiB in pieces of {CHUNK >> 10} KiB, median of {rounds}; floor: decode and encode")
    for name, content in inputs.items():
        floor, filtered = [], []
        for _ in range(rounds):
            floor.append(timed(content, lambda chunk: chunk.decode("utf-8", "replace").encode()))
            filtered.append(timed(content, TerminalFilter().feed))
        ratio = statistics.median(filtered) / statistics.median(floor)
        speed = len(content) / statistics.median(filtered) / 1e6
        limit = f" (at least {AT_LEAST[name]})" if name in AT_LEAST else ""
        print(f"{name}: {speed:.0f} MB/s{limit}, {ratio:.1f} times the floor")


def plain() -> bytes:
    line = b"drwxr-xr-x 2 agent agent   4096 Jan  1 12:00 some-directory-or-other with a longer name\r\n"
    return line * (SIZE // len(line))


def coloured() -> bytes:
    names = b"\x1b[0m\x1b[01;34mbuild\x1b[0m  \x1b[01;32mrun.sh\x1b[0m  "
    line = names + b"\x1b[38;5;208mwarning\x1b[39m: \x1b[1mgr\xc3\xbcn\x1b[22m\x1b[K\r\n"
    return line * (SIZE // len(line))


def screens() -> dict[str, bytes]:
    """Record what full-screen programs write, where they are installed."""
    with tempfile.TemporaryDirectory() as home:
        recorded = {
            name: b"".join(record(argv, steps, home=Path(home))) for name, (argv, steps) in programs(Path(home)).items()
        }
    return {name: (content * (SIZE // len(content) + 1))[:SIZE] for name, content in recorded.items()}


def timed(content: bytes, work: Callable[[bytes], bytes]) -> float:
    begun = time.process_time()  # the load of others does not count
    for start in range(0, len(content), CHUNK):
        work(content[start : start + CHUNK])
    return time.process_time() - begun


if __name__ == "__main__":
    main()
