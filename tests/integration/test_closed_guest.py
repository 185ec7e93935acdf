"""The script that sets a guest up for its closed network, run for real on copies of this computer's /etc, /usr and /var.

What it calls of systemd and sshd are stubs that write their calls down.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmkit.host.resources import data_folder
from vmkit.workflows.closed_network import guest_files

FOLDER = data_folder("provision") / "closed-network"
# /etc, /usr and /var are as they are, and what is written to them is gone afterwards.
SETUP = r"""set -eu
mount -t tmpfs tmpfs "$1"
mount -t tmpfs tmpfs /run
for part in etc usr var; do
  mkdir -p "$1/$part/upper" "$1/$part/work"
  mount -t overlay -o "lowerdir=/$part,upperdir=$1/$part/upper,workdir=$1/$part/work" overlay "/$part"
done
umount /etc/resolv.conf 2>/dev/null || :
umount /etc/hosts 2>/dev/null || :
rm -rf /etc/resolv.conf /etc/environment /etc/gitconfig /usr/lib/systemd/system/systemd-resolved* /etc/apt/apt.conf.d
mkdir -p /run/systemd/system /usr/lib/systemd/system /etc/systemd/system /etc/ssh/sshd_config.d /etc/sudoers.d
mkdir -p /etc/apt/apt.conf.d /etc/systemd/system.conf.d /etc/systemd/user.conf.d /etc/profile.d
rm -f /etc/ssh/sshd_config.d/*
ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
printf 'PATH="/x:/bin"\nOWN=1\n' >/etc/environment
for stub in systemctl sshd; do
  rm -f "/usr/sbin/$stub"
  printf '#!/bin/sh\necho "%s $*" >>/run/calls\n[ ! -e /run/%s-fails ]\n' "$stub" "$stub" >"/usr/sbin/$stub"
  chmod 755 "/usr/sbin/$stub"
done
: >/run/calls
close() { sh "$apply" close "$1" <"${2:-$files}"; }
open() { sh "$apply" open; }
calls() { cat /run/calls; : >/run/calls; }
"""
PROBE = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w && mount -t overlay -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w overlay /etc"

Run = Callable[[str], str]


@pytest.fixture
def run() -> Iterator[Run]:
    """Return what runs a script in such copies, and returns what it printed."""
    enter = ["unshare", "--mount"]
    if subprocess.run([*enter, "sh", "-c", PROBE], capture_output=True, check=False).returncode:
        pytest.skip("file systems can be laid over others by root only, where at all")
    with tempfile.TemporaryDirectory(prefix="vmkit-closed-") as folder:
        files = Path(folder) / "files.tar"
        files.write_bytes(guest_files())
        (Path(folder) / "upper").mkdir()

        def run(script: str) -> str:
            words = ["sh", "-c", f"{SETUP}\n{script}", "sh", str(Path(folder) / "upper")]
            names = {"files": str(files), "apply": str(FOLDER / "apply.sh"), "PATH": os.environ["PATH"]}
            done = subprocess.run([*enter, *words], env=names, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        yield run


def test_closing_sets_up_what_tools_read(run: Run) -> None:
    said = run(
        "close a; cat /etc/environment; sed -n 2p /etc/resolv.conf; git config --system http.proxy\n"
        "stat -c '%a %u' /etc/sudoers.d/vmkit-closed-network; env -i bash -lc 'echo $HTTPS_PROXY'"
    ).splitlines()

    assert said[:4] == ["changed", 'PATH="/x:/bin"', "OWN=1", "http_proxy=http://127.0.0.1:13128"]
    assert said[-4:] == ["nameserver 127.0.0.1", "http://127.0.0.1:13128", "440 0", "http://127.0.0.1:13128"]


def test_services_and_sshd_are_told_without_a_restart(run: Run) -> None:
    said = run("close a; calls").splitlines()

    assert [line.split(" http_proxy=")[0] for line in said] == [
        "changed", "systemctl set-environment", "sshd -t", "systemctl --no-block reload ssh.service",
    ]  # fmt: skip


def test_closing_what_is_closed_starts_nothing(run: Run) -> None:
    assert run("close a; calls >/run/first; close a; calls") == "changed\n"


def test_an_image_whose_sshd_knows_its_forwards_needs_no_reload(run: Run) -> None:
    image = data_folder("provision") / "image/root/etc/ssh/sshd_config.d/vmkit.conf"

    assert "reload" not in run(f"cp {image} /etc/ssh/sshd_config.d/; close a; calls")


def test_opening_leaves_nothing_behind(run: Run) -> None:
    said = run(
        "cp -a /etc /run/before; close a; open; diff -r --no-dereference /run/before /etc || :\n"
        "open; ls -d /var/lib/vmkit/closed-network /usr/lib/vmkit/closed-network 2>/dev/null || :"
    )

    # git reads an empty file as none
    assert said == "changed\nchanged\nOnly in /etc: gitconfig\n"


def test_what_another_version_brought_is_gone(run: Run) -> None:
    said = run(
        "mkdir -p /run/old/etc/profile.d; tar -C /run/old -xf $files; echo X=1 >/run/old/etc/profile.d/old.sh\n"
        "echo http_proxy=old >/run/old/usr/lib/vmkit/closed-network/environment\n"
        "tar -C /run/old -cf /run/old.tar etc usr; close old /run/old.tar; grep -c =old /etc/environment\n"
        "close new; grep -c =old /etc/environment || ls /etc/profile.d/old.sh 2>/dev/null || echo gone"
    )

    assert said.splitlines() == ["changed", "1", "changed", "0", "gone"]


def test_a_resolv_conf_that_was_written_anew_is_closed_again_and_the_first_one_comes_back(run: Run) -> None:
    said = run(
        "close a; echo nameserver 10.0.2.3 >/etc/resolv.conf; close a; sed -n 2p /etc/resolv.conf\n"
        "open; readlink /etc/resolv.conf"
    )

    assert said.splitlines() == [
        "changed", "changed", "nameserver 127.0.0.1", "changed", "../run/systemd/resolve/stub-resolv.conf",
    ]  # fmt: skip


def test_systemd_resolved_is_put_aside_even_when_it_comes_later(run: Run) -> None:
    said = run(
        "close a; calls >/run/first; touch /usr/lib/systemd/system/systemd-resolved.service; close a; calls\n"
        "ln -s /dev/null /etc/systemd/system/systemd-resolved.service; close a; open; calls"
    ).splitlines()

    assert "systemctl mask --now --quiet systemd-resolved.service" in said
    assert said.count("changed") == 3
    assert "systemctl unmask --quiet systemd-resolved.service" in said
    assert "systemctl start systemd-resolved.service" in said


def test_an_sshd_that_does_not_take_its_file_is_left_without_it(run: Run) -> None:
    said = run(
        "rm -r /run/systemd; touch /run/systemctl-fails /run/sshd-fails\n"
        "if close a 2>&1; then echo closed; fi; ls /etc/ssh/sshd_config.d\n"
        "rm /run/sshd-fails; close a; ls /etc/ssh/sshd_config.d"
    )

    assert said.splitlines() == [
        "sshd does not take /etc/ssh/sshd_config.d/00-vmkit-closed-network.conf",
        "changed",
        "00-vmkit-closed-network.conf",
    ]


def test_the_recipes_that_write_the_environment_keep_our_lines_and_we_keep_theirs(run: Run) -> None:
    base, kiro = (data_folder("provision") / name / "environment.sh" for name in ("base", "kiro-cli"))

    said = run(f"close a; VMKIT_HOME=/home/agent sh {base}; sh {kiro}; close b; open; cat /etc/environment")

    assert said.splitlines()[-3:] == ["OWN=1", 'PATH="/home/agent/.local/bin:/x:/bin"', "KIRO_NO_AUTO_UPDATE=1"]
