"""What the script tells of a tree, and what its answer is read as."""

import os
import subprocess
from pathlib import Path

import pytest

from vmkit.errors import Refused
from vmkit.guest.base import Command, Outcome
from vmkit.testing.guest import FakeGuest
from vmkit.workflows.drift_inventory import FileFact, Inventory, User, ask, inventory_script, parse_inventory

OWN = "ssh-ed25519 AAAAown vmkit"
ASK = str(Command("sudo", "-n", "sh", "-c", inventory_script(), "inventory"))


def write(root: Path, name: str, content: str = "x", *, mode: int = 0o644) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


@pytest.fixture
def root(tmp_path):
    tree = tmp_path / "root"
    write(
        tree,
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"
        "agent:x:1000:1000:,,:/home/agent:/bin/bash\n",
    )
    write(tree, "etc/group", "sudo:x:27:agent\nusers:x:100:\n")
    write(tree, "etc/shadow", "root:*:20000:0\nagent:$y$hash:20001:0\nnobody::3:\n")
    (tree / "home/agent").mkdir(parents=True)
    return tree


def answer(root: Path) -> bytes:
    """Run the script as the guest's sh does."""
    environment = {"VMKIT_ROOT": str(root), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["sh", "-c", inventory_script(), "inventory"], env=environment, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def take(root: Path) -> Inventory:
    return parse_inventory(answer(root), own_key=OWN)


def test_users_with_the_state_of_their_passwords_but_no_hash(root):
    found = take(root)

    assert found.users["root"] == User(uid=0, gid=0, home="/root", shell="/bin/bash", password="locked", day=20000)
    assert found.users["agent"].password == "set"
    assert found.users["nobody"].password == "none"
    assert b"hash" not in answer(root)


def test_groups_with_their_members(root):
    assert take(root).groups == {"sudo": frozenset({"agent"}), "users": frozenset()}


def test_keys_line_by_line_without_the_one_vmkit_came_in_by(root):
    write(root, "home/agent/.ssh/authorized_keys", f"# mine\n{OWN}\n\nssh-rsa AAAAother b@c\n")
    write(root, "root/.ssh/authorized_keys", f'command="sh" {OWN}')

    assert take(root).keys == {
        "/home/agent/.ssh/authorized_keys": {"ssh-rsa AAAAother b@c"},
        "/root/.ssh/authorized_keys": {f'command="sh" {OWN}'},
    }


@pytest.mark.parametrize(
    "name",
    [
        "etc/ld.so.preload",
        "etc/sudoers.d/x",
        "etc/ssh/sshd_config.d/x.conf",
        "etc/ssh/sshd_config.d/ssh_host_x.conf",
        "etc/pam.d/sshd",
        "etc/systemd/system/x.timer",
        "usr/lib/systemd/system/x.service",
        "etc/cron.d/x",
        "var/spool/cron/crontabs/agent",
        "etc/apt/sources.list.d/x.sources",
        "etc/apt/apt.conf.d/x",
        "usr/share/keyrings/x.gpg",
        "etc/profile.d/x.sh",
        "home/agent/.bashrc",
        "home/agent/.profile",
        "home/agent/.zshenv",
        "home/agent/.config/systemd/user/x.service",
        "home/agent/.kiro/hooks/x.json",
        "home/agent/.kiro/settings/mcp.json",
        "home/agent/work/.kiro/agents/x.json",
        "home/agent/src/work/.kiro/steering/x.md",
        "home/agent/.aws/amazonq/mcp.json",
        "home/agent/.local/bin/sudo",
        "usr/local/bin/sudo",
        "usr/local/lib/vmkit/kiro-hooks/check.sh",
    ],
)
def test_is_looked_at(root, name):
    write(root, name, "abc")

    fact = take(root).files[f"/{name}"]

    assert fact.content == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (fact.mode, fact.uid, fact.gid) == (0o644, os.getuid(), os.getgid())


@pytest.mark.parametrize(
    "name",
    ["etc/ssh/ssh_host_ed25519_key", "home/agent/.kiro/sessions/1", "home/agent/.kiro/.cli_bash_history", "etc/hosts"],
)
def test_is_not_looked_at(root, name):
    write(root, name)

    assert f"/{name}" not in take(root).files


def test_a_link_is_told_by_where_it_leads(root):
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "etc/systemd/system/x.service").symlink_to("/dev/null")

    fact = take(root).files["/etc/systemd/system/x.service"]

    assert fact == FileFact(mode=0o777, uid=os.getuid(), gid=os.getgid(), content="/dev/null", is_link=True)


def test_a_large_file_is_told_by_its_size(root):
    write(root, "usr/local/bin/large", "x" * 2_000_000)

    assert take(root).files["/usr/local/bin/large"].content == "2000000 bytes"


