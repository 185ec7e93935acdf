"""A machine that somebody made by hand becomes vmkit's: nothing of it is touched, nothing is believed unseen."""

import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import Lab
from tests.foreign import digest, utm_config

pytestmark = pytest.mark.vm

NAME = "Bob's Debian"


@pytest.fixture(scope="module")
def by_hand(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle as UTM has it, around the disk of a guest that has run; whoever made it is gone, with its keys."""
    lab.run("create", "theirs", "-t", "debian", "--cpus", "2", "--memory", "1G", "--disk", "8G")
    lab.run("stop", "theirs")
    data = lab.home / "machines" / "theirs" / "theirs.utm" / "Data"
    bundle = tmp_path_factory.mktemp("utm") / f"{NAME}.utm"
    (bundle / "Data").mkdir(parents=True)
    [disk] = data.glob("*.qcow2")
    subprocess.run(
        ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", disk, bundle / "Data" / "disk.qcow2"], check=True
    )
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(data / name, bundle / "Data" / name)
    theirs = plistlib.loads((data.parent / "config.plist").read_bytes())
    config = utm_config()
    config["Information"]["Name"] = NAME
    config["System"] = theirs["System"]
    config["QEMU"] |= {"UEFIBoot": False, "AdditionalArguments": theirs["QEMU"]["AdditionalArguments"]}
    config["Drive"] += [
        {"Identifier": kind, "ImageName": name, "ImageType": kind, "Interface": "None", "ReadOnly": True}
        for kind, name in (("LinuxKernel", "vmlinuz"), ("LinuxInitrd", "initrd.img"))
    ]
    (bundle / "config.plist").write_bytes(plistlib.dumps(config))
    lab.run("delete", "theirs")
    return bundle


def test_a_machine_made_by_hand_is_adopted_and_is_one_like_any_other(lab: Lab, by_hand: Path) -> None:
    before = digest(by_hand)
    words = ("adopt", str(by_hand), "--as", "b", "--user", "agent", "--driver", "qemu")

    refused = lab.run(*words, "--host-key", f"SHA256:{'A' * 43}", code=6)
    unknown = lab.run("exec", "b", "--", "true", code=4)
    adopted = lab.json("adopt", "b")

    assert b"has another host key" in refused.stderr
    assert b"vmkit adopt b" in unknown.stderr
    assert adopted["host_key"]["vouched_by"] == "the guest agent"
    assert (adopted["machine"]["name"], adopted["machine"]["state"]) == ("b", "running")
    assert lab.exec("b", "id", "-un") == "agent\n"
    lab.run("restart", "--force", "b")
    assert lab.exec("b", "hostname") == "theirs\n"  # the guest is the one it was
    assert b"vmkit's already" in lab.run("adopt", "b", code=4).stderr
    lab.run("delete", "--force", "b")
    assert digest(by_hand) == before
