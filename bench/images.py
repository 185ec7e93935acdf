"""Golden images: cloning, storing, pushing, pulling and disposable starts, each beside the plain tool; one run.

- clone: the disk of a new machine of a 1 GiB and of a 20 GiB image, against `qemu-img create -b`; whole commands too.
- store: a Debian guest's raw disk, as large as its template makes it, into the image store (cut, digested, compressed),
  against `zstd -T0 -1` of it.
- push: to a registry on loopback, against `skopeo copy` of the same image to it.
- pull: from that registry until the raw disk is back, against `zstd -d` of the compressed disk.
- disposable: `start --disposable` from the ready state, against a cold start of the same machine.
What `image save` does besides (boot a copy, clean it, scan every byte) no plain tool does; it is not in these figures.

Usage: python -m bench.images [ROUNDS]; needs docker-registry, skopeo and zstd.
VMKIT_BENCH_HOME keeps the guest's image from run to run.
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.guestworld import VMKIT
from vmkit.host.computer import clone_file
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.images.disk import create_overlay
from vmkit.images.layout import Boot, ImageMeta, now
from vmkit.images.store import ImageStore

SIZES_GIB = (1, 20)
DISK_GIB = 10
CLONE_LIMIT, STREAM_LIMIT, MEMORY_LIMIT_MIB, DISPOSABLE_LIMIT = 1.5, 1.3, 300, 0.35
CLONES = 20
PLAIN = ("-t", "debian", "--memory", "1G", "--cpus", "2")
REGISTRY = """
version: 0.1
log: {{accesslog: {{disabled: true}}, level: error}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}", secret: bench}}
"""


def main() -> None:
    if sys.argv[1:2] == ["add"]:  # a step in a process of its own, whose memory is measured
        add(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="vmkit-bench-") as name:
        folder = Path(name)
        clones(folder / "clones")
        home = Path(os.environ.get("VMKIT_BENCH_HOME", folder)) / "h"
        if not json.loads(output(home, "image", "list", "--json"))["images"]:
            vmkit(home, "image", "build", "debian-13")
        streams(folder / "streams", ImageStore(home / "images").list()[0].disk, rounds)
        disposables(home, rounds)


def add(home: Path, name: str, disk: Path) -> None:
    """Store a raw disk as an image, as `image save` does when its disk is ready."""
    meta = ImageMeta(arch="x86_64", boot=Boot.UEFI, user="agent", created=now())
    ImageStore(home / "images").add(name, disk=disk, kernel=None, initrd=None, meta=meta, report=Silent())


def clones(folder: Path) -> None:
    folder.mkdir()
    runner, store = Runner(), ImageStore(folder / "images")
    bases = {}
    for gib in SIZES_GIB:
        disk = folder / f"{gib}.raw"
        with disk.open("wb") as file:
            file.truncate(gib << 30)
        with disk.open("r+b") as file:
            file.write(os.urandom(4 << 20))
        add(folder, f"bench:{gib}", disk)
        bases[gib] = store.get(f"bench:{gib}").disk
    took: dict[str, list[float]] = {}
    for number in range(CLONES):
        for gib, base in bases.items():
            size = gib << 30
            ours, plain = folder / f"{gib}-{number}.ours", folder / f"{gib}-{number}.plain"
            argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(plain), str(size)]
            with timed(took.setdefault(f"plain {gib}", [])):
                runner.run(argv)
            with timed(took.setdefault(f"ours {gib}", [])):
                create_overlay(base, base_format="raw", target=ours, size_bytes=size, runner=runner)
    median = {name: statistics.median(values) for name, values in took.items()}
    for gib in SIZES_GIB:
        ratio = median[f"ours {gib}"] / median[f"plain {gib}"]
        ms = median[f"ours {gib}"] * 1000
        print(f"clone of {gib} GiB: {ms:.1f} ms, ratio to qemu-img {ratio:.2f} (at most {CLONE_LIMIT})")
    sizes = [median[f"ours {gib}"] for gib in SIZES_GIB]
    print(f"clones of both sizes: ratio {max(sizes) / min(sizes):.2f} (at most {CLONE_LIMIT})")
    commands: list[float] = []
    for gib in SIZES_GIB:
        with timed(commands):
            vmkit(folder, "create", f"c{gib}", "--image", f"bench:{gib}", "--disk", f"{gib}G", *PLAIN, "--no-start")
    ratio = max(commands) / min(commands)
    print(f"whole commands: {commands[0]:.2f} s and {commands[1]:.2f} s, ratio {ratio:.2f}", flush=True)


def streams(folder: Path, image: Path, rounds: int) -> None:
    folder.mkdir()
    raw = make_disk(image, folder / "disk.raw")
    packed = folder / "disk.zst"
    took: dict[str, list[float]] = {}
    memory = 0
    with registry(folder) as host:
        for number in range(rounds):
            home, again = folder / f"h{number}", folder / f"p{number}"
            with timed(took.setdefault("zstd", [])):
                subprocess.run(["zstd", "-q", "-f", "-T0", "-1", str(raw), "-o", str(packed)], check=True)
            with timed(took.setdefault("store", [])):
                memory = max(memory, peak([sys.executable, "-m", "bench.images", "add", home, "bench:1", raw]))
            layout = folder / f"layout{number}"
            vmkit(home, "image", "push", "--no-seal", "bench:1", f"oci-dir:{layout}:bench:1")
            with timed(took.setdefault("skopeo", [])):
                source, target = f"oci:{layout}:bench:1", f"docker://{host}/skopeo{number}:1"
                subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", source, target], check=True)
            with timed(took.setdefault("push", [])):
                memory = max(memory, vmkit(home, "image", "push", "--no-seal", "bench:1", f"{host}/ours{number}:1"))
            with timed(took.setdefault("unzstd", [])):
                subprocess.run(["zstd", "-q", "-f", "-d", str(packed), "-o", str(folder / "back.raw")], check=True)
            with timed(took.setdefault("pull", [])):
                memory = max(memory, vmkit(again, "image", "pull", f"{host}/ours{number}:1"))
            subprocess.run(["rm", "-rf", str(home), str(again), str(layout)], check=True)
    median = {name: statistics.median(values) for name, values in took.items()}
    show("store against zstd -T0 -1", median["store"], median["zstd"])
    show("push against skopeo copy", median["push"], median["skopeo"])
    show("store and push against both", median["store"] + median["push"], median["zstd"] + median["skopeo"])
    show("pull and assemble against zstd -d", median["pull"], median["unzstd"])
    print(f"peak memory {memory} MiB (at most {MEMORY_LIMIT_MIB})", flush=True)


def disposables(home: Path, rounds: int) -> None:
    vmkit(home, "create", "once", *PLAIN, "--no-start")
    try:
        vmkit(home, "start", "once")  # what is paid once: its first boot
        vmkit(home, "stop", "once")
        cold, ready = [], []
        for _ in range(rounds):
            with timed(cold):
                vmkit(home, "start", "once")
            vmkit(home, "stop", "once")
            vmkit(home, "start", "--disposable", "once")  # keeps the ready state
            vmkit(home, "stop", "--force", "once")
            with timed(ready):
                vmkit(home, "start", "--disposable", "once")
            vmkit(home, "stop", "--force", "once")
    finally:
        vmkit(home, "delete", "--force", "once")
    ratio = statistics.median(ready) / statistics.median(cold)
    figures = f"{statistics.median(ready):.1f} s, cold {statistics.median(cold):.1f} s"
    print(f"disposable start from the ready state: {figures}, ratio {ratio:.2f} (at most {DISPOSABLE_LIMIT})")


def show(what: str, ours: float, plain: float) -> None:
    print(f"{what}: {ours:.2f} s, {plain:.2f} s, ratio {ours / plain:.2f} (at most {STREAM_LIMIT})", flush=True)


def make_disk(image: Path, disk: Path) -> Path:
    """Write the disk that a machine of the template debian has: an image's, grown to the template's size."""
    clone_file(image, disk)
    disk.chmod(0o600)
    os.truncate(disk, DISK_GIB << 30)
    return disk


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    config = folder / "registry.yml"
    config.write_text(REGISTRY.format(root=folder / "registry", port=port))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(["docker-registry", "serve", str(config)], **quiet)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def timed(into: list[float]) -> Iterator[None]:
    begun = time.monotonic()
    yield
    into.append(time.monotonic() - begun)


def vmkit(home: Path, *words: str) -> int:
    """Run a command; return the most memory it had, in MiB."""
    return peak([str(VMKIT), "--quiet", *words], VMKIT_HOME=str(home))


def output(home: Path, *words: str) -> bytes:
    return subprocess.run(
        [VMKIT, *words], env={**os.environ, "VMKIT_HOME": str(home)}, check=True, stdout=subprocess.PIPE
    ).stdout


def peak(argv: list[object], **environment: str) -> int:
    child = subprocess.Popen([str(word) for word in argv], env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, child.args)
    return used.ru_maxrss // 1024


if __name__ == "__main__":
    main()
