"""Set a guest up for its closed network, or take that back: one command as root, with the files on its standard input.

Nothing here is a wall; that is outside the guest. It lets ordinary tools find the proxy, and fail at once without it.
"""

import hashlib

from vmkit.errors import ToolFailed
from vmkit.guest.base import Command, Guest
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.host.text import printable_lines
from vmkit.machines.model import Machine

APPLY_S = 300.0  # it takes seconds, and minutes while an emulated guest boots on a computer that is busy itself

_FOLDER = "closed-network"
_CHANGED = b"changed"


def close_guest(guest: Guest, machine: Machine, report: Report) -> bool:
    """Give the guest's tools the proxy and no name service. What is so already stays, and costs one command.

    Return whether anything changed: sshd reads the environment when a connection is made, so commands find the proxy
    in theirs from the next connection on. Raises ToolFailed with what the guest said.
    """
    archive = guest_files()
    return _apply(guest, machine, report, "close", _digest(archive), stdin=archive)


def open_guest(guest: Guest, machine: Machine, report: Report) -> bool:
    """Take back what `close_guest` did; return whether there was anything. Raises ToolFailed."""
    return _apply(guest, machine, report, "open")


def seed_files() -> dict[str, bytes]:
    """Return what the seed holds for the initrd of a built image, which does the same before systemd starts."""
    archive = guest_files()
    return {
        "closed-network.sh": _script().encode(),
        "closed-network.tar": archive,
        "closed-network.digest": f"{_digest(archive)}\n".encode(),
    }


def closed_note() -> str:
    """Return what the initrd of a built image notes when the same scripts have closed the guest before."""
    return f"closed {_digest(guest_files())}"


def guest_files() -> bytes:
    """Return the files for a closed guest as a tar archive, the same bytes every time."""
    import io  # noqa: PLC0415  # with tarfile: a few milliseconds that an open machine does not need
    import tarfile  # noqa: PLC0415

    root = data_folder("provision") / _FOLDER / "root"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                entry = tarfile.TarInfo(str(path.relative_to(root)))
                entry.mode = 0o440 if path.parent.name == "sudoers.d" else 0o644
                content = path.read_bytes()
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _apply(guest: Guest, machine: Machine, report: Report, *words: str, stdin: bytes = b"") -> bool:
    command = Command("sudo", "-n", "sh", "-c", _script(), _FOLDER, *words)
    with report.phase(_FOLDER, f"setting {machine.name} up for its network"):
        done = guest.run(command, stdin=stdin, check=False, timeout_s=APPLY_S, max_bytes=16 << 10)
    if not done.ok:
        said = "\n".join(printable_lines(done.stderr, max_lines=8)) or f"it exited with {done.code}"
        raise ToolFailed(
            f'the guest of "{machine.name}" could not be set up for its network',
            detail=said,
            hint=f"vmkit provision {machine.name}",
        )
    return done.stdout.strip() == _CHANGED


def _script() -> str:
    return (data_folder("provision") / _FOLDER / "apply.sh").read_text()


def _digest(archive: bytes) -> str:
    return hashlib.sha256(_script().encode() + archive).hexdigest()
