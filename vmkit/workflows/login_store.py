"""Where Kiro's login lies on this computer: a small disk that belongs to a machine's name, and its key, apart from it.

The disk is one file that is moved by renaming: into the machine of that name, out of it when the machine is deleted. So
it is in one machine or in none. The key is not in the store: without it the disk is noise, for a copy of it too.
"""

import contextlib
import datetime as dt
import json
import os
import secrets
from pathlib import Path

from vmkit.bundle.layout import LOGIN_NAME, Bundle, private_drives
from vmkit.drivers.base import Driver
from vmkit.errors import NotFound, Refused
from vmkit.guest.base import Secret
from vmkit.host.computer import clone_file
from vmkit.host.files import own_directory, read_bounded, staging, write_atomically
from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.images.disk import create_blank
from vmkit.machines.model import Machine, checked_name
from vmkit.machines.store import MachineStore

DISK_BYTES = 64 << 20

_KEY_BYTES = 64
_MAX_BYTES = 4 << 10


def has_login_disk(machine: Machine) -> bool:
    """Tell whether Kiro's login lies on a disk of its own: for machines made with Kiro, of UTM's QEMU backend."""
    if machine.backend != "qemu" or not machine.seeded:
        return False
    try:
        return bool(private_drives(Bundle(machine.bundle).read_any()))
    except (NotFound, Refused):  # whoever starts it is told
        return False


def make_login_disk(data: Path, *, runner: Runner) -> None:
    """Make an empty one in the `Data/` of a bundle that is being made."""
    create_blank(data / LOGIN_NAME, size_bytes=DISK_BYTES, runner=runner)


def attach(machine: Machine, *, paths: Paths) -> None:
    """Move the disk that is kept for this name into the stopped machine, if there is one; once more changes nothing.

    Only while the bundle here is the one that runs: the disks of a machine that UTM has taken over are not ours.
    """
    kept = _kept(machine.name, paths)
    data = Bundle(machine.bundle).data
    if kept.exists() and has_login_disk(machine) and data.is_dir() and any(data.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            kept.replace(data / LOGIN_NAME)


def detach(machine: Machine, *, machines: MachineStore, driver: Driver) -> bool:
    """Take the disk out of a stopped machine that is about to be deleted, and keep it for the name.

    Return whether it is kept; False when it was never used, or cannot be read: then the login goes with the machine.
    """
    paths = machines.paths
    bundle = driver.find_bundle(machines.vm(machine))
    disk = Bundle(bundle).data / LOGIN_NAME if bundle else None
    if disk is None or not disk.is_file() or not _key(machine.name, paths).exists():
        return False
    own_directory(paths.logins)
    if disk.is_relative_to(machine.folder):
        disk.replace(_kept(machine.name, paths))
        return True
    try:  # UTM's copy, on which we do not lay hands
        with staging(paths.staging) as folder:
            clone_file(disk, folder / LOGIN_NAME)
            (folder / LOGIN_NAME).replace(_kept(machine.name, paths))
    except PermissionError:
        return False
    return True


def detach_from_folder(name: str, *, paths: Paths) -> None:
    """Keep the disk of a machine whose record is broken, if it lies where our drivers have it."""
    disk = Bundle(paths.machines / name / f"{name}.utm").data / LOGIN_NAME
    if disk.is_file() and _key(name, paths).exists():
        own_directory(paths.logins)
        disk.replace(_kept(name, paths))


def is_kept(name: str, *, paths: Paths) -> bool:
    """Tell whether a login is kept for a machine of that name that does not exist."""
    return _kept(checked_name(name), paths).exists()


def take_key(name: str, *, paths: Paths) -> tuple[Secret, bool]:
    """Return the key of a machine's login disk, in hexadecimal, and whether it was made just now.

    Raises Refused for a key that others can read, or that is none.
    """
    path = _key(name, paths)
    made = False
    if not path.exists():
        own_directory(path.parent)
        path.parent.chmod(0o700)
        made = _publish_once(path, f"{secrets.token_hex(_KEY_BYTES)}\n".encode())
    content = read_bounded(path, max_bytes=2 * _KEY_BYTES + 1).decode("ascii", "replace").strip()
    if path.stat().st_mode & 0o077 or path.stat().st_uid != os.getuid():
        raise Refused(f'"{path}" must be a file of yours that nobody else can read', hint=f"chmod 600 {path}")
    if len(content) != 2 * _KEY_BYTES or not content.isalnum():
        raise Refused(f'"{path}" is no key', hint=f"vmkit auth logout {name} makes the disk and its key anew")
    return Secret(content), made


def destroy(name: str, *, paths: Paths) -> None:
    """Destroy the key, which ends the login whatever becomes of the disk; then what is kept for the name."""
    _key(name, paths).unlink(missing_ok=True)
    _kept(name, paths).unlink(missing_ok=True)
    (paths.logins / f"{name}.json").unlink(missing_ok=True)


def blank(machine: Machine, *, paths: Paths, runner: Runner) -> None:
    """Put an empty disk in the place of a stopped machine's. UTM's copy stays: nobody has its key any more."""
    disk = Bundle(machine.bundle).data / LOGIN_NAME
    if disk.exists():
        with staging(paths.staging) as folder:
            make_login_disk(folder, runner=runner)
            (folder / LOGIN_NAME).replace(disk)


def record_login(machine: Machine, *, paths: Paths) -> None:
    """Remember when a login was made, where the login itself is kept."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    path = _record(machine, paths)
    own_directory(path.parent)
    write_atomically(path, json.dumps({"since": now}).encode())


def logged_in_since(machine: Machine, *, paths: Paths) -> str | None:
    """Return when vmkit made the login, ISO 8601; None when it did not."""
    try:
        return str(json.loads(read_bounded(_record(machine, paths), max_bytes=_MAX_BYTES))["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_record(machine: Machine, *, paths: Paths) -> None:
    """Forget when a login was made."""
    _record(machine, paths).unlink(missing_ok=True)


def _kept(name: str, paths: Paths) -> Path:
    return paths.logins / f"{name}.qcow2"


def _key(name: str, paths: Paths) -> Path:
    return paths.login_keys / f"{name}.key"


def _record(machine: Machine, paths: Paths) -> Path:
    return paths.logins / f"{machine.name}.json" if has_login_disk(machine) else machine.folder / "login.json"


def _publish_once(path: Path, content: bytes) -> bool:
    """Make a file appear whole, mode 0600, unless another process was faster; return whether it is ours."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_atomically(fresh, content)
    try:
        os.link(fresh, path)
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    return True
