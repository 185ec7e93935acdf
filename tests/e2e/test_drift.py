"""A machine against its image: nothing at first, then what was done to it, the worst first."""

import pytest

from tests.e2e.harness import Lab

pytestmark = [pytest.mark.vm, pytest.mark.long]

CHANGES = """
set -eu
touch /etc/ld.so.preload
echo 'toor:x:0:0::/root:/bin/sh' >>/etc/passwd
cp /bin/true /opt/as-root
chmod 4755 /opt/as-root
cp /bin/true /opt/capable
python3 -c 'import os; os.setxattr("/opt/capable", "security.capability", bytes.fromhex("0100000200200000" + 24 * "0"))'
echo 'agent ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/more
echo 'ssh-ed25519 AAAA eve' >>/home/agent/.ssh/authorized_keys
echo 'MaxAuthTries 5' >/etc/ssh/sshd_config.d/more.conf
mkdir -p /home/agent/.kiro/hooks /home/agent/.kiro/settings
echo '{}' >/home/agent/.kiro/hooks/more.json
echo '{}' >/home/agent/.kiro/settings/mcp.json
printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/more.service
echo '0 0 * * * root true' >/etc/cron.d/more
echo 'deb http://deb.example.com/ x main' >/etc/apt/sources.list.d/more.list
echo 'alias ls=ls' >>/home/agent/.bashrc
dpkg --remove less
"""

FINDINGS = [
    ("high", "added", "/etc/ld.so.preload"),
    ("high", "added", "toor"),
    ("high", "added", "/opt/as-root"),
    ("high", "added", "/opt/capable"),
    ("high", "added", "/etc/sudoers.d/more"),
    ("high", "added", "/home/agent/.ssh/authorized_keys"),
    ("high", "added", "/etc/ssh/sshd_config.d/more.conf"),
    ("high", "added", "/home/agent/.kiro/hooks/more.json"),
    ("high", "added", "/home/agent/.kiro/settings/mcp.json"),
    ("high", "added", "/etc/systemd/system/more.service"),
    ("high", "added", "/etc/cron.d/more"),
    ("high", "added", "/etc/apt/sources.list.d/more.list"),
    ("medium", "changed", "/home/agent/.bashrc"),
    ("low", "removed", "less:amd64"),
]


def test_a_new_machine_has_not_drifted_and_each_change_is_found(lab: Lab) -> None:
    lab.run("create", "drifting", "-t", "debian", "--recipe", "base", "--cpus", "2", "--memory", "1G", "--disk", "8G")

    new = lab.json("drift", "drifting")
    lab.exec("drifting", "sudo", "sh", "-c", CHANGES)
    found = lab.json("drift", "drifting")
    shown = lab.run("drift", "drifting").stdout.decode()

    assert [one for one in new["findings"] if one["risk"] != "expected"] == []
    owners = {"the closed network", "recipe base", "recipe base, the closed network"}
    assert {one["expected_by"] for one in new["findings"]} == owners
    assert new["not_looked_at"] == []
    arch = "amd64" if lab.json("info", "drifting")["machine"]["arch"] == "x86_64" else "arm64"
    wanted = [(risk, change, what.replace("amd64", arch)) for risk, change, what in FINDINGS]
    assert [
        (one["risk"], one["change"], one["subject"]) for one in found["findings"] if one["risk"] != "expected"
    ] == wanted
    assert shown.startswith("high: preloaded library: ")
    assert "the closed network" not in shown
    assert lab.state("drifting") == "running"
    assert not list((lab.home / "copies").glob("*/machine.json"))
