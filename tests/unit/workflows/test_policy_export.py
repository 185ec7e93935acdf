"""What `vmkit policy export` writes for this computer: whole, never over what is there, and saying what it is not."""

import json
import re
from pathlib import Path

import pytest

from tests.kirosim.mirror import build_mirror
from vmkit.errors import UsageError, WrongState
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.kiro.release import Libc, Release, fetch_release
from vmkit.network.policy import Mode, Policy
from vmkit.network.rules import Rule
from vmkit.workflows.policy_export import (
    BASE_GLIBC,
    NewFile,
    checked_output,
    docker_files,
    hook_files,
    srt_files,
    write_files,
)

STRICT = Policy(mode=Mode.STRICT, rules=(Rule(host="a.example.com"),))


@pytest.fixture
def release(tmp_path: Path) -> Release:
    mirror = build_mirror(tmp_path / "mirror", service="http://127.0.0.1:1")
    return fetch_release(
        arch="x86_64", libc=Libc.GLIBC, glibc_version=BASE_GLIBC, cache=tmp_path / "cache", report=Silent(),
        base=mirror.as_uri(),
    )  # fmt: skip


def test_srt_files_go_into_a_folder_or_to_a_file_of_their_own(tmp_path: Path) -> None:
    in_folder, _ = srt_files(STRICT, tmp_path / "out", now=0)
    as_file, _ = srt_files(STRICT, tmp_path / ".srt-settings.json", now=0)

    assert [path.name for path in in_folder] == ["srt-settings.json", "README.txt"]
    assert [path.name for path in as_file] == [".srt-settings.json", ".srt-settings-README.txt"]
    assert str(tmp_path / "out" / "srt-settings.json") in in_folder[tmp_path / "out" / "README.txt"].content.decode()


def test_every_text_file_says_what_the_wall_does_not_stop(tmp_path: Path, release: Release) -> None:
    folders = [
        srt_files(STRICT, tmp_path, now=0),
        docker_files(STRICT, tmp_path, release=release),
        hook_files(tmp_path),
    ]

    for files, _ in folders:
        for path, file in files.items():
            if file.copy_of is None and path.name not in ("vmkit.json", "install.sh"):  # Kiro's; the recipe's own
                text = file.content.decode()
                assert "not stop" in text, path
                assert not re.search("@[A-Z]", text), path


def test_the_container_is_pinned_to_the_verified_archive(tmp_path: Path, release: Release) -> None:
    files, remarks = docker_files(STRICT, tmp_path, release=release)
    write_files(files, force=False)

    archive = tmp_path / release.package.file_name
    said = (tmp_path / "image.env").read_text()
    assert archive.read_bytes() == release.archive.read_bytes()
    assert f"KIRO_SHA256={release.sha256}\n" in said
    assert "a.example.com" in (tmp_path / "README.txt").read_text()
    assert "not a list" in remarks[0].text
    assert "curl -fsSL" not in (tmp_path / "Dockerfile").read_text()


@pytest.mark.parametrize(("mode", "network"), [(Mode.AIRGAP, "none"), (Mode.STRICT, ""), (Mode.OPEN, "")])
def test_the_scripts_hand_the_engine_what_they_should(
    tmp_path: Path, release: Release, mode: Mode, network: str
) -> None:
    write_files(docker_files(Policy(mode=mode), tmp_path / "out", release=release)[0], force=False)
    engine = tmp_path / "engine"
    engine.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    engine.chmod(0o755)
    (tmp_path / "my project").mkdir()
    env = {"ENGINE": str(engine), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    built = Runner().run(["sh", str(tmp_path / "out" / "build.sh")], env=env, timeout_s=20).stdout.decode().splitlines()
    run = ["sh", "-c", 'cd "$1" && sh "$2" a "b c"', "sh", str(tmp_path / "my project"), str(tmp_path / "out/run.sh")]
    ran = Runner().run(run, env=env, timeout_s=20).stdout.decode().splitlines()

    assert built[0] == "build"
    assert f"KIRO_SHA256={release.sha256}" in built
    assert {"--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--rm"} <= set(ran)
    assert f"{tmp_path}/my project:{tmp_path}/my project" in ran
    assert [word for word in ran if word.startswith("--network")] == ([f"--network={network}"] if network else [])
    assert ran[-3:] == ["vmkit-kiro", "a", "b c"]


@pytest.mark.parametrize("where", ["home", "colon"])
def test_the_container_does_not_mount_what_is_too_much_or_cannot_be_said(
    tmp_path: Path, release: Release, where: str
) -> None:
    write_files(docker_files(STRICT, tmp_path / "out", release=release)[0], force=False)
    folder = tmp_path if where == "home" else tmp_path / "a:b"
    folder.mkdir(exist_ok=True)
    command = ["sh", "-c", 'cd "$1" && sh "$2"', "sh", str(folder), str(tmp_path / "out" / "run.sh")]

    done = Runner().run(
        command, env={"ENGINE": "/bin/false", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, ok_codes=None,
        timeout_s=20,
    )  # fmt: skip

    assert done.code == 2


def test_the_hook_is_called_where_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "a folder" / ".kiro"
    write_files(hook_files(folder)[0], force=False)

    agent = json.loads((folder / "agents" / "vmkit.json").read_text())
    command = agent["hooks"]["preToolUse"][0]["command"]
    event = json.dumps({"tool_name": "fs_write", "tool_input": {"path": f"{folder}/vmkit-hooks/deny"}})
    done = Runner().run(["sh", "-c", command], stdin=event.encode(), env={"HOME": str(tmp_path)}, ok_codes=None,
                        timeout_s=20)  # fmt: skip

    assert done.code == 2
    assert b"hooks" in done.stderr


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    files = {tmp_path / "a": NewFile(content=b"1"), tmp_path / "b": NewFile(content=b"2")}

    with pytest.raises(WrongState, match="1 of 2") as refused:
        write_files(files, force=False)

    assert refused.value.detail == str(tmp_path / "b")
    assert not (tmp_path / "a").exists()
    write_files(files, force=True)
    assert (tmp_path / "b").read_text() == "2"


def test_a_failure_leaves_no_new_file(tmp_path: Path) -> None:
    files = {tmp_path / "a": NewFile(content=b"1"), tmp_path / "b": NewFile(copy_of=tmp_path / "nothing")}

    with pytest.raises(FileNotFoundError):
        write_files(files, force=False)

    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_stand_in_a_script_is_refused() -> None:
    with pytest.raises(UsageError):
        checked_output(Path("a\nb"))
