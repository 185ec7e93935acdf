"""Whether somebody's files have been brought into a machine: from then on, what runs there is not ours alone."""

from pathlib import Path

from vmkit.host.files import read_bounded, write_atomically
from vmkit.machines.model import Machine

_MAX_BYTES = 8 << 10


def has_workspace(machine: Machine) -> bool:
    """Tell whether a workspace was ever brought in."""
    return read_workspace(machine) is not None


def read_workspace(machine: Machine) -> Path | None:
    """Return the folder on this computer that was brought in last, or None."""
    try:
        return Path(read_bounded(_marker(machine), max_bytes=_MAX_BYTES).decode().rstrip("\n"))
    except FileNotFoundError:
        return None


def mark_workspace(machine: Machine, workspace: Path) -> None:
    """Record that a workspace goes in, before its first file does."""
    write_atomically(_marker(machine), f"{workspace}\n".encode())


def _marker(machine: Machine) -> Path:
    return machine.folder / "workspace"
