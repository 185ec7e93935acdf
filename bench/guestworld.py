"""A guest to measure against: made by vmkit, reached by vmkit and by OpenSSH with the same keys."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VMKIT = Path(sys.executable).with_name("vmkit")
NAME = "bench"


@dataclass(frozen=True)
class BenchGuest:
    """A running machine. `enter` is what every program is run by, such as nsenter."""

    home: Path
    folder: Path  # for what a measurement makes; short, since sockets lie in it
    accelerator: str
    port: int
    enter: tuple[str, ...] = ()

    @property
    def vmkit(self) -> list[str]:
        """The start of a vmkit command line."""
        return [*self.enter, "env", f"VMKIT_HOME={self.home}", str(VMKIT), "--quiet"]

    def ssh(self, *options: str, command: Sequence[str] = ()) -> list[str]:
        """Return an ssh command line that trusts this guest's key alone and reads nothing of the user's."""
        keys = self.home / "machines" / NAME / "keys"
        known = self.folder / "known_hosts"
        if not known.exists():
            known.write_text(f"[127.0.0.1]:{self.port} {(keys / 'host_key.pub').read_text()}")
        return [
            *self.enter, "ssh", "-F", "none", "-i", str(keys / "user_key"), "-p", str(self.port),
            "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}",
            "-o", "LogLevel=ERROR", *options, "agent@127.0.0.1", *command,
        ]  # fmt: skip

    @contextlib.contextmanager
    def control_master(self) -> Iterator[list[str]]:
        """Keep an ssh connection, and give the options of one that uses it."""
        path = self.folder / "master"
        master = self.ssh("-M", "-S", str(path), "-N", "-f")
        for _ in range(20):  # an sshd that has just been told to read its settings anew refuses for a moment
            if subprocess.run(master, check=False, stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(1)
        else:
            subprocess.run(master, check=True)
        try:
            yield ["-S", str(path), "-o", "ControlMaster=no"]
        finally:
            subprocess.run(self.ssh("-S", str(path), "-O", "exit"), check=False, capture_output=True)

    def run(self, *words: str, stdin: bytes | None = None) -> str:
        """Run `vmkit exec` untimed and return what it printed."""
        command = [*self.vmkit, "exec", NAME, "--", *words]
        return subprocess.run(command, check=True, input=stdin, stdout=subprocess.PIPE).stdout.decode()


@contextlib.contextmanager
def bench_guest(*options: str, enter: tuple[str, ...] = ()) -> Iterator[BenchGuest]:
    """Make a Debian guest and delete it at the end; `VMKIT_BENCH_HOME` keeps the image from run to run."""
    with tempfile.TemporaryDirectory(prefix="vmkit-bench-") as folder:
        home = Path(os.environ.get("VMKIT_BENCH_HOME", folder)) / "h"

        def vmkit(*words: str, enter: tuple[str, ...] = enter) -> bytes:
            argv = [*enter, "env", f"VMKIT_HOME={home}", str(VMKIT), *words]
            return subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout

        if not json.loads(vmkit("image", "list", "--json"))["images"]:
            vmkit("image", "build", "debian-13", enter=())  # where the mirror can be reached
        size = ("--cpus", "2", "--memory", "1G", "--disk", "8G")
        try:
            vmkit("--quiet", "create", NAME, "-t", "debian", *size, *options)
            machine = json.loads(vmkit("info", NAME, "--json"))["machine"]
            accelerator = str(machine["driver_facts"]["accelerator"]).partition(":")[0]
            yield BenchGuest(home, Path(folder), accelerator, machine["address"]["port"], enter)
        finally:
            vmkit("--quiet", "delete", "--force", NAME)


def alternate(rounds: int, work: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Do each piece of work once a round, in order, after one round that does not count; return the medians."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, once in work.items():
            taken = once()
            if number:
                times[name].append(taken)
    return {name: statistics.median(values) for name, values in times.items()}


def timed(argv: Sequence[str | Path]) -> float:
    """Return the seconds that a program takes, which must succeed."""
    begun = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun
