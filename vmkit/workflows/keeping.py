"""Be a machine's keeper: in a process of its own, or in the one that a supervisor watches."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import Busy
from vmkit.guest.dial import dial
from vmkit.guest.signals import ENDING, held
from vmkit.host.computer import raise_open_files
from vmkit.host.files import Lock, own_directory
from vmkit.host.privileges import drop_to, find_account
from vmkit.host.report import Report
from vmkit.host.wait import Deadline, until
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.audit import AuditLog
from vmkit.network.dial import resolve
from vmkit.network.groups import load_groups
from vmkit.network.keeper import Keeper
from vmkit.network.policy import parse_policy
from vmkit.network.selftest import resolving
from vmkit.workflows.keep import Keeper as Kept
from vmkit.workflows.net import log_path
from vmkit.workflows.start import start
from vmkit.workflows.stop import stop

_LOCKED_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.5
_ANY_POLICY = b'mode = "strict"\n[[allow]]\nhost = "*.a.example.com"\n'  # a wildcard takes the list of public suffixes
_FILES = 4096  # three for each connection of the guest, and some


def keep(name: str, *, uuid: str, socket_path: Path, lock: Path, log: Path) -> str:
    """Hold the machine's connection, its door and its log until the machine has stopped; return why it ended.

    Started by root it gives root up as soon as its files are open. Raises TimedOut when another keeper of this machine
    lives on, HostLacks when there is no number to become.
    """
    socket_path, lock, log = socket_path.absolute(), lock.absolute(), log.absolute()
    os.chdir("/")  # hold no folder of the user's
    with _listening(socket_path, lock) as listener:
        keeper = Keeper(name, audit=AuditLog(log), dial=dial, resolve=resolving(resolve))
        raise_open_files(_FILES)
        account = find_account("keeper", uuid)
        if account is not None:
            _load_all()
            drop_to(account, account)
        return keeper.run(listener)


def start_in_foreground(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    report: Report,
    timeout_s: float,
    disposable: bool = False,
) -> int:
    """Start a machine and be its keeper until it has stopped; a signal that ends programs stops it.

    Root's keeper stays a process of its own, which has given root up. Return 0, or 128+n after signal n. Raises what
    `start` and `stop` raise.
    """
    place = Kept(machine, machines=machines)
    place.end()  # one that was left over
    is_root = find_account("keeper", machine.uuid) is not None
    with contextlib.nullcontext() if is_root else _keeping_here(machine, place):
        woken = threading.Event()
        try:
            start(machine, machines=machines, driver=driver, report=report, timeout_s=timeout_s, disposable=disposable)
            report.note(f"{machine.name} is running, and is stopped when this command is ended")
            with held(*ENDING, wake=woken.set) as arrived:
                while place.is_up and not arrived:
                    woken.wait(_LOOK_EVERY_S)
        finally:
            if driver.state(machines.vm(machine)) != MachineState.STOPPED:
                stop(machine, machines=machines, driver=driver, report=report)
    return 128 + arrived[0] if arrived else 0


@contextlib.contextmanager
def _keeping_here(machine: Machine, place: Kept) -> Iterator[None]:
    keeper = Keeper(machine.name, audit=AuditLog(log_path(machine)), dial=dial, resolve=resolving(resolve))
    own_directory(place.socket.parent)

    def serve() -> None:
        with _listening(place.socket, place.lock) as listener:
            keeper.run(listener)

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    try:
        until(lambda _left_s: place.status(), deadline=Deadline(_LOCKED_WITHIN_S), what="the keeper", every_s=0.05)
        yield
    finally:
        keeper.end("the command has ended")
        serving.join()


def _load_all() -> None:
    """Import what is otherwise imported when it is used: root's Python may lie where nobody else can read."""
    import concurrent.futures.thread  # noqa: F401, PLC0415
    import encodings.idna  # noqa: F401, PLC0415  # for looking names up

    import vmkit.guest.transport  # noqa: F401, PLC0415

    parse_policy(_ANY_POLICY, groups=load_groups())


@contextlib.contextmanager
def _listening(socket_path: Path, lock: Path) -> Iterator[socket.socket]:
    held_lock = until(
        lambda _left_s: Lock(lock).acquire("keep"),
        deadline=Deadline(_LOCKED_WITHIN_S),
        what="another keeper of this machine lives",
        retry_on=(Busy,),
    )
    with held_lock, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        socket_path.unlink(missing_ok=True)
        listener.bind(str(socket_path))
        socket_path.chmod(0o600)
        try:
            yield listener
        finally:
            with contextlib.suppress(PermissionError):  # the folder is root's, which this may no longer be
                socket_path.unlink(missing_ok=True)
