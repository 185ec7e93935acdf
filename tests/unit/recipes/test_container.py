"""The container's scripts: its profile of system calls, and what they hand to the engine for an unpacked image."""

import json
import sys
from pathlib import Path
from typing import Any

from vmkit.host.process import Runner
from vmkit.host.resources import data_folder

FOLDER = data_folder("provision") / "container"


def narrowed(profile: dict[str, Any]) -> dict[str, Any]:
    words = [sys.executable, "-I", str(FOLDER / "seccomp.py")]
    found: dict[str, Any] = json.loads(Runner().run(words, stdin=json.dumps(profile).encode(), timeout_s=20).stdout)
    return found


def test_namespaces_and_mounts_are_taken_from_what_is_allowed_to_all() -> None:
    names = ["clone", "clone3", "mount", "openat", "setns", "unshare"]
    privileged = {"names": ["mount", "setns"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}
    refused = {"names": ["setns"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}}
    given = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38}

    found = narrowed(
        given | {"syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW", "args": []}, privileged, refused]}
    )

    everyone, *rest = found.pop("syscalls")
    assert found == given
    assert everyone["names"] == ["openat"]
    assert rest[:2] == [privileged, refused]
    [clone] = rest[2:]
    assert (clone["names"], clone["action"]) == (["clone"], "SCMP_ACT_ALLOW")
    [flags] = clone["args"]
    assert flags["op"] == "SCMP_CMP_MASKED_EQ"
    for new in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):  # clone(2)
        assert new & flags["value"] != flags["valueTwo"]
    assert 0x00000100 & flags["value"] == flags["valueTwo"]  # CLONE_VM: a thread


def test_an_unpacked_image_is_run_as_it_is_with_its_profile(tmp_path: Path) -> None:
    (tmp_path / "podman").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "podman").chmod(0o755)
    (tmp_path / "project").mkdir()
    (tmp_path / "run.sh").write_bytes((FOLDER / "run.sh").read_bytes())
    (tmp_path / "run.env").write_text(f"ENGINE={tmp_path}/podman\nROOTFS=/a/root\nSECCOMP=/a/seccomp.json\nPIDS=\n")

    command = ["sh", "-c", 'cd "$1" && sh ../run.sh git "a b"', "sh", str(tmp_path / "project")]
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    words = Runner().run(command, env=env, timeout_s=20).stdout.decode().splitlines()

    assert words[:2] == ["--log-level=error", "run"]
    assert words[-4:] == ["--rootfs", "/a/root", "git", "a b"]
    assert {"--read-only", "--cap-drop=ALL", "--security-opt=seccomp=/a/seccomp.json", "HOME=/home/agent"} <= set(words)
    assert not [word for word in words if word.startswith("--pids-limit")]
