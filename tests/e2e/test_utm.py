"""The first machine's whole story with `--driver utm`: UTM is simulated, its QEMU and the guest are real."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import utmsim
from tests.e2e.harness import SCRIPT, Lab
from tests.e2e.test_cloud_image import tell_the_story
from tests.e2e.test_shell import Tmux

pytestmark = pytest.mark.vm

NAME = "kiro-vm"
KIRO = "$HOME/.local/bin/kiro-cli"


class Mac:
    """A home with a simulated UTM in it, and vmkit's images beside."""

    def __init__(self, folder: Path, images: Path, **extra: str) -> None:
        self.user_home = folder / "user"
        self.user_home.mkdir()
        self.sim = utmsim.install(folder / "utm")
        self.lab = Lab(folder / "home", extra={**self.sim.environment, "HOME": str(self.user_home), **extra})
        self.lab.home.mkdir(mode=0o700)
        subprocess.run(["cp", "-a", "--reflink=auto", images, self.lab.home / "images"], check=True)
        self.lab.run("config", "set", "defaults.driver", "utm")

    def utmctl(self, *words: str) -> str:
        """Ask UTM itself."""
        utmctl = Path(self.sim.environment["VMKIT_UTM_APP"]) / "Contents/MacOS/utmctl"
        return subprocess.run(
            [utmctl, *words], env=self.lab.environment, check=True, capture_output=True, text=True
        ).stdout

    def bundles(self) -> list[str]:
        """Return the bundles that UTM holds."""
        documents = self.sim.documents(self.user_home)
        return sorted(path.name for path in documents.iterdir()) if documents.is_dir() else []


