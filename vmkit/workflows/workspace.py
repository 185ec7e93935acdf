"""Whether somebody's files have been brought into a machine: from then on, what runs there is not ours alone."""

from pathlib import Path

from vmkit.host.files import write_atomically
from vmkit.machines.model import Machine


def has_workspace(machine: Machine) -> bool:
    """Tell whether a workspace was ever brought in."""
    return _marker(machine).exists()


def mark_workspace(machine: Machine, workspace: Path) -> None:
    """Record that a workspace goes in, before its first file does."""
    write_atomically(_marker(machine), f"{workspace}\n".encode())


def _marker(machine: Machine) -> Path:
    return machine.folder / "workspace"
