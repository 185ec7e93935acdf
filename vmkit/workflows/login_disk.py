"""Open, in the guest, the disk on which Kiro's login lies: one command, and the key goes in on its standard input."""

from enum import StrEnum

from vmkit.errors import ToolFailed, WrongState
from vmkit.guest.base import Command, Guest
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.host.text import printable_lines
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.login_store import has_login_disk, take_key

UNLOCK_S = (
    180.0  # the first time it makes a file system; 4 to 24 s were seen under software emulation, on a busy computer
)

_WITHOUT_DISK, _WITHOUT_CRYPTSETUP, _OTHER_KEY, _IN_USE = 44, 45, 46, 47
_IS_MOUNTED = 'mountpoint -q "$HOME/.local/share/kiro-cli"'


class DiskState(StrEnum):
    """What `auth status` says of the login's disk."""

    UNLOCKED = "unlocked"
    LOCKED = "locked"
    NONE = "none"


def unlock(guest: Guest, machine: Machine, *, machines: MachineStore, report: Report) -> bool:
    """Open the machine's login disk, if it has one, where Kiro expects its data. What is open already stays so.

    Return False when the guest has no cryptsetup yet. Raises ToolFailed with what the guest said; the machine runs on.
    """
    if not has_login_disk(machine):
        return True
    key, is_new = take_key(machine.name, paths=machines.paths)
    command = _script("unlock.sh", machine.user, "new" if is_new else "")
    with report.phase("login-disk", f"unlocking the login of {machine.name}"):
        done = guest.run(command, stdin=f"{key.value}\n".encode(), check=False, timeout_s=UNLOCK_S, max_bytes=16 << 10)
    if done.code == _WITHOUT_CRYPTSETUP:
        return False
    if not done.ok:
        said = "\n".join(printable_lines(done.stderr, max_lines=8)) or f"it exited with {done.code}"
        what, hint = _FAILURES.get(done.code, ("could not be unlocked", "vmkit login {}"))
        raise ToolFailed(f'the login disk of "{machine.name}" {what}', detail=said, hint=hint.format(machine.name))
    return True


_FAILURES = {
    _WITHOUT_DISK: ("is not there: the guest sees no drive with the serial number login", "vmkit restart {}"),
    _OTHER_KEY: ("is of another key", "vmkit auth logout {} makes it anew; then log in again"),
    _IN_USE: ("is in use by a login that was ended", "vmkit restart {}"),
}


def unlock_or_say(guest: Guest, machine: Machine, *, machines: MachineStore, report: Report) -> None:
    """Open the login's disk, if the machine has one; say so when the guest lacks the program. Raises ToolFailed."""
    if not unlock(guest, machine, machines=machines, report=report):
        report.note(
            f'the login of "{machine.name}" stays locked: its guest has no cryptsetup (vmkit provision {machine.name})'
        )


def wipe(guest: Guest, machine: Machine) -> None:
    """Close the disk in the guest and empty it. Raises WrongState when a program there still uses it."""
    done = guest.run(_script("wipe.sh", machine.user), check=False, timeout_s=UNLOCK_S, max_bytes=16 << 10)
    if done.code == _IN_USE:
        raise WrongState(
            f'the login is gone, and a program in "{machine.name}" still has its files open',
            hint=f"vmkit restart {machine.name}",
        )
    if not done.ok:
        said = "\n".join(printable_lines(done.stderr, max_lines=8))
        raise ToolFailed(f'the login disk of "{machine.name}" could not be emptied; its key is destroyed', detail=said)


def disk_state(guest: Guest, machine: Machine) -> DiskState:
    """Ask the guest."""
    if not has_login_disk(machine):
        return DiskState.NONE
    mounted = guest.run(Command("sh", "-c", _IS_MOUNTED), check=False, max_bytes=1024).ok
    return DiskState.UNLOCKED if mounted else DiskState.LOCKED


def _script(name: str, *words: str) -> Command:
    text = (data_folder("provision") / "login-disk" / name).read_text()
    return Command("sudo", "-n", "sh", "-c", text, name, *words)
