"""A machine from a fetched cloud image behaves as one from a built image: firmware, GRUB and cloud-init are real."""

import json
from pathlib import Path

import pytest

from tests.e2e.harness import Lab

pytestmark = [pytest.mark.vm, pytest.mark.long]


def test_a_fetched_image_makes_a_machine_like_any_other(lab: Lab, fetched_image: str) -> None:
    create_and_look_around(lab, "cloud", fetched_image)

    lab.run("delete", "--force", "cloud")
    assert lab.state("cloud") is None


def tell_the_story(lab: Lab, name: str, image: str) -> None:
    """Create, look around, provision, restart, delete; with the driver that the lab's settings name."""
    boot, host_key = create_and_look_around(lab, name, image)
    again = json.loads(lab.run("provision", name, "--json").stdout)
    assert again["provision"]["changed"] == 0

    lab.run("restart", name, "--timeout", "900")
    # fmt: off
    after = lab.exec(
        name, "sh", "-c", "cat kept /proc/sys/kernel/random/boot_id; cat /etc/ssh/ssh_host_ed25519_key.pub"
    ).splitlines()
    # fmt: on
    assert after[0] == "kept"
    assert after[1] != boot
    assert after[2] == host_key

    lab.run("delete", "--force", name)
    assert lab.state(name) is None


def create_and_look_around(lab: Lab, name: str, image: str) -> tuple[str, str]:
    """Create a machine and compare the guest with what was asked for; return this boot's id and the host key."""
    shown = lab.json("image", "show", image)["image"]
    assert (shown["boot"], "genericcloud" in shown["release"], "sha512:" in shown["release"]) == ("uefi", True, True)

    wishes = ("-t", "debian", "--image", image, "--cpus", "2", "--memory", "1G", "--disk", "8G", "--recipe", "base")
    made = json.loads(lab.run("create", name, *wishes, "--timeout", "900", "--json").stdout)
    assert made["machine"]["state"] == "running"
    assert (made["provision"]["failed"], made["provision"]["changed"] > 0) == (0, True)
    bundle = Path(made["machine"]["bundle"])
    assert lab.json("bundle", "check", str(bundle))["loads"]

    # fmt: off
    said = lab.exec(name, "sh", "-c", """
        hostname; id -un; sudo -n id -un; nproc; df -B1 --output=size / | tail -1
        test -d /sys/firmware/efi && echo uefi
        cat /run/cloud-init/result.json | tr -d ' \\n'; echo
        cat /etc/ssh/ssh_host_*_key.pub; ls /etc/ssh/ssh_host_* | wc -l
        sudo -n cat /etc/shadow | grep "^agent:" | cut -d: -f2
        echo "$PATH"; cat /proc/sys/kernel/random/boot_id; echo kept > kept
    """).splitlines()
    # fmt: on
    hostname, user, root, cpus, size, uefi, result, host_key, host_keys, password, path, boot = said
    assert (hostname, user, root, cpus, uefi) == (name, "agent", "root", "2", "uefi")
    assert 0.9 * 8 < int(size) / 2**30 <= 8
    assert json.loads(result)["v1"]["errors"] == []
    assert "NoCloud" in json.loads(result)["v1"]["datasource"]
    assert host_key.split()[1] in "".join(file.read_text() for file in (bundle.parent / "keys").glob("*.pub"))
    assert host_keys == "2"  # the one that vmkit made and pinned, and its public half
    assert password.startswith("!")
    assert "/.local/bin" in path

    assert lab.run("exec", name, "--", "sh", "-c", "cat; exit 7", stdin=b"in and out", code=7).stdout == b"in and out"
    return boot, host_key
