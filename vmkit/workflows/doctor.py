"""Check this computer for what vmkit needs. Every finding comes with its fix."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vmkit.errors import HostLacks, VmkitError
from vmkit.host.computer import cpu_count, free_bytes, is_macos, machine_arch, total_memory_mib
from vmkit.host.files import own_directory, sweep
from vmkit.host.paths import Paths
from vmkit.host.privileges import find_account
from vmkit.host.process import Runner
from vmkit.host.programs import find_utm
from vmkit.host.resources import data_folder
from vmkit.host.settings import load_settings
from vmkit.host.sizes import show_size
from vmkit.images.store import ImageStore
from vmkit.machines.model import Machine
from vmkit.machines.store import BrokenMachine, MachineStore, read_journal
from vmkit.workflows.doctor_mac import mac_checks, origin, utm_checks
from vmkit.workflows.finding import Check

Account = Callable[[str, str], int | None]  # as find_account: a process's role, a machine's UUID

_COMFORTABLE_BYTES = 20 << 30
_SHOWN = 5


def doctor(
    *,
    paths: Paths,
    runner: Runner,
    machines: MachineStore,
    images: ImageStore,
    accelerator: Callable[[], tuple[str, str]],
    fix: bool = False,
) -> list[Check]:
    """Run every check. `fix` removes what killed processes left and makes vmkit's folders private again."""
    if fix:
        _fix(paths)
    app = find_utm()
    checks = [
        *_utm(app, runner, machines),
        *_programs(runner, has_utm=app is not None),
        *_accelerator(accelerator, has_utm=app is not None),
        *_computer(paths),
        *user_checks(machines.all()),
        *_folders(paths),
        *_things(machines, images, paths),
    ]
    return list(checks)


def _utm(app: Path | None, runner: Runner, machines: MachineStore) -> Iterator[Check]:
    """Check the Mac and its UTM; elsewhere a UTM that the environment names."""
    if is_macos():
        yield from mac_checks(app, runner=runner, environment=os.environ)
    if is_macos() or app is not None:
        found = [machine for machine in machines.all() if not isinstance(machine, BrokenMachine)]
        macs = {machine.uuid: machine.name for machine in found if machine.system == "macos"}
        yield from utm_checks(app, runner=runner, mac_guests=macs)


def _programs(runner: Runner, *, has_utm: bool) -> Iterator[Check]:
    arch = machine_arch()
    debian = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}.get(arch, "qemu-system")
    wanted = [
        ("qemu", f"qemu-system-{arch}", debian, "warn" if has_utm else "fail"),
        ("qemu-img", "qemu-img", "qemu-utils", "fail"),
    ]
    if not is_macos():
        wanted += [
            ("mmdebstrap", "mmdebstrap", "mmdebstrap", "warn"),
            ("mkfs.ext4", "mkfs.ext4", "e2fsprogs", "warn"),
        ]
    for name, program, package, severity in wanted:
        found = runner.find(program)
        if found is None:
            fix = "brew install qemu" if is_macos() else f"apt-get install {package}"
            yield Check(id=name, status=severity, detail=f"{program} is not installed", fix=fix)
            continue
        try:
            flag = "-V" if program == "mkfs.ext4" else "--version"
            done = runner.run([str(found), flag], ok_codes=None)
            said = (done.stdout or done.stderr).decode("utf-8", "replace").splitlines()
        except VmkitError as error:
            yield Check(id=name, status=severity, detail=error.message)
            continue
        source = f" ({origin(found)})" if is_macos() else ""
        version = said[0].strip() if said else "version unknown"
        yield Check(id=name, status="ok", detail=f"{found}{source}: {version}")


def _accelerator(accelerator: Callable[[], tuple[str, str]], *, has_utm: bool) -> Iterator[Check]:
    try:
        name, reason = accelerator()
    except VmkitError as error:
        status = "warn" if has_utm else "fail"  # UTM brings its own QEMU
        yield Check(id="accelerator", status=status, detail=error.message, fix=error.hint)
        return
    if name == "tcg":
        yield Check(
            id="accelerator",
            status="warn",
            detail=f"software emulation, several times slower: {reason}",
            fix="give your user access to a working /dev/kvm" if not is_macos() else "use a machine with HVF",
        )
    else:
        yield Check(id="accelerator", status="ok", detail=f"{name}: {reason}")


