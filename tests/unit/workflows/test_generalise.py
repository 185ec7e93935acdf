"""What the script that generalises a guest takes out of a tree, and what it leaves."""

import os
import subprocess
from pathlib import Path

import pytest

from vmkit.host.resources import data_folder

SCRIPT = data_folder("provision") / "generalise/clean.sh"
SECRET = "canary-1b7f"


def write(root: Path, name: str, content: str = SECRET) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture
def root(tmp_path):
    tree = tmp_path / "root"
    write(
        tree, "etc/passwd", "root:x:0:0::/root:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/sh\nd:x:1:1::/usr/sbin:/x\n"
    )
    for folder in ("root", "home/agent", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "tmp"):
        (tree / folder).mkdir(parents=True)
    return tree


def clean(root: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {"VMKIT_ROOT": str(root), "PATH": os.environ["PATH"]}
    return subprocess.run(["sh", str(SCRIPT)], env=environment, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "name",
    [
        "home/agent/.ssh/authorized_keys",
        "home/agent/.ssh/id_ed25519",
        "root/.ssh/known_hosts",
        "home/agent/.bash_history",
        "root/.python_history",
        "home/agent/.lesshst",
        "home/agent/.local/share/kiro-cli/data.sqlite3",
        "home/agent/.local/share/kiro-cli/data.sqlite3-wal",
        "home/agent/.local/share/amazon-q/data.sqlite3",
        "home/agent/.aws/sso/cache/token.json",
        "home/agent/.aws/credentials",
        "home/agent/.git-credentials",
        "home/agent/.netrc",
        "home/agent/.docker/config.json",
        "home/agent/.cache/pip/x",
        "home/agent/.kiro/sessions/1.json",
        "etc/ssh/ssh_host_ed25519_key",
        "var/lib/systemd/random-seed",
        "var/lib/vmkit/instance-id",
        "var/lib/vmkit/closed-network/digest",
        "var/lib/dhcp/dhclient.leases",
        "var/lib/cloud/seed/nocloud/user-data",
        "var/log/auth.log.1",
        "var/log/journal/abc/system.journal",
        "var/lib/apt/lists/deb.debian.org_InRelease",
        "var/cache/apt/archives/git.deb",
        "tmp/x/.y",
        "var/tmp/z",
        "var/mail/agent",
    ],
)
def test_is_gone(root, name):
    path = write(root, name)

    done = clean(root)

    assert done.returncode == 0, done.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    "name",
    [
        "home/agent/.kiro/agents/default.json",
        "home/agent/.bashrc",
        "home/agent/.local/bin/kiro-cli",
        "home/agent/.local/state/vmkit/kiro-cli.version",
        "var/lib/vmkit/steps/base.tools",
        "etc/gitconfig",
        "usr/sbin/.ssh/authorized_keys",
    ],
)
def test_stays(root, name):
    path = write(root, name)

    clean(root)

    assert path.read_text() == SECRET


def test_current_logs_stay_as_empty_files(root):
    log = write(root, "var/log/wtmp")

    clean(root)

    assert log.read_text() == ""


def test_the_identity_is_empty_not_missing(root):
    identity = write(root, "etc/machine-id", "0123456789abcdef")
    name = write(root, "etc/hostname", "kiro-vm\n")

    clean(root)

    assert identity.read_text() == ""
    assert name.read_text() == "localhost\n"


def test_a_link_out_of_the_home_is_removed_and_not_followed(root, tmp_path):
    outside = write(tmp_path, "outside/file")
    (root / "home/agent/.ssh").symlink_to(outside.parent)
    (root / "home/agent/.netrc").symlink_to(outside)
    (root / "home/agent/.cache").symlink_to(outside.parent)

    clean(root)

    assert outside.read_text() == SECRET
    assert not (root / "home/agent/.ssh").is_symlink()


def test_twice_is_as_once(root):
    write(root, "home/agent/.ssh/authorized_keys")
    clean(root)

    assert clean(root).returncode == 0


def test_a_tree_with_next_to_nothing_in_it_is_no_error(root):
    assert clean(root).returncode == 0


def test_the_last_script_is_sh():
    script = data_folder("provision") / "generalise/finish.sh"

    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
