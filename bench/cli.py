"""Start-up time of the command line against `python -c pass`, side by side, interleaved, in one run.

Usage: python bench/cli.py [ROUNDS]
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VMKIT = Path(sys.executable).with_name("vmkit")
LIMITS = {"--version": 4, "list --json": 8, "--help": 14}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as full:
        make_machines(Path(empty), 1)
        make_machines(Path(full), 50)
        commands = {
            "python -c pass": ([sys.executable, "-c", "pass"], empty),
            **{f"vmkit {words}": ([str(VMKIT), *words.split()], empty) for words in LIMITS},
            "vmkit list, 50 machines": ([str(VMKIT), "list"], full),
            "vmkit list, 1 machine": ([str(VMKIT), "list"], empty),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, (argv, home) in commands.items():
                times[name].append(timed(argv, home))
    median = {name: statistics.median(values) for name, values in times.items()}
    floor = median["python -c pass"]
    print(f"python -c pass: {floor * 1000:.1f} ms (median of {rounds})")
    for words, limit in LIMITS.items():
        ratio = median[f"vmkit {words}"] / floor
        print(f"vmkit {words}: {median[f'vmkit {words}'] * 1000:.1f} ms, ratio {ratio:.2f} (at most {limit})")
    many, one = median["vmkit list, 50 machines"], median["vmkit list, 1 machine"]
    print(f"vmkit list: 50 stopped {many * 1000:.1f} ms, 1 {one * 1000:.1f} ms, ratio {many / one:.2f} (at most 2)")


def timed(argv: list[str], home: str) -> float:
    begun = time.perf_counter()
    subprocess.run(argv, env={**os.environ, "VMKIT_HOME": home}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def make_machines(home: Path, count: int) -> None:
    """Write the records of stopped machines; `list` reads no more of them than these."""
    for number in range(count):
        folder = home / "machines" / f"m{number}"
        (folder / f"m{number}.utm").mkdir(parents=True)
        (folder / f"m{number}.utm" / "config.plist").write_text("never read by list")
        record = {
            "schema": 1, "name": f"m{number}", "uuid": f"{number:08X}-0000-4000-8000-000000000000", "driver": "qemu",
            "template": "debian", "image": "debian-13:latest", "image_digest": "sha256:0", "arch": "x86_64", "cpus": 2,
            "memory_mib": 1024, "disk_bytes": 8 << 30, "user": "agent", "recipes": [], "egress": "open", "options": {},
            "created": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        (folder / "machine.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main()
