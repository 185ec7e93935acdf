"""`vmkit create` until SSH is ready, against the same guest started by a hand-written QEMU command line; one run.

Both use the same image (built before), the same CPUs and memory, software emulation or KVM alike, and alternate.
By hand is: an overlay, qemu, and ssh tried every 0.2 s; its seed and keys are made before the clock starts.

Usage: python bench/create.py [ROUNDS]
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vmkit.bundle.seed import SeedValues, make_seed
from vmkit.guest.keys import make_keys

VMKIT = Path(sys.executable).with_name("vmkit")
LIMIT = 1.25
CPUS, MEMORY_MIB, DISK = 2, 1024, "8G"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory(prefix="vmkit-bench-") as folder:
        home = Path(os.environ.get("VMKIT_BENCH_HOME", folder)) / "h"
        if not json.loads(vmkit(home, "image", "list", "--json"))["images"]:
            vmkit(home, "image", "build", "debian-13")
        accelerator = warm_up(home)
        tool, hand = [], []
        for number in range(rounds):
            hand.append(by_hand(home, Path(folder) / f"hand{number}", accelerator))
            tool.append(by_vmkit(home, f"bench{number}"))
            print(f"round {number + 1}: by hand {hand[-1]:.1f} s, vmkit create {tool[-1]:.1f} s", flush=True)
    ratio = statistics.median(tool) / statistics.median(hand)
    print(f"medians: {statistics.median(hand):.1f} s by hand, {statistics.median(tool):.1f} s vmkit ({accelerator})")
    print(f"ratio {ratio:.2f} (at most {LIMIT})")


def vmkit(home: Path, *words: str) -> bytes:
    return subprocess.run(
        [VMKIT, *words], env={**os.environ, "VMKIT_HOME": str(home)}, check=True, stdout=subprocess.PIPE
    ).stdout


def warm_up(home: Path) -> str:
    """Pay what is paid once (the accelerator's self-test, the page cache) and learn which accelerator is used."""
    vmkit(home, "--quiet", "create", "warm", "-t", "debian", "--disk", DISK, "--memory", f"{MEMORY_MIB}M")
    facts = json.loads(vmkit(home, "info", "warm", "--json"))["machine"]["driver_facts"]
    vmkit(home, "--quiet", "delete", "--force", "warm")
    return str(facts["accelerator"]).partition(":")[0]


def by_vmkit(home: Path, name: str) -> float:
    begun = time.monotonic()
    vmkit(
        home,
        "--quiet",
        "create",
        name,
        "-t",
        "debian",
        "--cpus",
        str(CPUS),
        "--memory",
        f"{MEMORY_MIB}M",
        "--disk",
        DISK,
    )
    took = time.monotonic() - begun
    vmkit(home, "--quiet", "delete", "--force", name)
    return took


def by_hand(home: Path, folder: Path, accelerator: str) -> float:
    image = json.loads(vmkit(home, "image", "show", "debian-13", "--json"))["image"]
    [base] = [entry for entry in (home / "images" / "assembled").glob("*") if entry.name in image["digest"]]
    folder.mkdir()
    keys = make_keys(folder / "keys")
    make_seed(
        folder / "seed.iso",
        SeedValues(
            instance_id="bench", hostname="hand", user="agent", authorized_key=keys.user_public,
            host_key_private=keys.host_key.read_text(), host_key_public=keys.host_public,
        ),
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    begun = time.monotonic()
    overlay = ["-f", "qcow2", "-F", "raw", "-b", str(base / "disk.raw"), str(folder / "disk.qcow2"), DISK]
    subprocess.run(["qemu-img", "create", "-q", *overlay], check=True)
    machine = subprocess.Popen(
        [
            "qemu-system-x86_64", "-machine", "q35",
            "-accel", "tcg,thread=single" if accelerator == "tcg" else accelerator,
            "-cpu", "max,-cx16" if accelerator.startswith("tcg") else "host",
            "-smp", str(CPUS), "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none", "-device", "virtio-rng-pci",
            "-drive", f"if=virtio,format=qcow2,file={folder}/disk.qcow2",
            "-drive", f"if=virtio,format=raw,readonly=on,file={folder}/seed.iso",
            "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=n",
            "-kernel", str(base / "kernel"), "-initrd", str(base / "initrd"), "-append", image["kernel_arguments"],
            "-serial", f"file:{folder}/console.log",
        ],
    )  # fmt: skip
    ssh = [
        "ssh", "-F", "none", "-i", str(keys.user_key), "-p", str(port), "-o", "IdentitiesOnly=yes",
        "-o", "ConnectTimeout=10",
        "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known", "-o", "LogLevel=ERROR",
        "agent@127.0.0.1", "true",
    ]  # fmt: skip
    try:
        while subprocess.run(ssh, check=False, stderr=subprocess.DEVNULL).returncode != 0:
            if machine.poll() is not None:
                raise SystemExit(f"qemu ended with {machine.returncode}")
            time.sleep(0.2)
        return time.monotonic() - begun
    finally:
        machine.kill()
        machine.wait()


if __name__ == "__main__":
    main()