def _computer(paths: Paths) -> Iterator[Check]:
    free = free_bytes(paths.data)
    yield Check(
        id="disk",
        status="ok" if free >= _COMFORTABLE_BYTES else "warn",
        detail=f"{show_size(free)} free at {paths.data}",
        fix=None if free >= _COMFORTABLE_BYTES else "free some space, or set VMKIT_HOME to a larger disk",
    )
    memory = total_memory_mib()
    yield Check(
        id="memory",
        status="ok" if memory >= 6144 else "warn",
        detail=f"{show_size(memory << 20)}, {cpu_count()} CPUs",
        fix=None if memory >= 6144 else "vmkit create --memory 2G",
    )


def user_checks(machines: Iterable[Machine | BrokenMachine], *, account: Account = find_account) -> Iterator[Check]:
    """Say of a vmkit that root runs who its machines' processes are; of another nothing."""
    fix = "run vmkit as an ordinary user"
    try:
        if account("qemu", "") is None:
            return
        found = [machine for machine in machines if not isinstance(machine, BrokenMachine) and machine.driver == "qemu"]
        each = [f"{machine.name}'s QEMU drops to {account('qemu', machine.uuid)}" for machine in found[:_SHOWN]]
    except HostLacks as error:
        detail = f"{error.message}: {error.detail}" if error.detail else error.message
        yield Check(id="user", status="fail", detail=detail, fix=fix)
        return
    who = ", ".join(each) or "each machine's QEMU drops to a user of its own that has no account"
    yield Check(id="user", status="warn", detail=f"vmkit itself runs as root; {who}", fix=fix)


def _folders(paths: Paths) -> Iterator[Check]:
    checks: dict[str, Callable[[], str]] = {
        "data": lambda: str(own_directory(paths.data)),
        "settings": lambda: f"{len(load_settings(paths.settings).flat())} set in {paths.settings}",
        "installation": lambda: f"{data_folder('vm-templates').name}, {data_folder('provision').name} found",
    }
    for name, check in checks.items():
        try:
            yield Check(id=name, status="ok", detail=check())
        except (VmkitError, OSError) as error:
            yield Check(id=name, status="fail", detail=str(error), fix=getattr(error, "hint", None))


def _things(machines: MachineStore, images: ImageStore, paths: Paths) -> Iterator[Check]:
    left = [lock.stem for lock in paths.staging.glob("*.lock")] if paths.staging.is_dir() else []
    if left:
        yield Check(id="staging", status="warn", detail=f"{len(left)} unfinished folders", fix="vmkit doctor --fix")
    try:
        yield Check(id="images", status="ok", detail=f"{len(images.list())} in {paths.images}")
    except VmkitError as error:
        yield Check(id="images", status="fail", detail=error.message, fix=error.hint)
    count = 0
    for machine in machines.all():
        count += 1
        if isinstance(machine, BrokenMachine):
            yield Check(
                id=f"machine {machine.name}",
                status="fail",
                detail=machine.reason,
                fix=f"vmkit delete --force {machine.name}",
            )
            continue
        unfinished = read_journal(machine)
        if unfinished and not machines.changing(machine.name):
            yield Check(
                id=f"machine {machine.name}",
                status="warn",
                detail=f"its {unfinished.operation} was interrupted ({unfinished.phase})",
                fix=f"vmkit provision {machine.name}, or vmkit delete {machine.name}",
            )
    yield Check(id="machines", status="ok", detail=f"{count} in {paths.machines}")


def _fix(paths: Paths) -> None:
    for folder in (paths.data, paths.machines, paths.images, paths.staging, paths.locks):
        if folder.is_dir() and folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
    if paths.staging.is_dir():
        sweep(paths.staging)
    for leftover in Path(paths.data / "run").glob("*") if (paths.data / "run").is_dir() else ():
        if not any(leftover.iterdir()):
            shutil.rmtree(leftover, ignore_errors=True)
