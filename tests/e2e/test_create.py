"""What was asked for is what the guest sees; what cannot be made leaves nothing."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import Lab

pytestmark = pytest.mark.vm


def test_the_guest_sees_what_was_asked_for(lab: Lab, machine: str) -> None:
    cpus = int(lab.exec(machine, "nproc"))
    memory_kib = int(lab.exec(machine, "awk", "/MemTotal/ {print $2}", "/proc/meminfo"))
    disk = int(lab.exec(machine, "sh", "-c", "df -B1 --output=size / | tail -1"))
    name = lab.exec(machine, "hostname").strip()
    user = lab.exec(machine, "sh", "-c", 'id -un; sudo -n id -un; echo "$SSH_CONNECTION" | wc -w').split()

    assert cpus == 2
    assert 0.85 * 1024 < memory_kib / 1024 <= 1024
    assert 0.9 * 8 < disk / 2**30 <= 8
    assert name == machine
    assert user == ["agent", "root", "4"]


def test_list_and_info_say_what_was_made(lab: Lab, machine: str) -> None:
    [listed] = [one for one in lab.json("list")["machines"] if one["name"] == machine]
    shown = lab.json("info", machine)["machine"]

    assert listed["state"] == "running"
    assert (listed["cpus"], listed["memory_mib"], listed["disk_gib"]) == (2, 1024, 8)
    assert listed["address"]["host"] == "127.0.0.1"
    assert {key: shown[key] for key in listed} == listed
    assert shown["driver_facts"]["accelerator"]


def test_the_bundle_of_a_machine_loads_in_utm(lab: Lab, machine: str) -> None:
    bundle = lab.json("info", machine)["machine"]["bundle"]

    verdict = lab.json("bundle", "check", bundle)

    assert verdict["loads"]
    assert verdict["problems"] == verdict["ignored_keys"] == verdict["defaults"] == []


def test_a_second_create_of_the_same_name_is_a_wrong_state(lab: Lab, machine: str) -> None:
    done = lab.run("create", machine, code=4)

    assert f'"{machine}" exists' in done.stderr.decode()


def test_a_disk_smaller_than_the_image_is_refused_before_anything_is_written(lab: Lab) -> None:
    before = sorted(path.name for path in (lab.home / "machines").iterdir())

    done = lab.run("create", "tiny", "--disk", "300M", code=2)

    assert "smaller than the image" in done.stderr.decode()
    assert "hint: --disk" in done.stderr.decode()
    assert sorted(path.name for path in (lab.home / "machines").iterdir()) == before


def test_two_creates_of_one_name_at_once_make_one_machine(lab: Lab) -> None:
    both = [lab.start("create", "twin", "-t", "debian", "--no-start") for _ in range(2)]
    codes = sorted(one.wait() for one in both)

    assert codes == [0, 4]
    assert lab.state("twin") == "stopped"
    lab.run("delete", "twin")


def test_four_creates_at_once_all_succeed(lab: Lab) -> None:
    names = [f"four{number}" for number in range(4)]
    started = [lab.start("create", name, "-t", "debian", "--cpus", "1", "--memory", "512M") for name in names]
    ended = [(one.communicate()[1], one.returncode) for one in started]

    assert [code for _, code in ended] == [0] * 4, ended
    ports = {lab.json("info", name)["machine"]["address"]["port"] for name in names}
    assert len(ports) == 4
    assert [lab.exec(name, "hostname").strip() for name in names] == names
    lab.run("delete", "--force", *names)


def test_two_machines_have_nothing_in_common(lab: Lab, machine: str) -> None:
    lab.run("create", "other", "-t", "debian", "--cpus", "1", "--memory", "512M")
    secrets = (
        "cat /etc/machine-id",
        "cat /etc/ssh/ssh_host_ed25519_key.pub",
        "cat /sys/class/net/e*/address",
        "cat ~/.ssh/authorized_keys",
    )

    for secret in secrets:
        one, two = (lab.exec(name, "sh", "-c", secret).strip() for name in (machine, "other"))
        assert one
        assert one != two, secret
    lab.run("delete", "--force", "other")


def test_an_open_machine_says_so_and_reaches_this_computer_and_one_without_egress_does_not(lab: Lab) -> None:
    probe = "timeout 5 bash -c 'exec 3<>/dev/tcp/10.0.2.2/{port}'"
    with subprocess.Popen(
        ["python3", "-m", "http.server", "--bind", "127.0.0.1", "0"], stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split(b"port ")[1].split()[0].decode()
            small = ("-t", "debian", "--cpus", "1", "--memory", "512M")
            lab.run("create", "wide", *small, "--egress", "open", "--no-start")
            said = lab.run("start", "wide").stderr.decode()
            lab.run("create", "shut", *small, "--egress", "airgap")
            reached = lab.run("exec", "wide", "--", "sh", "-c", probe.format(port=port), code=None).returncode
            shut = lab.run("exec", "shut", "--", "sh", "-c", probe.format(port=port), code=None).returncode
        finally:
            server.terminate()

    assert "network" in said
    assert "open" in said
    assert reached == 0  # the probe can succeed
    assert shut != 0
    lab.run("delete", "--force", "shut", "wide")


def test_a_rendered_bundle_is_a_bundle_and_no_machine(lab: Lab, tmp_path: Path) -> None:
    path = Path(json.loads(lab.run("bundle", "render", "r", "--output", str(tmp_path), "--json").stdout)["bundle"])

    assert path == tmp_path / "r.utm"
    assert lab.json("bundle", "check", str(path))["loads"]
    assert lab.state("r") is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.utm"]
