"""A golden image's whole life, with real guests and a real registry: saved, signed, shared, fetched, trusted, cloned."""

import json
import plistlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import demo
from tests.e2e.harness import Lab
from tests.realregistry import REGISTRY, RealRegistry, real_registry
from vmkit.images.store import ImageStore

pytestmark = [pytest.mark.vm, pytest.mark.skipif(REGISTRY is None, reason="docker-registry is not installed")]

IDENTITY = """
cat /etc/machine-id /etc/hostname; cat /etc/ssh/ssh_host_*_key.pub; cat ~/.ssh/authorized_keys
cat /sys/class/net/e*/address; sudo -n cat /sys/class/dmi/id/product_uuid
"""
KIRO = '"$HOME/.local/bin/kiro-cli" --version'
# Where a secret is planted: in a history, and in a file that is deleted when its bytes are on the disk.
PLANT = "echo mine >~/kept; echo $0 | tee ~/.bash_history >~/gone; sync; rm ~/gone"
SECRET = "AKIA" + "VMKITPLANTED2345"


@dataclass(frozen=True)
class Golden:
    """A home of its own, a registry, and a key that signs."""

    lab: Lab
    registry: RealRegistry
    key: Path
    first: dict[str, Any]  # what the first push moved
    refused: str  # what was said when the secrets were still there

    def reference(self, tag: str) -> str:
        return f"{self.registry.host}/team/gold:{tag}"


@pytest.fixture(scope="module")
def golden(lab: Lab) -> Iterator[Golden]:
    """Save a machine with Kiro as an image, sign it, push it, and delete everything that was here."""
    with tempfile.TemporaryDirectory(prefix="vmkit-gold-") as root, demo.kirosim() as kiro:
        folder = Path(root)
        key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        made = Lab(folder / "home", extra={"VMKIT_KIRO_RELEASES": kiro["releases"]})
        made.home.mkdir(mode=0o700)
        subprocess.run(["cp", "-al", lab.home / "images", made.home / "images"], check=True)
        for name, value in (("cpus", "2"), ("memory", "1G"), ("disk", "8G"), ("egress", "open")):
            made.run("config", "set", f"defaults.{name}", value)
        with real_registry(folder) as registry:
            made.run("create", "maker", "-t", "kiro", "--no-login")
            made.exec("maker", "sh", "-c", PLANT, SECRET)
            made.run("stop", "maker")
            refused = made.run("image", "save", "maker", "gold:1", code=6).stderr.decode()
            made.run("image", "save", "maker", "gold:1", "--wipe")
            made.run("image", "sign", "gold:1", "--key", str(key))
            first = made.json("image", "push", "gold:1", f"{registry.host}/team/gold:1")["transfer"]
            made.run("delete", "maker")
            for image in made.json("image", "list")["images"]:
                made.run("image", "delete", image["name"])
            try:
                yield Golden(lab=made, registry=registry, key=key, first=first, refused=refused)
            finally:
                made.run("delete", "--force", "one", "two", code=None)


def ssh_port(bundle: Path) -> int:
    config = plistlib.loads((bundle / "config.plist").read_bytes())
    return int(config["Network"][0]["PortForward"][0]["HostPort"])


def test_a_secret_that_the_cleaning_would_take_away_is_named_first(golden: Golden) -> None:
    lines = [line.strip() for line in golden.refused.splitlines() if "aws-id" in line]

    assert {line.partition(": ")[0] for line in lines} >= {"/home/agent/.bash_history", "free space"}
    assert SECRET not in golden.refused


