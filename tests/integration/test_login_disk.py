"""A login's disk with the real qemu-img and the real QEMU: made with the machine, and never in two at once."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mac import Mac
from tests.sshd import free_port
from tests.unit.images.test_image_store import META, make_disk
from vmkit.drivers.base import Driver, Vm
from vmkit.drivers.qemu import QemuDriver
from vmkit.errors import ToolFailed, VmkitError, WrongState
from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.host.settings import load_settings
from vmkit.images.qcow2 import read_header
from vmkit.images.store import ImageStore
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore, read_journal
from vmkit.testing.bundle import idle_config, idle_machine, write_config
from vmkit.testing.driver import FakeDriver
from vmkit.workflows import login_store
from vmkit.workflows.auth import forget_kept, logout
from vmkit.workflows.create import create
from vmkit.workflows.delete import delete
from vmkit.workflows.plan import Wishes, make_plan

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")

IMAGE = "tiny:latest"


class Lab:
    """A home with an image of a few megabytes; nothing in it boots."""

    def __init__(self, folder: Path, driver: Driver | None = None) -> None:
        self.paths = Paths(config=folder / "config", data=folder / "data", cache=folder / "cache")
        self.paths.data.mkdir(mode=0o700)
        self.machines, self.images = MachineStore(self.paths), ImageStore(self.paths.images)
        self.driver, self.runner = driver or FakeDriver(), Runner()
        kernel, initrd = folder / "kernel", folder / "initrd"
        kernel.write_bytes(b"kernel")
        initrd.write_bytes(b"initrd")
        disk = make_disk(folder / "disk")
        self.images.add(IMAGE, disk=disk, kernel=kernel, initrd=initrd, meta=META, report=Silent())

    def create(self, name: str, **wishes: object) -> Machine:
        plan = make_plan(
            Wishes(name=name, driver="qemu", image=IMAGE, disk="1G", **wishes),
            settings=load_settings(self.paths.settings),
            machines=self.machines,
            images=self.images,
            host_arch="x86_64",
        )
        create(
            plan,
            machines=self.machines,
            images=self.images,
            driver=self.driver,
            runner=self.runner,
            report=Silent(),
            timeout_s=1,
            start=False,
        )
        return self.machines.open(name)

    def delete(self, name: str) -> None:
        delete(name, machines=self.machines, driver_for=lambda _: self.driver, report=Silent())

    def logout(self, machine: Machine) -> None:
        logout(machine, machines=self.machines, driver=self.driver, runner=self.runner)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="vmkit-") as folder:  # short: QEMU's sockets lie in it
        yield Lab(Path(folder))


def disk_of(machine: Machine) -> Path:
    return machine.bundle / "Data" / "login.qcow2"


def test_a_machine_with_kiro_has_a_login_disk_of_its_own(lab: Lab) -> None:
    machine = lab.create("a")

    assert login_store.has_login_disk(machine)
    assert read_header(disk_of(machine)).virtual_bytes == 64 << 20


def test_a_machine_without_kiro_has_none(lab: Lab) -> None:
    machine = lab.create("a", template="debian")

    assert not login_store.has_login_disk(machine)
    assert not disk_of(machine).exists()


def test_a_machine_that_is_made_again_has_the_login_of_its_name(lab: Lab) -> None:
    before = lab.create("a")
    login_store.take_key("a", paths=lab.paths)
    inode = disk_of(before).stat().st_ino
    lab.delete("a")

    after = lab.create("a")

    assert disk_of(after).stat().st_ino == inode
    assert read_journal(after) is None


def test_of_two_creates_at_once_one_gets_the_machine_and_the_login(lab: Lab) -> None:
    login_store.take_key("a", paths=lab.paths)
    inode = disk_of(lab.create("a")).stat().st_ino
    lab.delete("a")
    gate, ended = threading.Barrier(2), list[VmkitError | Machine]()

    def attempt() -> None:
        gate.wait()
        try:
            ended.append(lab.create("a"))
        except VmkitError as error:
            ended.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(isinstance(end, Machine) for end in ended) == [False, True]
    assert all(isinstance(end, Machine | WrongState) for end in ended)
    found = [path for path in lab.paths.data.rglob("*.qcow2") if path.stat().st_ino == inode]
    assert found == [disk_of(lab.machines.open("a"))]


def test_the_logout_of_a_stopped_machine_destroys_key_and_disk(lab: Lab) -> None:
    machine = lab.create("a")
    login_store.take_key("a", paths=lab.paths)
    login_store.record_login(machine, paths=lab.paths)
    with disk_of(machine).open("ab") as disk:
        disk.write(b"what was there")

    lab.logout(machine)

    assert b"what was there" not in disk_of(machine).read_bytes()
    assert read_header(disk_of(machine)).virtual_bytes == 64 << 20
    assert list(lab.paths.login_keys.iterdir()) == []
    assert list(lab.paths.logins.iterdir()) == []


def test_a_machine_without_such_a_disk_has_to_run_to_log_out(lab: Lab) -> None:
    with pytest.raises(WrongState, match="is not running"):
        lab.logout(lab.create("a", template="debian"))


def test_the_login_of_a_deleted_machine_can_be_destroyed(lab: Lab) -> None:
    lab.create("a")
    login_store.take_key("a", paths=lab.paths)
    lab.delete("a")

    forget_kept("a", machines=lab.machines)

    assert list(lab.paths.login_keys.iterdir()) == []
    assert list(lab.paths.logins.iterdir()) == []


def test_with_utm_the_login_comes_out_of_its_folder_and_goes_in_again(tmp_path: Path) -> None:
    mac = Mac(tmp_path)
    lab = Lab(tmp_path, mac.driver())
    lab.create("a")
    login_store.take_key("a", paths=lab.paths)
    theirs = mac.documents / "a.utm" / "Data" / "login.qcow2"
    with theirs.open("ab") as disk:
        disk.write(b"what the guest wrote")

    lab.delete("a")
    gone, between = not theirs.exists(), (lab.paths.logins / "a.qcow2").read_bytes()
    after = lab.create("a")

    assert gone
    assert between.endswith(b"what the guest wrote")
    assert theirs.read_bytes() == between
    assert not disk_of(after).exists()
    assert not (lab.paths.logins / "a.qcow2").exists()


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs QEMU")
def test_a_login_that_somebody_links_into_a_second_machine_is_refused_there(lab: Lab) -> None:
    one, two = idle("a", lab), idle("b", lab)
    login_store.make_login_disk(one.bundle / "Data", runner=lab.runner)
    os.link(one.bundle / "Data/login.qcow2", two.bundle / "Data/login.qcow2")
    driver = QemuDriver(runner=lab.runner, cache=lab.paths.cache)
    driver.start(one)
    try:
        with pytest.raises(ToolFailed) as caught:
            driver.start(two)
    finally:
        driver.stop(one, timeout_s=0, force=True)

    assert 'Failed to get "write" lock' in (caught.value.detail or "")


def idle(name: str, lab: Lab) -> Vm:
    """Write a machine with a login disk and nothing to boot."""
    folder = lab.paths.data / name
    vm = idle_machine(folder, name=name, port=free_port(), sockets=lab.paths.data / f"{name}.run")
    drive = {"Identifier": "login", "ImageName": "login.qcow2", "ImageType": "Disk", "Interface": "VirtIO"}
    write_config(vm, idle_config(name, port=free_port()) | {"Drive": [drive]})
    return vm