def test_names_and_lines_may_hold_anything(root):
    name = "etc/cron.d/a b\n\t-x \x1b[2J \udcff"
    write(root, name)
    write(root, "etc/environment", "A=1\nend\n\t\npackage\tx")

    found = take(root)

    assert f"/{name}" in found.files
    assert found.lines["/etc/environment"] == {"A=1", "end", "\t", "package\tx"}


def test_rights_beyond_the_callers(root):
    write(root, "opt/x", mode=0o4755)
    write(root, "opt/y", mode=0o2711)
    write(root, "opt/z", mode=0o755)

    owner = (os.getuid(), os.getgid())
    assert take(root).rights == {"/opt/x": (0o4755, *owner), "/opt/y": (0o2711, *owner)}


def test_capabilities(root):
    path = write(root, "opt/x", mode=0o755)
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    try:
        os.setxattr(path, "security.capability", value)
    except OSError:
        pytest.skip("only root may give a file capabilities")

    assert take(root).capabilities == {"/opt/x": value.hex()}


def test_stamps(root):
    write(root, "var/lib/vmkit/steps/base.tools", "abc\n")

    assert take(root).stamps == {"base.tools": "abc"}


def test_installed_packages(root):
    status = "Package: git\nStatus: {}\nMaintainer: m\nArchitecture: amd64\nVersion: 1:2.47-1~a\nDescription: d\n\n"
    write(
        root,
        "var/lib/dpkg/status",
        status.format("install ok installed") + status.format("deinstall ok config-files").replace("git", "gone"),
    )
    (root / "var/lib/dpkg/info").mkdir()
    (root / "var/lib/dpkg/updates").mkdir()

    assert take(root).packages == {"git:amd64": "1:2.47-1~a"}


def test_too_many_lines_are_said(root):
    write(root, "root/.ssh/authorized_keys", "k\n" * 3000)

    assert take(root).missed == ("/root/.ssh/authorized_keys",)


def test_nothing_is_written(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    take(root)

    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize(
    "line", ["x::0:0::/:/bin/sh:more", "+::::::", "two words", "a:x:-1:0::/:/bin/sh", "a:x:0x0:0::/:/bin/sh"]
)
def test_a_line_of_another_form_is_a_user_with_an_impossible_number(root, line):
    with (root / "etc/passwd").open("a") as file:
        file.write(line + "\n")

    assert take(root).users[line].uid == -1


def test_a_second_line_of_one_name_is_not_lost(root):
    with (root / "etc/passwd").open("a") as file:
        file.write("agent::0:0::/:/bin/sh\n")

    found = take(root)

    assert found.users["agent"].uid == 1000
    assert (found.users["agent (again)"].uid, found.users["agent (again)"].password) == (0, "none")


GOOD = b"vmkit inventory 1\0end\0"


def test_an_empty_answer_of_the_right_form_is_read():
    assert parse_inventory(GOOD, own_key=OWN).files == {}


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"vmkit inventory 1\0",
        b"vmkit inventory 2\0end\0",
        b"noise\0" + GOOD,
        GOOD + b"more\0",
        GOOD[:-1],
        b"vmkit inventory 1\0\0end\0",
        b"vmkit inventory 1\0what\tis this\0end\0",
        b"vmkit inventory 1\0file\td\t755\t0\t0\t1\0./x\0\0end\0",
        b"vmkit inventory 1\0file\tf\t999\t0\t0\t1\0./x\0\0end\0",
        b"vmkit inventory 1\0file\tf\t755\t0\t0\t1\0./x\0",
        b"vmkit inventory 1\0package\tx\tamd64\t1;2\tinstalled\0end\0",
        b"vmkit inventory 1\0password\tguessed\t1\0root\0end\0",
        b"vmkit inventory 1\0capability\tzz\0./x\0end\0",
        b"vmkit inventory 1\0line\0end\0",
    ],
)
def test_an_answer_of_another_form_is_refused(told):
    with pytest.raises(Refused, match="makes no sense"):
        parse_inventory(told, own_key=OWN)


def test_an_answer_that_is_cut_anywhere_is_refused(root):
    write(root, "etc/cron.d/x")
    told = answer(root)

    for size in range(0, len(told), 7):
        with pytest.raises(Refused):
            parse_inventory(told[:size], own_key=OWN)


def test_a_guest_that_does_not_answer_is_refused_with_what_it_said():
    guest = FakeGuest({ASK: Outcome(command="", code=1, stdout=b"", stderr=b"sudo: a password is \x1b required")})

    with pytest.raises(Refused) as caught:
        ask(guest)

    assert caught.value.detail == "sudo: a password is ^[ required"


def test_a_guest_that_says_too_much_is_refused():
    with pytest.raises(Refused, match="more than"):
        ask(FakeGuest({ASK: b"\0" * (16 << 20)}))
