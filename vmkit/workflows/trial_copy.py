"""A copy of a stopped machine that runs for a moment: another identity, no network, a child of its disk.

What is done in it does not reach the machine, whose disk is only read. A copy whose vmkit was killed is ended and
removed by the next one.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from vmkit.bundle.config import Drive, ImageType, QemuConfig
from vmkit.bundle.layout import PRIVATE_DRIVES, Bundle
from vmkit.bundle.seed import SeedValues, make_seed
from vmkit.bundle.shared_config import make_mac
from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import HostLacks, Refused, VmkitError, WrongState
from vmkit.guest.base import Guest
from vmkit.guest.keys import Keys, make_keys
from vmkit.guest.ready import wait_until_ready
from vmkit.host.computer import clone_file
from vmkit.host.files import is_locked, staging, tail
from vmkit.host.paths import Paths
from vmkit.host.ports import choose_port
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.text import printable_lines
from vmkit.host.wait import Deadline
from vmkit.images.disk import create_child, create_overlay
from vmkit.images.layout import Image
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.apple import INITRD, KERNEL, SEED
from vmkit.workflows.start import boot

_NAME = "copy"
_HOSTNAME = "localhost"


@dataclass(frozen=True, kw_only=True)
class TrialCopy:
    """A copy, and its own keys. `disk` holds what differs from the machine's."""

    machine: Machine
    keys: Keys
    disk: Path

    @property
    def folder(self) -> Path:
        """Its private folder, which goes with it."""
        return self.machine.folder


class ReachCopy(Protocol):
    """How the guest of a copy is reached: by `guest_of` below."""

    def __call__(
        self, copy: TrialCopy, *, machines: MachineStore, driver: Driver, report: Report, timeout_s: float
    ) -> contextlib.AbstractContextManager[Guest]:
        """Start the copy and give its guest."""


@contextlib.contextmanager
def trial_copy(machine: Machine, *, machines: MachineStore, driver: Driver, runner: Runner) -> Iterator[TrialCopy]:
    """Give a copy of a stopped machine whose lock is held; it is ended and removed at the end.

    Raises WrongState when the machine is not stopped, HostLacks for one whose disk cannot have children here.
    """
    _require_children(machine, driver)
    if driver.state(machines.vm(machine)) != MachineState.STOPPED:
        raise WrongState(f'machine "{machine.name}" is running', hint=f"vmkit stop {machine.name}")
    source = Bundle(machine.bundle)

    def fill(bundle: Bundle, disk: str) -> None:
        for file in source.data.iterdir():
            if file.is_file() and file.suffix not in (".qcow2", ".iso"):  # kernel, initrd, UEFI's variables
                clone_file(file, bundle.data / file.name)
        create_child(source.file(disk), target=bundle.file(disk), runner=runner)

    with _copy(machine, fill, machines=machines, driver=driver) as copy:
        yield copy


@contextlib.contextmanager
def image_copy(
    image: Image, *, like: Machine, machines: MachineStore, driver: Driver, runner: Runner
) -> Iterator[TrialCopy]:
    """Give a copy of an image, whose disk is in place, in a machine like one that was made from it, running or not.

    Of that machine only what its bundle says is taken. The copy is ended and removed at the end. Raises HostLacks.
    """
    _require_children(like, driver)

    def fill(bundle: Bundle, disk: str) -> None:
        for source, name in ((image.kernel, KERNEL), (image.initrd, INITRD)):
            if source is not None:
                clone_file(source, bundle.data / name)
        create_overlay(
            image.disk, base_format="raw", target=bundle.file(disk), size_bytes=image.virtual_bytes, runner=runner
        )

    with _copy(like, fill, machines=machines, driver=driver) as copy:
        yield copy


def _require_children(machine: Machine, driver: Driver) -> None:
    if driver.bundle_only or machine.backend != "qemu" or not machine.seeded:
        raise HostLacks(
            f'machine "{machine.name}" cannot be copied here',
            detail="only machines that vmkit made from an image for the qemu driver can be",
        )


@contextlib.contextmanager
def _copy(
    machine: Machine, fill: Callable[[Bundle, str], None], *, machines: MachineStore, driver: Driver
) -> Iterator[TrialCopy]:
    end_orphans(machines=machines, driver=driver)
    with staging(_root(machines.paths)) as folder:
        copy = _make(machine, folder, fill)
        try:
            yield copy
        finally:
            end(copy, machines=machines, driver=driver)
            _forget_sockets(copy.machine, machines.paths)


