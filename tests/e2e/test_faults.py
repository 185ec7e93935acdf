"""Kill anything at any time: nothing is lost, half-made or orphaned."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import PATIENCE_S, Lab, eventually

pytestmark = pytest.mark.vm

SMALL = ("-t", "debian", "--cpus", "1", "--memory", "512M")


def journal_says(lab: Lab, phase: str) -> Callable[[], bool]:
    def says() -> bool:
        try:
            return bool(json.loads((lab.home / "machines/k/journal.json").read_text())["phase"] == phase)
        except (FileNotFoundError, ValueError):
            return False

    return says


def staged(lab: Lab) -> Callable[[], bool]:
    return lambda: any(path.is_dir() for path in (lab.home / "staging").glob("*"))


@pytest.mark.parametrize("phase", ["at once", "staging", "made", "boot", "qemu", "provision"])
def test_a_create_killed_at_any_phase_leaves_nothing_or_what_can_be_resumed_or_deleted(lab: Lab, phase: str) -> None:
    reached: dict[str, Callable[[], object]] = {
        "at once": lambda: True,
        "staging": staged(lab),
        "made": (lab.home / "machines/k").is_dir,
        "boot": journal_says(lab, "boot"),
        "qemu": lab.qemu_pids,
        "provision": journal_says(lab, "provision"),
    }
    others = set(lab.qemu_pids())
    if phase == "qemu":
        reached["qemu"] = lambda: set(lab.qemu_pids()) - others
    recipes = ("--recipe", "base") if phase == "provision" else ()
    process = lab.start("create", "k", *SMALL, *recipes)
    eventually(lambda: reached[phase]() or process.poll() is not None, phase)

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    if lab.state("k") is None:
        assert set(lab.qemu_pids()) == others
        assert not (lab.home / "machines/k").exists()
        lab.run("create", "k", *SMALL, "--no-start")
    else:
        assert "vmkit provision k" in lab.run("create", "k", *SMALL, code=4).stderr.decode()
        lab.run("provision", "k")
        assert lab.state("k") == "running"
        assert lab.exec("k", "hostname") == "k\n"
    lab.run("delete", "--force", "k")
    assert set(lab.qemu_pids()) == others
    assert not any(path.is_dir() for path in (lab.home / "staging").glob("*"))


def test_an_interrupted_create_is_deleted_without_force(lab: Lab) -> None:
    others = set(lab.qemu_pids())
    process = lab.start("create", "k", *SMALL)
    eventually(lambda: set(lab.qemu_pids()) - others, "QEMU runs")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    lab.run("delete", "k")

    assert lab.state("k") is None
    assert set(lab.qemu_pids()) == others


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_create_that_is_asked_to_end_ends_with_its_code(lab: Lab, number: signal.Signals, code: int) -> None:
    process = lab.start("create", "k", *SMALL)
    eventually(journal_says(lab, "boot"), "boot")

    process.send_signal(number)

    assert process.wait(timeout=60) == code
    lab.run("delete", "--force", "k")


def test_a_killed_qemu_is_a_stopped_machine_at_once_and_starts_again(lab: Lab) -> None:
    lab.run("create", "k", *SMALL)
    lab.run("exec", "k", "--", "sh", "-c", "echo kept >kept; sync")
    os.kill(lab.pid_of("k"), signal.SIGKILL)
    eventually(lambda: not any("/machines/k/" in cmdline(pid) for pid in lab.qemu_pids()), "QEMU is gone")

    state = lab.state("k")
    refused = lab.run("exec", "k", "--", "true", code=4).stderr.decode()
    lab.run("start", "k")

    assert state == "stopped"
    assert "hint: vmkit start k" in refused
    assert lab.exec("k", "cat", "kept") == "kept\n"
    lab.run("delete", "--force", "k")


def test_a_machine_stops_starts_in_the_foreground_and_restarts(lab: Lab) -> None:
    lab.run("create", "k", *SMALL)
    lab.exec("k", "sh", "-c", "echo kept >kept")
    first = lab.exec("k", "cat", "/proc/sys/kernel/random/boot_id")
    lab.run("start", "k", code=4)

    stopped = lab.run("stop", "--timeout", "240", "k")  # a loaded computer takes its time
    lab.run("stop", "k", code=4)

    kept = lab.start("start", "--foreground", "k")
    eventually(lambda: lab.run("exec", "k", "--", "true", code=None).returncode == 0, "an exec that works")
    second = lab.exec("k", "cat", "/proc/sys/kernel/random/boot_id")
    kept.terminate()
    said = kept.communicate(timeout=PATIENCE_S)[1].decode()
    assert kept.returncode == 143, said
    assert lab.state("k") == "stopped"

    lab.run("restart", "k")
    third = lab.exec("k", "cat", "/proc/sys/kernel/random/boot_id")

    assert "forced" not in stopped.stderr.decode()
    assert len({first, second, third}) == 3
    assert lab.exec("k", "cat", "kept") == "kept\n"
    lab.run("delete", "k", code=4)
    lab.run("delete", "--force", "k")


def test_waiting_ends_early_when_qemu_dies_with_the_consoles_words(lab: Lab) -> None:
    others = set(lab.qemu_pids())
    process = lab.start("create", "k", *SMALL, "--timeout", "3000")
    console = lab.home / "machines/k/console.log"
    eventually(lambda: set(lab.qemu_pids()) - others, "QEMU runs")
    eventually(lambda: console.exists() and console.stat().st_size > 0, "the guest says something")
    for pid in set(lab.qemu_pids()) - others:
        os.kill(pid, signal.SIGKILL)

    _, err = process.communicate(timeout=60)

    assert process.returncode == 7, err
    assert b"hint: vmkit logs k" in err
    lab.run("delete", "k")


def test_a_guest_that_never_comes_up_times_out(lab: Lab) -> None:
    lab.run("create", "k", *SMALL, "--timeout", "1", code=5)

    assert lab.state("k") == "running"
    lab.run("provision", "k")
    lab.run("delete", "--force", "k")


def test_the_port_of_a_stopped_machine_may_be_taken_meanwhile(lab: Lab) -> None:
    lab.run("create", "k", *SMALL)
    port = lab.json("info", "k")["machine"]["address"]["port"]
    lab.run("stop", "k", "--force")
    with socket.create_server(("127.0.0.1", port)):
        lab.run("start", "k")
        assert lab.json("info", "k")["machine"]["address"]["port"] != port
        assert lab.exec("k", "hostname") == "k\n"
    lab.run("delete", "--force", "k")


def test_another_sshd_on_the_port_is_refused(lab: Lab, machine: str) -> None:
    lab.run("create", "k", *SMALL)
    pinned = lab.home / "machines/k/keys/host_key.pub"
    pinned.write_text((lab.home / f"machines/{machine}/keys/host_key.pub").read_text())

    said = lab.run("exec", "k", "--", "true", code=6).stderr.decode()

    assert "host key" in said
    lab.run("delete", "--force", "k")


def test_list_answers_although_a_machine_is_frozen(lab: Lab) -> None:
    lab.run("create", "k", *SMALL)
    pid = lab.pid_of("k")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert lab.state("k") == "running"
    finally:
        os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGSTOP)
    lab.run("delete", "--force", "k")  # SIGKILL ends a stopped process too

    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
