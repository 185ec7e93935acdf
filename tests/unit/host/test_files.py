"""Files that are whole or absent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmkit.errors import Busy, HostLacks, Refused
from vmkit.host.files import (
    Lock,
    is_locked,
    own_directory,
    publish,
    read_bounded,
    require_space,
    staging,
    sweep,
    write_atomically,
)

HOLD = """
import sys, time
from pathlib import Path
from vmkit.host.files import Lock, staging
kind, path = sys.argv[1], Path(sys.argv[2])
with (Lock(path).acquire("test") if kind == "lock" else staging(path)) as held:
    print("held", flush=True)
    time.sleep(60)
"""


def holder(kind: str, path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, kind, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    process = holder("lock", tmp_path / "a.lock")

    with pytest.raises(Busy, match=f"test \\(process {process.pid}\\)"):
        Lock(tmp_path / "a.lock").acquire("mine")
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert not is_locked(tmp_path / "a.lock")
    Lock(tmp_path / "a.lock").acquire("mine").release()


def test_asking_for_a_lock_does_not_disturb_who_takes_it(tmp_path: Path) -> None:
    with Lock(tmp_path / "a.lock").acquire("mine"):
        assert is_locked(tmp_path / "a.lock")
    assert not is_locked(tmp_path / "a.lock")
    assert not is_locked(tmp_path / "never.lock")


def test_staging_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staging(tmp_path) as folder:
            (folder / "half").write_text("made")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert {path.name for path in tmp_path.iterdir()} == {"guard"}


def test_what_a_killed_process_staged_is_swept_and_what_a_living_one_stages_is_not(tmp_path: Path) -> None:
    dead, alive = holder("staging", tmp_path), holder("staging", tmp_path)
    dead.kill()
    dead.wait()
    sweep(tmp_path)
    left = [path for path in tmp_path.iterdir() if path.is_dir()]
    alive.kill()
    alive.wait()

    assert len(left) == 1


def test_publish_does_not_replace(tmp_path: Path) -> None:
    own_directory(tmp_path / "to")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    publish(tmp_path / "one", tmp_path / "to" / "a")

    with pytest.raises(FileExistsError):
        publish(tmp_path / "two", tmp_path / "to" / "a")

    assert (tmp_path / "to" / "a" / "file").read_text() == "one"


def test_an_atomic_write_is_private_and_leaves_no_temporary(tmp_path: Path) -> None:
    write_atomically(tmp_path / "f", b"old")
    write_atomically(tmp_path / "f", b"new")

    assert (tmp_path / "f").read_bytes() == b"new"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_a_killed_atomic_write_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    write_atomically(tmp_path / "f", b"0" * 100_000)
    code = (
        "import sys; from pathlib import Path; from vmkit.host.files import write_atomically\n"
        "print('go', flush=True)\n"
        "for n in range(10**6): write_atomically(Path(sys.argv[1]), str(n % 10).encode() * 100_000)"
    )
    for delay in (0.0, 0.003, 0.011, 0.02):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "f")], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.wait()

        content = (tmp_path / "f").read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1


def test_bounded_reading_refuses_what_is_longer(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")

    assert read_bounded(tmp_path / "f", max_bytes=5) == b"12345"
    with pytest.raises(Refused):
        read_bounded(tmp_path / "f", max_bytes=4)


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")

    for name in ("open", "link"):
        with pytest.raises(Refused):
            own_directory(tmp_path / name)


def test_missing_space_is_told_with_the_figures(tmp_path: Path) -> None:
    with pytest.raises(HostLacks) as raised:
        require_space(tmp_path, needed_bytes=1 << 60, what="an image")

    assert "GiB are needed" in str(raised.value.detail)