@contextlib.contextmanager
def guest_of(
    copy: TrialCopy, *, machines: MachineStore, driver: Driver, report: Report, timeout_s: float
) -> Iterator[Guest]:
    """Start the copy and give its guest, when it has taken its new identity. Raises TimedOut, ToolFailed (it died)."""
    vm = machines.vm(copy.machine)
    console = driver.console_log(vm)
    marker = f"vmkit: ready {copy.machine.instance_id}".encode()
    deadline = Deadline(timeout_s)

    def died() -> str | None:
        if driver.state(vm) != MachineState.STOPPED:
            return None
        said = [*printable_lines(tail(copy.folder / "qemu.log"), max_lines=4), *printable_lines(tail(console))[-12:]]
        return "\n".join(said) or "it wrote nothing to its console"

    boot(copy.machine, machines=machines, driver=driver, report=report)
    with report.phase("boot", "waiting for the copy to boot"), driver.recording(vm):
        guest = wait_until_ready(
            driver.address(vm),
            user=copy.machine.user,
            key=copy.keys.user_key,
            host_key=copy.keys.host_public,
            instance_id=copy.machine.instance_id,
            deadline=deadline,
            alive=died,
            console_ready=lambda: marker in tail(console),
        )
    with guest:
        yield guest


def end(copy: TrialCopy, *, machines: MachineStore, driver: Driver) -> None:
    """Switch the copy off, as by pulling its plug; nothing when it does not run."""
    vm = machines.vm(copy.machine)
    if driver.state(vm) not in (MachineState.STOPPED, MachineState.BROKEN):
        driver.stop(vm, timeout_s=0, force=True)


def end_orphans(*, machines: MachineStore, driver: Driver) -> None:
    """End the copies whose vmkit was killed; their folders go with the next staging there."""
    for folder in _root(machines.paths).glob("*/machine.json"):
        if is_locked(folder.parent.with_suffix(".lock")):
            continue
        with contextlib.suppress(ValueError, OSError, VmkitError):
            # The record is named after the copy, its folder is not.
            machine = Machine.from_json(folder.read_bytes(), folder=folder.parent / _NAME)
            machine = replace(machine, folder=folder.parent)
            if driver.state(machines.vm(machine)) not in (MachineState.STOPPED, MachineState.BROKEN):
                driver.stop(machines.vm(machine), timeout_s=0, force=True)
            _forget_sockets(machine, machines.paths)


def _make(machine: Machine, folder: Path, fill: Callable[[Bundle, str], None]) -> TrialCopy:
    copy = replace(
        machine, name=_NAME, uuid=str(uuid.uuid4()).upper(), folder=folder, egress="airgap", recipes=(), options={}
    )
    (folder / "machine.json").write_text(copy.to_json())
    config = Bundle(machine.bundle).read()
    disk = system_drive(config)
    bundle = Bundle(copy.bundle)
    bundle.data.mkdir(mode=0o700, parents=True)
    fill(bundle, str(disk.image_name))
    bundle.write(_with_own_identity(config, copy, disk))
    keys = make_keys(folder / "keys")
    make_seed(
        bundle.data / SEED,
        SeedValues(
            instance_id=copy.instance_id,
            hostname=_HOSTNAME,
            user=copy.user,
            authorized_key=keys.user_public,
            host_key_private=keys.host_key.read_text(),
            host_key_public=keys.host_public,
        ),
    )
    return TrialCopy(machine=copy, keys=keys, disk=bundle.file(str(disk.image_name)))


def system_drive(config: QemuConfig) -> Drive:
    """Return the drive with the guest's system: the first disk that is not private to the machine. Raises Refused."""
    for drive in config.drive:
        if drive.image_type is ImageType.DISK and drive.identifier not in PRIVATE_DRIVES and drive.image_name:
            if not drive.image_name.endswith(".qcow2"):
                break
            return drive
    raise Refused("the bundle has no disk of the format qcow2")


def _with_own_identity(config: QemuConfig, copy: Machine, disk: Drive) -> QemuConfig:
    drives = tuple(drive for drive in config.drive if drive is disk or drive.image_type is not ImageType.DISK)
    networks = tuple(
        replace(
            network,
            mac_address=make_mac(),
            isolate_from_host=True,
            port_forward=tuple(replace(forward, host_port=choose_port()) for forward in network.port_forward),
        )
        for network in config.network
    )
    information = replace(config.information, name=copy.name, uuid=copy.uuid)
    return replace(config, information=information, drive=drives, network=networks)


def _root(paths: Paths) -> Path:
    return paths.data / "copies"


def _forget_sockets(copy: Machine, paths: Paths) -> None:
    import shutil  # noqa: PLC0415  # as in host.files

    shutil.rmtree(paths.sockets(copy.uuid), ignore_errors=True)