@contextmanager
def kirosim() -> Iterator[dict[str, Any]]:
    argv = [sys.executable, "-m", "tests.kirosim", "serve", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def a_mac(lab: Lab) -> Iterator[Mac]:
    with tempfile.TemporaryDirectory(prefix="vmkit-mac-") as folder, kirosim() as kiro:
        mac = Mac(Path(folder), lab.home / "images", VMKIT_KIRO_RELEASES=kiro["releases"])
        try:
            yield mac
        finally:
            for found in mac.lab.json("list")["machines"]:
                mac.lab.run("delete", "--force", found["name"])


@pytest.fixture(scope="module")
def mac(lab: Lab) -> Iterator[Mac]:
    with a_mac(lab) as made:
        yield made


@pytest.fixture
def kiro_vm(mac: Mac) -> str:
    """Return a running machine with Kiro CLI, made the first time."""
    if mac.lab.state(NAME) is None:
        mac.lab.run("create", NAME, "--cpus", "2", "--memory", "1G", "--disk", "8G")
    if mac.lab.state(NAME) != "running":
        mac.lab.run("start", NAME)
    return NAME


def test_create_registers_the_machine_with_utm_and_brings_kiro_in(mac: Mac) -> None:
    made = json.loads(mac.lab.run("create", NAME, "--cpus", "2", "--memory", "1G", "--disk", "8G", "--json").stdout)

    uuid = made["machine"]["uuid"]
    assert (made["machine"]["driver"], made["machine"]["state"]) == ("utm", "running")
    assert made["provision"]["failed"] == 0
    assert made["provision"]["changed"] > 0
    assert mac.utmctl("status", uuid).strip() == "started"
    assert mac.bundles() == [f"{NAME}.utm"]
    assert "kiro" in mac.lab.exec(NAME, "sh", "-c", f'"{KIRO}" --version').lower()


def test_our_copy_of_the_bundle_keeps_no_disk(mac: Mac, kiro_vm: str) -> None:
    bundle = Path(mac.lab.json("info", kiro_vm)["machine"]["bundle"])

    assert (bundle / "config.plist").is_file()
    assert not list((bundle / "Data").glob("*.qcow2"))


def test_the_guest_sees_what_was_asked_for(mac: Mac, kiro_vm: str) -> None:
    cpus = int(mac.lab.exec(kiro_vm, "nproc"))
    memory_kib = int(mac.lab.exec(kiro_vm, "awk", "/MemTotal/ {print $2}", "/proc/meminfo"))
    disk = int(mac.lab.exec(kiro_vm, "sh", "-c", "df -B1 --output=size / | tail -1"))
    name = mac.lab.exec(kiro_vm, "hostname").strip()

    assert cpus == 2
    assert 0.85 * 1024 < memory_kib / 1024 <= 1024
    assert 0.9 * 8 < disk / 2**30 <= 8
    assert name == kiro_vm


def test_exec_passes_streams_and_exit_code(mac: Mac, kiro_vm: str) -> None:
    sent = os.urandom(1 << 20)

    done = mac.lab.run("exec", kiro_vm, "--", "sh", "-c", "cat; echo oops >&2; exit 7", stdin=sent, code=7)

    assert done.stdout == sent
    assert done.stderr.decode().endswith("oops\n")


def test_a_file_goes_there_and_back(mac: Mac, kiro_vm: str, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(os.urandom(1 << 20))

    mac.lab.run("copy", str(tmp_path / "there"), f"{kiro_vm}:/tmp/there")
    mac.lab.run("copy", f"{kiro_vm}:/tmp/there", str(tmp_path / "back"))

    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_shell_opens_a_terminal(mac: Mac, kiro_vm: str) -> None:
    tmux = Tmux(mac.lab)
    try:
        tmux.types(f"{SCRIPT} shell {kiro_vm}")
        tmux.waits_for("agent@")
        tmux.types("echo $((6*7))_; tty")
        tmux.waits_for("/dev/pts/")
        screen = tmux.screen()
        tmux.types("exit")
        assert tmux.is_sane()
    finally:
        tmux.close()

    assert "42_" in screen


def test_a_second_provision_changes_nothing(mac: Mac, kiro_vm: str) -> None:
    done = mac.lab.json("provision", kiro_vm)["provision"]

    assert (done["changed"], done["failed"]) == (0, 0)
    assert done["unchanged"] > 0


def test_list_shows_machines_of_both_drivers(mac: Mac, kiro_vm: str) -> None:
    mac.lab.run("create", "plain", "-t", "debian", "--driver", "qemu", "--no-start")

    drivers = {found["name"]: (found["driver"], found["state"]) for found in mac.lab.json("list")["machines"]}
    mac.lab.run("delete", "plain")

    assert drivers == {kiro_vm: ("utm", "running"), "plain": ("qemu", "stopped")}


def test_a_suspended_machine_is_paused_until_it_is_started(mac: Mac, kiro_vm: str) -> None:
    mac.lab.run("suspend", kiro_vm)
    paused = mac.lab.state(kiro_vm)
    refused = mac.lab.run("exec", kiro_vm, "--", "true", code=4).stderr.decode()
    mac.lab.run("start", kiro_vm)

    assert paused == "paused"
    assert f"hint: vmkit start {kiro_vm}" in refused
    assert mac.lab.exec(kiro_vm, "echo", "back") == "back\n"


def test_logs_show_the_console_of_the_last_start(mac: Mac, kiro_vm: str) -> None:
    assert "vmkit: ready" in mac.lab.run("logs", kiro_vm).stdout.decode()


def test_a_machine_that_was_stopped_keeps_its_disk(mac: Mac, kiro_vm: str) -> None:
    mac.lab.exec(kiro_vm, "sh", "-c", "echo kept >kept && sync")
    stopped = mac.lab.run("stop", kiro_vm).stderr.decode()
    state = mac.lab.state(kiro_vm)
    mac.lab.run("restart", kiro_vm)

    assert "was forced" not in stopped
    assert state == "stopped"
    assert mac.lab.exec(kiro_vm, "cat", "kept") == "kept\n"


@pytest.mark.long
def test_what_a_disposable_start_writes_is_gone_afterwards(mac: Mac, kiro_vm: str) -> None:
    mac.lab.run("stop", "--force", kiro_vm)
    mac.lab.run("start", "--disposable", kiro_vm)
    mac.lab.exec(kiro_vm, "sh", "-c", "echo passing >passing && sync")
    mac.lab.run("stop", "--force", kiro_vm)
    mac.lab.run("start", kiro_vm)

    assert mac.lab.run("exec", kiro_vm, "--", "test", "-e", "passing", code=None).returncode == 1


def test_a_taken_port_is_changed_in_utm_and_the_machine_starts(mac: Mac, kiro_vm: str) -> None:
    taken = mac.lab.json("info", kiro_vm)["machine"]["address"]["port"]
    mac.lab.run("stop", "--force", kiro_vm)

    with socket.create_server(("127.0.0.1", taken)):
        mac.lab.run("start", kiro_vm)
    port = mac.lab.json("info", kiro_vm)["machine"]["address"]["port"]

    assert port != taken
    assert mac.lab.exec(kiro_vm, "hostname").strip() == kiro_vm


def test_a_deleted_machine_is_gone_from_utm(mac: Mac, kiro_vm: str) -> None:
    refused = mac.lab.run("delete", kiro_vm, code=4).stderr.decode()

    mac.lab.run("delete", "--force", kiro_vm)

    assert "is running" in refused
    assert mac.bundles() == []
    assert mac.utmctl("list").splitlines()[1:] == []
    assert mac.lab.state(kiro_vm) is None


@pytest.mark.long
def test_a_fetched_image_boots_in_utm_by_its_own_firmware_and_cloud_init(lab: Lab, fetched_image: str) -> None:
    with a_mac(lab) as mac:
        tell_the_story(mac.lab, "cloud", fetched_image)

        assert "cloud.utm" not in mac.bundles()
