"""Disposable starts under QEMU: disks that are thrown away, and a kept state of a guest that is ready to go on from.

HOME/disposable/DRIVE.qcow2, key  children of the machine's disks, made at each disposable start; the guest writes there
HOME/ready/DRIVE.qcow2, key       the same with the snapshot "ready" in them: memory, devices, disks at one moment

`key` says of what: a ready state fits one command line and the very files that it was made with, nothing else.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmkit.bundle.config import Drive, ImageType, Interface, QemuConfig
from vmkit.drivers.agent import Agent
from vmkit.drivers.base import Vm
from vmkit.drivers.lines import Silent
from vmkit.drivers.qmp import Qmp
from vmkit.errors import HostLacks, TimedOut, ToolFailed
from vmkit.host.computer import clone_file
from vmkit.host.files import own_directory, publish, read_bounded, require_space, staging
from vmkit.host.process import QUICK_S, Runner
from vmkit.host.wait import Deadline, until

_SNAPSHOT = "ready"
_SAVE_S = 120.0
_ASK_S = 1.0
_KEY_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Throwaway:
    """The disks of one disposable start, by drive."""

    vm: Vm
    files: dict[str, Path]

    def prepare(self, config: QemuConfig, argv: Sequence[str], *, runner: Runner) -> list[str]:
        """Make the files; return what the command line `argv` needs to go on from the ready state: nothing without."""
        folder, ready, key = _folder(self.vm), _ready(self.vm), _key(self.vm, argv)
        shutil.rmtree(folder, ignore_errors=True)
        own_directory(folder)
        (folder / "key").write_text(key)
        if _fits(ready, key):
            with contextlib.suppress(OSError):  # no space: a start from the beginning needs less
                for file in self.files.values():
                    clone_file(ready / file.name, file)
                return ["-loadvm", _SNAPSHOT]
        for drive in config.drive:
            if drive.identifier in self.files:
                _make_child(self.vm.bundle / "Data" / str(drive.file_name), self.files[drive.identifier], runner)
        return []


def throwaway(vm: Vm, config: QemuConfig, *, has_firmware: bool) -> Throwaway | None:
    """Return the disks of a disposable start; None when QEMU cannot keep the state of such a machine (`-snapshot`).

    QEMU keeps snapshots in qcow2 only, and UEFI's variables are raw.
    """
    disks = [drive for drive in config.drive if _is_written(drive)]
    if has_firmware or not disks or any(drive.interface is Interface.PFLASH for drive in disks):
        return None
    return Throwaway(vm=vm, files={drive.identifier: _folder(vm) / f"{drive.identifier}.qcow2" for drive in disks})


def can_keep(vm: Vm) -> bool:
    """Tell whether the machine was started with disks that are thrown away."""
    return (_folder(vm) / "key").exists()


def keep(vm: Vm, config: QemuConfig, *, agent_s: float) -> bool:
    """Keep how a machine that was started for once is now; return False when it was not, or has no room for it.

    Waits `agent_s` seconds at most for the guest's agent to say that the guest has finished booting, and is idle.
    The machine stands still meanwhile. Nobody may be connected to the guest: it would wait for who never comes back.
    """
    if not can_keep(vm):
        return False
    deadline = Deadline(agent_s)
    with contextlib.suppress(TimedOut, Silent):
        until(lambda _left_s: _answers(vm), deadline=deadline, what="the guest's agent", every_s=0.2)
        with Agent(vm.sockets / "qga.sock", timeout_s=deadline.left_s) as agent:
            agent.wait_until_booted()
            agent.wait_until_idle()
    try:
        require_space(vm.home, needed_bytes=2 * config.system.memory_mib << 20, what="the ready state")
        with Qmp(vm.sockets / "qmp.sock", timeout_s=_SAVE_S) as qmp:
            qmp.execute("stop")
            try:
                _save(qmp)
                with staging(vm.home / "staging") as stage:
                    _copy(_folder(vm), stage / "ready")
                    forget_ready(vm)
                    publish(stage / "ready", _ready(vm))
            finally:
                qmp.execute("cont")
    except (HostLacks, OSError, Silent, ToolFailed):
        return False
    return True


def forget_disks(vm: Vm) -> None:
    """Remove what the last disposable start wrote."""
    shutil.rmtree(_folder(vm), ignore_errors=True)


def forget_ready(vm: Vm) -> None:
    """Remove the ready state: the machine's disks are about to change."""
    shutil.rmtree(_ready(vm), ignore_errors=True)


def _answers(vm: Vm) -> bool:
    """Ask the guest's agent once: what is sent before the agent listens is lost."""
    try:
        with Agent(vm.sockets / "qga.sock", timeout_s=_ASK_S) as agent:
            agent.ping()
    except Silent:
        return False
    return True


def _save(qmp: Qmp) -> None:
    said = qmp.execute("human-monitor-command", **{"command-line": f"savevm {_SNAPSHOT}"})
    if said:
        raise ToolFailed("QEMU could not keep the machine's state", detail=said[:500])
    qmp.execute("stop")  # once more: that writes out what it holds of the disks


def _copy(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for file in source.iterdir():
        clone_file(file, target / file.name)


def _make_child(disk: Path, target: Path, runner: Runner) -> None:
    kind = "qcow2" if disk.suffix == ".qcow2" else "raw"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", str(disk.absolute()), str(target.absolute())]
    runner.run(argv, timeout_s=QUICK_S)


def _fits(ready: Path, key: str) -> bool:
    try:
        return read_bounded(ready / "key", max_bytes=_KEY_BYTES).decode() == key
    except (OSError, ValueError):
        return False


def _key(vm: Vm, argv: Sequence[str]) -> str:
    """Return a digest of the command line and of which files, unchanged since when, it is about."""
    files = [Path(argv[0]), *sorted((vm.bundle / "Data").iterdir())]
    seen = [(str(path), (stat := path.stat()).st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([list(argv), seen]).encode()).hexdigest()


def _is_written(drive: Drive) -> bool:
    return bool(drive.is_medium and drive.image_type is ImageType.DISK and not drive.read_only and drive.file_name)


def _folder(vm: Vm) -> Path:
    return vm.home / "disposable"


def _ready(vm: Vm) -> Path:
    return vm.home / "ready"
