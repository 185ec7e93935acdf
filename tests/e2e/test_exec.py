"""Commands in the guest: exit codes, streams, signals, copies."""

import hashlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import SCRIPT, Lab, eventually

pytestmark = pytest.mark.vm


@pytest.mark.parametrize("code", [0, 1, 37, 255])
def test_the_exit_code_is_the_guests(lab: Lab, machine: str, code: int) -> None:
    lab.run("exec", machine, "--", "sh", "-c", f"exit {code}", code=code)


def test_words_reach_the_guest_as_they_are(lab: Lab, machine: str) -> None:
    words = ["a b", "$HOME", "`id`", "'", '"', "\\", "*", "new\nline", "", "-x", "é"]

    assert lab.exec(machine, "printf", "%s|", *words) == "".join(f"{word}|" for word in words)


def test_streams_are_kept_apart(lab: Lab, machine: str) -> None:
    done = lab.run("exec", machine, "--", "sh", "-c", "echo out; echo err >&2")

    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_a_hundred_mebibytes_through_and_back_are_bit_identical(lab: Lab, machine: str, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(100 << 20))

    with sent.open("rb") as source, (tmp_path / "back").open("wb") as back:
        subprocess.run(
            [SCRIPT, "exec", machine, "--", "cat"], stdin=source, stdout=back, env=lab.environment, check=True
        )

    assert digest(tmp_path / "back") == digest(sent)


def test_fifty_mebibytes_on_both_streams_at_once_do_not_deadlock(lab: Lab, machine: str, tmp_path: Path) -> None:
    script = "head -c 52428800 /dev/zero & head -c 52428800 /dev/zero >&2; wait"

    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        subprocess.run(
            [SCRIPT, "exec", machine, "--", "sh", "-c", script], stdout=out, stderr=err, env=lab.environment, check=True
        )

    assert (tmp_path / "out").stat().st_size == (tmp_path / "err").stat().st_size == 50 << 20


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_reaches_the_guests_process(lab: Lab, machine: str, number: signal.Signals, code: int) -> None:
    seconds = f"3{number.value:03}"
    process = lab.start("exec", machine, "--", "sh", "-c", f"echo started; sleep {seconds}; echo unreachable")
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"

    process.send_signal(number)

    assert process.wait(timeout=60) == code
    eventually(lambda: not running(lab, machine, f"sleep {seconds}"), "the guest's process is gone")


def test_the_machine_need_not_be_named_when_the_environment_does(lab: Lab, machine: str) -> None:
    done = lab.run("exec", "--", "hostname", env={"VMKIT_MACHINE": machine})

    assert done.stdout == f"{machine}\n".encode()


def test_nothing_of_this_environment_reaches_the_guest(lab: Lab, machine: str) -> None:
    done = lab.run("exec", machine, "--", "env", env={"AWS_SECRET_ACCESS_KEY": "canary", "LC_CANARY": "canary"})

    assert b"canary" not in done.stdout


def test_trees_survive_the_way_in_and_back(lab: Lab, machine: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "er" / "file with space é").write_bytes(os.urandom(100_000))
    (tree / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("run.sh")
    (tree / "empty").touch()

    lab.run("copy", str(tree), f"{machine}:copied")
    ran = lab.exec(machine, "./copied/link")
    lab.run("copy", f"{machine}:copied", str(tmp_path / "back"))
    lab.exec(machine, "rm", "-r", "copied")

    assert ran == "ran\n"
    assert listing(tmp_path / "back") == listing(tree)


def test_copying_what_is_not_there_is_not_found(lab: Lab, machine: str, tmp_path: Path) -> None:
    lab.run("copy", str(tmp_path / "ghost"), f"{machine}:x", code=3)
    lab.run("copy", f"{machine}:ghost", str(tmp_path), code=3)

    assert list(tmp_path.iterdir()) == []


def running(lab: Lab, machine: str, command: str) -> bool:
    return lab.run("exec", machine, "--", "pgrep", "-fx", command, code=None).returncode == 0


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(root: Path) -> dict[str, object]:
    return {
        str(path.relative_to(root)): os.readlink(path)
        if path.is_symlink()
        else (path.stat().st_mode & 0o777, path.read_bytes())
        if path.is_file()
        else "folder"
        for path in root.rglob("*")
    }