def test_what_was_pushed_comes_back_verified_and_runs_kiro_in_machines_that_share_no_identity(golden: Golden) -> None:
    lab = golden.lab
    lab.run("config", "set", "policy.require_signature", "true")
    pulled = lab.json("image", "pull", golden.reference("1"))["transfer"]
    assert (pulled["digest"], pulled["signatures"]) == (golden.first["digest"], 1)
    assert b"do not trust" in lab.run("create", "one", "--image", "gold:1", code=6).stderr
    lab.run("trust", "add", "team", f"{golden.key}.pub")
    lab.run("image", "verify", "gold:1")
    shown = lab.json("image", "show", "gold:1")["image"]
    assert (shown["sealed"], shown["signed_by"]) == (True, ["team"])
    assert [one["verdict"] for one in shown["signatures"]] == ["good"]
    store = ImageStore(lab.home / "images")
    disk = store.by_digest(pulled["digest"], name="gold:1").disk
    assert subprocess.run(["grep", "-ac", SECRET, disk], capture_output=True, check=False).stdout == b"0\n"
    sources = store.manifest(pulled["digest"]).meta.sources
    assert any(line.startswith("libc6 glibc ") for line in sources or ())

    for name in ("one", "two"):
        lab.run("create", name, "-t", "debian", "--image", "gold:1")

    said = {name: lab.exec(name, "sh", "-c", IDENTITY).splitlines() for name in ("one", "two")}
    assert all(len(lines) == 6 for lines in said.values())
    assert not set(said["one"]) & set(said["two"])
    assert "kiro-cli" in lab.exec("one", "sh", "-c", KIRO)
    assert lab.exec("one", "sh", "-c", "cat ~/kept; cat ~/.bash_history 2>/dev/null; true") == "mine\n"
    machines = [json.loads((lab.home / "machines" / name / "machine.json").read_text()) for name in ("one", "two")]
    assert machines[0]["uuid"] != machines[1]["uuid"]


def test_neither_clone_can_pass_for_the_other(golden: Golden) -> None:
    """Each is asked for with the other's keys: its host key is refused before anything is sent, and ours by its sshd."""
    lab = golden.lab
    keys = {name: lab.home / "machines" / name / "keys" for name in ("one", "two")}
    port = {name: ssh_port(lab.home / "machines" / name / f"{name}.utm") for name in keys}
    known = lab.home / "known_hosts"

    def ssh(to: str, *, host_key_of: str, user_key_of: str) -> str:
        known.write_text(f"[127.0.0.1]:{port[to]} {(keys[host_key_of] / 'host_key.pub').read_text()}")
        done = subprocess.run(
            [
                "ssh", "-F", "none", "-i", str(keys[user_key_of] / "user_key"), "-p", str(port[to]), "-o", "BatchMode=yes",
                "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}",
                "agent@127.0.0.1", "echo", "in",
            ],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout + done.stderr

    assert ssh("one", host_key_of="one", user_key_of="one") == "in\n"
    assert "Host key verification failed" in ssh("one", host_key_of="two", user_key_of="one")
    assert "Permission denied" in ssh("one", host_key_of="one", user_key_of="two")


def test_a_second_image_sends_what_is_new_and_an_unchanged_one_nothing(golden: Golden) -> None:
    lab = golden.lab
    lab.exec("one", "sudo", "-n", "apt-get", "update", "-q")
    lab.exec("one", "sudo", "-n", "apt-get", "install", "-y", "-q", "--no-install-recommends", "jq", "bc")
    lab.run("stop", "one")
    lab.run("stop", "two")
    lab.run("image", "save", "one", "gold:2")

    second = lab.json("image", "push", "gold:2", golden.reference("2"))["transfer"]
    again = lab.json("image", "push", "gold:2", golden.reference("2"))["transfer"]

    assert second["moved_bytes"] <= 0.45 * golden.first["moved_bytes"]
    assert again["moved_bytes"] == 0


def test_a_disposable_start_goes_on_from_the_ready_state_with_the_time_of_now(golden: Golden) -> None:
    lab = golden.lab
    lab.run("start", "--disposable", "two")
    lab.exec("two", "sh", "-c", "echo lost >~/lost")
    boot = lab.exec("two", "cat", "/proc/sys/kernel/random/boot_id")
    lab.run("stop", "two")
    time.sleep(15)  # a clock that was not set would be slow by more than this

    lab.run("start", "--disposable", "two")

    assert lab.exec("two", "cat", "/proc/sys/kernel/random/boot_id") == boot  # it did not boot
    assert abs(int(lab.exec("two", "date", "+%s")) - time.time()) < 10
    assert "reseeded due to virtual machine fork" in lab.exec("two", "sudo", "-n", "dmesg")
    assert lab.exec("two", "sh", "-c", "ls ~/lost 2>/dev/null; true") == ""
    lab.run("stop", "--force", "two")
    lab.run("start", "two")
    assert lab.exec("two", "cat", "/proc/sys/kernel/random/boot_id") != boot
    assert lab.exec("two", "sh", "-c", "ls ~/lost 2>/dev/null; true") == ""
