"""Adoption without a guest: what is made of each kind of machine, and whose word is taken for a host key."""

import getpass
import stat

import pytest

from tests.foreign import (
    DISK_BYTES,
    HARDWARE_MODEL,
    MACHINE_IDENTIFIER,
    digest,
    json_machine,
    lume_config,
    qcow2_disk,
    raw_disk,
    tart_config,
    utm_bundle,
    utm_config,
)
from tests.sshd import PROGRAM, running_sshd
from vmkit.bundle.check import check
from vmkit.bundle.config import decode
from vmkit.bundle.plist import parse_plist
from vmkit.drivers.base import MachineState
from vmkit.errors import HostLacks, NotFound, Refused, UsageError, VmkitError, WrongState
from vmkit.guest.keys import fingerprint, load_keys
from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.images.qcow2 import read_header
from vmkit.machines.store import MachineStore, read_journal
from vmkit.testing.driver import FakeDriver
from vmkit.workflows.adopt import adopt, finish, needs_adoption, paste_command
from vmkit.workflows.adopt_plan import plan_adoption
from vmkit.workflows.adopt_utm import held_machine

OTHER = f"SHA256:{'A' * 43}"


@pytest.fixture
def machines(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return MachineStore(Paths(config=home, data=home, cache=home / "cache"))


def no_utm(name):
    raise HostLacks("UTM is not installed")


def plan(what, machines, *, find_held=no_utm, **wishes):
    given = {"as_name": None, "user": None, "driver": None} | wishes
    return plan_adoption(str(what), machines=machines, find_held=find_held, login_name=getpass.getuser(), **given)


def take(planned, machines, driver=None):
    driver = driver or FakeDriver()
    return adopt(
        planned, machines=machines, driver=driver, runner=Runner(), report=Silent(), host_arch=planned.source.arch
    )


def config_of(machine):
    assert check(machine.bundle).loads
    return decode(parse_plist((machine.bundle / "config.plist").read_bytes()))


def test_a_bundle_becomes_one_of_ours_with_the_same_disk(tmp_path, machines):
    bundle = utm_bundle(tmp_path)
    before = digest(bundle)
    driver = FakeDriver()

    machine = take(plan(bundle, machines, driver="qemu"), machines, driver)

    assert (machine.name, machine.driver, machine.user) == ("my-debian", "qemu", getpass.getuser())
    assert not machine.seeded
    config = config_of(machine)
    [drive] = config.drive
    disk = machine.bundle / "Data" / drive.image_name
    assert disk.read_bytes() == (bundle / "Data" / "disk.qcow2").read_bytes()
    assert stat.S_IMODE(disk.stat().st_mode) == 0o600
    assert (machine.bundle / "Data" / "efi_vars.fd").is_file()
    assert (config.information.name, config.information.uuid) == ("my-debian", machine.uuid)
    assert config.network[0].mac_address == "52:54:00:12:34:56"
    assert config.network[0].port_forward[0].host_address == "127.0.0.1"
    assert driver.added == {machine.uuid}
    assert digest(bundle) == before


def test_a_raw_disk_of_qemus_becomes_qcow2(tmp_path, machines):
    config = utm_config()
    config["Drive"][0]["ImageName"] = "disk.img"
    bundle = utm_bundle(tmp_path, config=config)
    raw_disk(bundle / "Data" / "disk.img")
    raw_disk(bundle / "Data" / "efi_vars.fd", size=540672)

    machine = take(plan(bundle, machines, driver="qemu"), machines)

    [drive] = config_of(machine).drive
    assert read_header(machine.bundle / "Data" / drive.image_name).virtual_bytes == DISK_BYTES
    assert read_header(machine.bundle / "Data" / "efi_vars.fd").virtual_bytes == 540672


@pytest.mark.parametrize(("config", "user"), [(tart_config(), "admin"), (lume_config(), "lume")])
def test_a_mac_of_tarts_or_lumes_maps_one_to_one(tmp_path, machines, config, user):
    folder = json_machine(tmp_path, config)
    before = digest(folder)

    planned = plan(folder, machines)
    machine = take(planned, machines)

    assert (planned.driver, machine.backend, machine.system, machine.user) == ("utm", "apple", "macos", user)
    found = config_of(machine)
    [drive] = found.drive
    data = machine.bundle / "Data"
    assert (data / drive.image_name).read_bytes() == (folder / "disk.img").read_bytes()
    assert (data / "AuxiliaryStorage").read_bytes() == b"nvram"
    platform = found.system.mac_platform
    assert (platform.hardware_model, platform.machine_identifier) == (HARDWARE_MODEL, MACHINE_IDENTIFIER)
    assert platform.auxiliary_storage == "AuxiliaryStorage"
    assert found.network[0].mac_address == planned.foreign.mac
    assert (found.system.cpu_count, found.system.memory_mib) == (4, config["memorySize"] >> 20)
    assert len(found.display) == 1
    assert digest(folder) == before


def test_a_linux_of_tarts_boots_by_uefi(tmp_path, machines):
    config = {key: value for key, value in tart_config(os="linux").items() if key not in ("ecid", "hardwareModel")}

    machine = take(plan(json_machine(tmp_path, config), machines), machines)

    boot = config_of(machine).system.boot
    assert (str(boot.operating_system), boot.uefi_boot, boot.efi_variables) == ("Linux", True, "efi_vars.fd")
    assert (machine.bundle / "Data" / "efi_vars.fd").read_bytes() == b"nvram"


def test_a_guest_of_another_architecture_is_not_given_to_apples_framework(tmp_path, machines):
    planned = plan(json_machine(tmp_path, tart_config()), machines)

    with pytest.raises(Refused, match="aarch64"):
        adopt(planned, machines=machines, driver=FakeDriver(), runner=Runner(), report=Silent(), host_arch="x86_64")

    assert list(machines.all()) == []


@pytest.mark.parametrize(
    ("what", "wishes", "error"),
    [
        ("./nothing", {}, NotFound),
        ("some-machine", {}, HostLacks),
        ("some-machine", {"driver": "qemu"}, UsageError),
        ("sonoma", {"driver": "qemu"}, Refused),
        ("sonoma", {"driver": "vmware"}, UsageError),
        ("sonoma", {"user": "root; id"}, UsageError),
        ("sonoma", {"as_name": "Not A Name"}, UsageError),
        ("sonoma", {"as_name": "taken"}, WrongState),
        ("1", {}, UsageError),
    ],
)
def test_what_cannot_be_adopted_is_said_before_anything_is_written(
    tmp_path, machines, monkeypatch, what, wishes, error
):
    json_machine(tmp_path, tart_config())
    json_machine(tmp_path, tart_config(), name="1")
    take(plan(json_machine(tmp_path, lume_config(), name="taken"), machines), machines)
    monkeypatch.chdir(tmp_path)
    before = digest(tmp_path)

    with pytest.raises(error):
        plan(what, machines, **wishes)

    assert digest(tmp_path) == before


def test_a_machine_of_utms_stays_where_it_is(tmp_path, machines):
    config = utm_config()
    config["Network"][0] |= {
        "Mode": "Emulated",
        "PortForward": [{"Protocol": "TCP", "HostAddress": "127.0.0.1", "HostPort": 2222, "GuestPort": 22}],
    }
    bundle = utm_bundle(tmp_path, config=config)
    before = digest(bundle)

    planned = plan("My Debian", machines, find_held=lambda _: held_machine(bundle))
    machine = take(planned, machines)

    assert (machine.driver, machine.uuid) == ("utm", config["Information"]["UUID"])
    assert config_of(machine).network[0].port_forward[0].host_port == 2222
    assert list((machine.bundle / "Data").iterdir()) == []
    assert digest(bundle) == before


def test_a_machine_of_utms_that_cannot_be_reached_is_refused_with_the_way_to_change_that(tmp_path):
    with pytest.raises(Refused, match="forwards no port") as refused:
        held_machine(utm_bundle(tmp_path))

    assert "Port Forward" in refused.value.hint


def test_a_copy_that_fails_leaves_nothing(tmp_path, machines):
    bundle = utm_bundle(tmp_path)
    planned = plan(bundle, machines, driver="qemu")
    qcow2_disk(bundle / "Data" / "disk.qcow2", backing=b"/etc/passwd")  # changed since it was looked at

    with pytest.raises(Refused):
        take(planned, machines)

    assert list(machines.all()) == []
    assert not any(path.is_dir() for path in machines.paths.staging.iterdir())


class Agent:
    """A guest agent that knows what a test says, and lets keys into a file."""

    def __init__(self, host_key, authorized):
        self.host_key, self.authorized = host_key, authorized

    def read_file(self, path):
        return self.host_key

    def authorize(self, user, public_line):
        if self.authorized:
            with self.authorized.open("a") as file:
                file.write(public_line + "\n")


@pytest.fixture
def adopted(tmp_path, machines):
    """Yield a machine whose guest is the sshd of this test, and that sshd."""
    if PROGRAM is None:
        pytest.skip("no sshd")
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    driver = FakeDriver()
    with running_sshd(folder) as sshd:
        machine = take(plan(utm_bundle(tmp_path), machines, driver="qemu", user=sshd.user), machines, driver)
        driver.move_port(machines.vm(machine), sshd.address.port)
        yield machine, sshd, driver, folder / "authorized_keys"


def end(adopted, machines, **given):
    machine, _, driver, _ = adopted
    words = {"agent": None, "timeout_s": 20, "report": Silent()} | given
    return finish(machine, machines=machines, driver=driver, **words)


def let_in(adopted):
    machine, _, _, authorized = adopted
    with authorized.open("a") as file:
        file.write((machine.keys / "user_key.pub").read_text())


def host_key(adopted):
    return fingerprint(adopted[1].keys.host_public)


def test_the_agents_word_is_enough_and_it_lets_our_key_in(adopted, machines):
    machine, sshd, driver, authorized = adopted
    agent = Agent(f"{sshd.keys.host_public} root@guest\n".encode(), authorized)

    vouched = end(adopted, machines, agent=agent)

    assert (vouched.fingerprint, vouched.by) == (host_key(adopted), "the guest agent")
    assert load_keys(machine.keys).host_public.split() == sshd.keys.host_public.split()[:2]
    assert driver.state(machines.vm(machine)) == MachineState.RUNNING
    assert not needs_adoption(machine)
    assert read_journal(machine) is None


def test_a_fingerprint_is_enough(adopted, machines):
    let_in(adopted)

    assert end(adopted, machines, host_key=host_key(adopted)).by == "--host-key"


def test_somebody_who_compares_is_enough(adopted, machines):
    let_in(adopted)
    shown = []

    vouched = end(adopted, machines, confirm=lambda key: shown.append(key) or True)

    assert (vouched.by, shown) == ("you", [host_key(adopted)])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "nobody vouches"),
        ({"confirm": lambda key: False}, "nobody vouches"),
        ({"host_key": OTHER}, "another host key"),
        ({"agent": Agent(b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDq7/Xc=\n", None)}, "another host key"),
        ({"agent": Agent(b"ssh-ed25519 \xff\x1b[2J\n", None)}, "nobody vouches"),
        ({"agent": Agent(None, None), "timeout_s": 3}, "nobody vouches"),
    ],
)
def test_without_a_word_to_trust_nothing_is_pinned(adopted, machines, given, reason):
    machine = adopted[0]
    let_in(adopted)

    with pytest.raises(Refused, match=reason):
        end(adopted, machines, **given)

    assert not (machine.keys / "host_key.pub").exists()
    assert needs_adoption(machine)


def test_a_guest_that_does_not_know_our_key_is_told_how_and_finished_later(adopted, machines):
    machine = adopted[0]

    with pytest.raises(WrongState, match="does not let vmkit in") as refused:
        end(adopted, machines, host_key=host_key(adopted), timeout_s=2)
    let_in(adopted)
    vouched = end(adopted, machines)

    assert paste_command(load_keys(machine.keys).user_public) in refused.value.detail
    assert vouched.by == "an earlier run"
    assert not needs_adoption(machine)


def test_a_pinned_key_that_changed_since_is_refused(adopted, machines):
    machine = adopted[0]
    let_in(adopted)
    end(adopted, machines, host_key=host_key(adopted))
    (machine.keys / "host_key.pub").write_text((machine.keys / "user_key.pub").read_text())

    with pytest.raises(VmkitError, match="another host key"):
        end(adopted, machines)


def test_what_is_pasted_makes_a_file_that_sshd_takes(tmp_path):
    Runner().run(["sh", "-c", paste_command("ssh-ed25519 AAAA vmkit")], env={"HOME": str(tmp_path)})

    made = tmp_path / ".ssh" / "authorized_keys"
    assert made.read_text() == "ssh-ed25519 AAAA vmkit\n"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
