"""Give up root: the numbers that a machine's processes run as when root runs vmkit, and how to become one.

Each process of each machine gets a number of its own, since processes of one user may read each other's memory. It is
user and group at once and belongs to no account, so that no file is its. The macOS branch has never run (unverified).
"""

import ctypes
import grp
import hashlib
import os
import pwd
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vmkit.errors import HostLacks

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
_ALL = (range(2**32 - 1),)
_MAPS = ("/proc/self/uid_map", "/proc/self/gid_map")
_FREE = (
    range(0x7000_0000, 0x8000_0000),  # what systemd's list of user numbers leaves to nobody
    range(30_000, 60_000),  # in a container that has few
)
_TRIES = 32  # the first does, unless an account happens to have that number


def find_account(
    role: str,
    machine_uuid: str,
    *,
    root: bool | None = None,
    mapped: Sequence[range] | None = None,
    is_taken: Callable[[int], bool] | None = None,
) -> int | None:
    """Return the number that the `role` process of a machine gets when root runs vmkit, else None: it stays the user's.

    The same for every call. Raises HostLacks when root has no other number here, as in `unshare --map-root-user`.
    """
    if not (os.geteuid() == 0 if root is None else root):
        return None
    ranges = _mapped() if mapped is None else mapped
    for free in _FREE:
        for attempt in range(_TRIES):
            digest = hashlib.sha256(f"{role} {machine_uuid.lower()} {attempt}".encode()).digest()
            number = free[int.from_bytes(digest[:8]) % len(free)]
            if any(number in known for known in ranges) and not (is_taken or _is_taken)(number):
                return number
    raise HostLacks(
        "vmkit runs as root, and there is no unprivileged number to run machines as",
        detail="its user namespace has too few",
        hint="run vmkit as an ordinary user",
    )


def drop_to(uid: int, gid: int) -> None:
    """Become `uid` and `gid` for good, with no other group and no capability; programs started cannot undo it either.

    For root only, once what needs root is open and while this process has one thread. Raises PermissionError.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)  # root's own sets the real, effective and saved one, and the kernel takes the capabilities
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise PermissionError("root could be had back")


def _mapped() -> list[range]:
    """Return the numbers that are both users and groups in this process's user namespace."""
    try:
        users, groups = (_parse_map(Path(path).read_text()) for path in _MAPS)
    except OSError:  # no Linux
        return list(_ALL)
    both = (range(max(u.start, g.start), min(u.stop, g.stop)) for u in users for g in groups)
    return [common for common in both if common]


def _parse_map(text: str) -> list[range]:
    """Read `user_namespaces(7)`'s lines: the first number inside, the first outside, how many."""
    lines = [line.split() for line in text.splitlines()]
    return [range(int(first), int(first) + int(count)) for first, _, count in lines]


def _is_taken(number: int) -> bool:
    for look_up in (pwd.getpwuid, grp.getgrgid):
        try:
            look_up(number)
        except KeyError:
            continue
        return True
    return False
