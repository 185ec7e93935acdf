"""`vmkit copy` of 5,000 small files into a guest, and out of it, against `tar | ssh`; alternating, in one run.

Usage: python -m bench.copy [ROUNDS]
"""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.guestworld import NAME, BenchGuest, alternate, bench_guest, timed

LIMIT = 1.5
FILES, FOLDERS = 5000, 50


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with bench_guest() as guest:
        tree, back = guest.folder / "tree", guest.folder / "back"
        size = make_tree(tree)
        guest.run("sudo", "cp", "-r", "/etc", "there")  # a login's first touch of its home is paid
        into = alternate(
            rounds,
            {
                "vmkit copy": emptied(guest, lambda: timed([*guest.vmkit, "copy", tree, f"{NAME}:new"])),
                "tar | ssh": emptied(guest, lambda: piped(*tar_in(guest, tree))),
            },
        )
        subprocess.run([*guest.vmkit, "copy", tree, f"{NAME}:new"], check=True)
        out = alternate(
            rounds,
            {
                "vmkit copy": fresh(back, lambda: timed([*guest.vmkit, "copy", f"{NAME}:new", back])),
                "tar | ssh": fresh(back, lambda: piped(*tar_out(guest, back))),
            },
        )
        print(f"{FILES} files, {size / 2**20:.1f} MiB, medians of {rounds} ({guest.accelerator}):")
    for way, took in (("into the guest", into), ("out of it", out)):
        ratio = took["vmkit copy"] / took["tar | ssh"]
        print(f"  {way}: {took['vmkit copy']:.2f} s vmkit copy, {took['tar | ssh']:.2f} s tar | ssh")
        print(f"    ratio {ratio:.2f} (at most {LIMIT})")


def make_tree(root: Path) -> int:
    """Write files of 0 to 4 KiB that do not compress; return their bytes."""
    source = random.Random(5)
    size = 0
    for number in range(FILES):
        folder = root / f"d{number % FOLDERS}"
        folder.mkdir(parents=True, exist_ok=True)
        content = source.randbytes(source.randrange(4096))
        (folder / f"f{number}").write_bytes(content)
        size += len(content)
    return size


def emptied(guest: BenchGuest, work: Callable[[], float]) -> Callable[[], float]:
    """Remove, untimed, what an earlier round left in the guest."""

    def once() -> float:
        guest.run("sh", "-c", "rm -rf new; sync")
        return work()

    return once


def fresh(folder: Path, work: Callable[[], float]) -> Callable[[], float]:
    """Remove, untimed, what an earlier round left here."""

    def once() -> float:
        shutil.rmtree(folder, ignore_errors=True)
        return work()

    return once


def tar_in(guest: BenchGuest, tree: Path) -> tuple[list[str], list[str]]:
    return ["tar", "-C", str(tree), "-cf", "-", "."], guest.ssh(command=["mkdir new && tar -C new -xf -"])


def tar_out(guest: BenchGuest, back: Path) -> tuple[list[str], list[str]]:
    back.mkdir(exist_ok=True)
    return guest.ssh(command=["tar -C new -cf - ."]), ["tar", "-C", str(back), "-xf", "-"]


def piped(first: list[str], second: list[str]) -> float:
    """Return the seconds that `first | second` takes; both must succeed."""
    begun = time.perf_counter()
    with subprocess.Popen(first, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as writer:
        subprocess.run(second, check=True, stdin=writer.stdout)
    if writer.returncode:
        raise SystemExit(f"{first[0]} exited with {writer.returncode}")
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
