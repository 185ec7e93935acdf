"""Doctor and adopt against a simulated UTM that is old, forbidden, silent, or has somebody's machine."""

import dataclasses
import json
import os
import plistlib
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests import utmsim
from tests.foreign import qcow2_disk, utm_config
from vmkit.drivers.base import MachineState
from vmkit.drivers.utmctl import Listed
from vmkit.workflows.doctor_mac import LIST_S, _mac_guests

VMKIT = Path(sys.executable).with_name("vmkit")


@dataclasses.dataclass
class Mac:
    """A home with a simulated UTM in it."""

    home: Path
    sim: utmsim.UtmSim

    def vmkit(self, *words, code=0, **environment):
        env = {**os.environ, "HOME": str(self.home), "VMKIT_HOME": str(self.home / "vmkit"), **self.sim.environment}
        env.pop("SSH_CONNECTION", None)
        done = subprocess.run(
            [VMKIT, *words],
            env=env | environment,
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=90,
        )
        assert code is None or done.returncode == code, (done.stdout + done.stderr).decode()
        return done

    def doctor(self, **environment):
        said = json.loads(self.vmkit("doctor", "--json", code=None, **environment).stdout)
        return {check["id"]: check for check in said["checks"]}

    def script(self, name, *arguments):
        scripts = Path(__file__).parents[2] / "vmkit" / "drivers" / "scripts"
        env = {**os.environ, "HOME": str(self.home), **self.sim.environment}
        subprocess.run([self.sim.osascript, scripts / name, *arguments], env=env, check=True, capture_output=True)


@pytest.fixture
def mac(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    mac = Mac(home, utmsim.install(tmp_path / "sim"))
    yield mac
    mac.sim.end_all(home)


def test_a_good_utm_is_found_and_answers(mac):
    found = mac.doctor()

    assert {found[name]["status"] for name in ("utm", "utmctl", "automation", "macos-guests")} == {"ok"}
    assert "5.0.3" in found["utm"]["detail"]
    assert "0 of the 2" in found["macos-guests"]["detail"]


@pytest.mark.parametrize(
    ("version", "status", "why"),
    [("4.7.5", "warn", "before 5.0.3"), ("4.5.4", "fail", "before 4.6"), ("?", "fail", "?")],
)
def test_an_old_utm_is_named_with_the_reason(mac, version, status, why):
    mac.sim.set_version(version)

    found = mac.doctor()["utm"]

    assert found["status"] == status
    assert why in found["detail"]
    assert "getutm" in found["fix"]


def test_a_utm_that_we_may_not_control_is_a_failure_with_the_place_to_allow_it(mac):
    mac.sim.faults.set("not-permitted")

    found = mac.doctor()

    assert found["automation"]["status"] == "fail"
    assert "Automation" in found["automation"]["fix"]
    assert "not over SSH" in mac.doctor(SSH_CONNECTION="10.0.0.1 1 10.0.0.2 22")["automation"]["fix"]
    assert mac.vmkit("doctor", code=7).stdout


@pytest.mark.slow
def test_a_utm_that_hangs_does_not_hang_doctor(mac):
    mac.sim.faults.set("hang")
    begun = time.monotonic()

    found = mac.doctor()

    assert found["utmctl"]["status"] == "fail"
    assert f"{LIST_S:g} s" in found["utmctl"]["detail"]
    assert time.monotonic() - begun < LIST_S + 60  # the deadline was kept: it hangs for ever
    assert found["machines"]["status"] == "ok"  # and the rest was checked


def test_a_utm_without_a_window_shows_no_machines(mac):
    mac.sim.faults.set("empty-list")

    assert "open its window" in mac.doctor()["utmctl"]["detail"]


def test_two_macos_guests_are_all_that_run():
    listed = [Listed(uuid=name, state=MachineState.RUNNING, name=name) for name in ("A", "B", "C")]

    found = _mac_guests(listed, {"A": "one", "B": "two", "D": "stopped"})

    assert (found.status, found.fix.split(";")[0]) == ("warn", "vmkit stop one")


def held_by_utm(mac, *, name, forward=True):
    config = utm_config()
    config["Information"] |= {"Name": name, "UUID": str(uuid.uuid4()).upper()}
    if forward:
        config["Network"][0] |= {
            "Mode": "Emulated",
            "PortForward": [{"Protocol": "TCP", "HostAddress": "127.0.0.1", "HostPort": 22022, "GuestPort": 22}],
        }
    config["Drive"] = config["Drive"][:1]
    bundle = mac.home / f"{name}.utm"
    (bundle / "Data").mkdir(parents=True)
    (bundle / "config.plist").write_bytes(plistlib.dumps(config))
    qcow2_disk(bundle / "Data" / "disk.qcow2")
    mac.script("import.applescript", str(bundle))


def test_a_machine_of_utms_is_adopted_by_name_and_stays_there(mac):
    held_by_utm(mac, name="Bob's Debian")
    [kept] = mac.sim.documents(mac.home).glob("*.utm")
    before = (kept / "config.plist").read_bytes()

    done = mac.vmkit("adopt", "Bob's Debian", "--user", "bob", "--no-start", "--json")

    machine = json.loads(done.stdout)["machine"]
    assert (machine["name"], machine["driver"], machine["state"]) == ("bob-s-debian", "utm", "stopped")
    assert machine["uuid"] == plistlib.loads(before)["Information"]["UUID"]
    assert (kept / "config.plist").read_bytes() == before
    assert (kept / "Data" / "disk.qcow2").is_file()
    assert b"host key" in mac.vmkit("list").stderr


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("nobody", 3, b"no machine"),
        ("Bob's Debian", 2, b"UTM has 2 machines"),
        ("lonely", 6, b"forwards no port"),
    ],
)
def test_a_machine_of_utms_that_cannot_be_adopted_is_named(mac, what, code, words):
    held_by_utm(mac, name="Bob's Debian")
    (mac.home / "Bob's Debian.utm").rename(mac.home / "first.utm")
    held_by_utm(mac, name="Bob's Debian")
    held_by_utm(mac, name="lonely", forward=False)

    done = mac.vmkit("adopt", what, code=code)

    assert words in done.stderr
    assert not (mac.home / "vmkit" / "machines").exists()
