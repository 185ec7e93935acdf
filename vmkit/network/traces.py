"""What a guest shows of the computer around it: its variables, mounts, devices and texts, and sshd's sockets."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vmkit.network.walls import Wall

# Variables that say nothing of this computer, or are the same everywhere; KIRO_API_KEY is handed over on purpose.
_COMMON = frozenset(
    ("PATH", "HOME", "SHELL", "USER", "LOGNAME", "LANG", "LANGUAGE", "TERM", "COLORTERM", "PWD", "OLDPWD", "SHLVL")
) | frozenset(("MAIL", "TZ", "EDITOR", "PAGER", "NO_COLOR", "DEBIAN_FRONTEND", "LS_COLORS", "KIRO_API_KEY"))
_LEAST_CHARS = 8  # shorter values are alike by chance
_SHARED_KINDS = re.compile(r"9p|virtiofs|cifs|smb3|nfs4?|vboxsf|prl_fs|vmhgfs|fuse\.(vmhgfs-fuse|sshfs|davfs|rclone)")
_SHARED_DEVICES = ("virtio 0x0009", "virtio 0x001a")  # 9p, virtiofs (virtio 1.2, 5)
_WEBDAV = "port org.spice-space.webdav.0"
_GUEST_AGENT = "port org.qemu.guest_agent.0"
_X11_PORTS = range(6000, 6064)
_HOMES = re.compile(r"/(Users|home)/[A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What this computer knows of itself, and the guest must not. It never leaves this computer."""

    environment: Mapping[str, str] = field(default_factory=dict)
    paths: Sequence[str] = ()
    host_name: str = ""
    door_port: int = 0


def what_shows(wall: Wall, found: Sequence[str], known: Known) -> list[str] | None:
    """Return what of a guest's list must not be there; None for a wall that is not judged by a list."""
    if wall is Wall.ENVIRONMENT:
        return _variables(found, known.environment)
    faulty = _FAULTY.get(wall)
    return [text for text in found if faulty(text, known)] if faulty else None


def is_listed(wall: Wall) -> bool:
    """Tell whether a wall is judged by a list, not by a word."""
    return wall is Wall.ENVIRONMENT or wall in _FAULTY


def _variables(found: Sequence[str], own: Mapping[str, str]) -> list[str]:
    theirs = set(found)
    return [
        f"{name} is this computer's"
        for name, value in own.items()
        if name not in _COMMON
        and not name.startswith(("LC_", "XDG_"))
        and len(value) >= _LEAST_CHARS
        and f"{name} {hashlib.sha256(value.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}" in theirs
    ]


def _names_this_computer(text: str, known: Known) -> bool:
    if any(path in text for path in known.paths if len(path) > len("/root")) or _HOMES.search(text):
        return True
    name = known.host_name
    return len(name) >= _LEAST_CHARS and re.search(rf"\b{re.escape(name)}\b", text) is not None


def _is_share(text: str) -> bool:
    words = text.split(" ")
    mounted = words[0] == "mount" and len(words) > 1 and _SHARED_KINDS.fullmatch(words[1]) is not None
    return mounted or text in _SHARED_DEVICES or text == _WEBDAV


def _tcp(text: str) -> tuple[str, int]:
    words = text.split(" ")
    if len(words) == 3 and words[2].isascii() and words[2].isdigit() and len(words[2]) <= 5:
        return words[1], int(words[2])
    return "", 0  # whatever it is, it is not one of ours


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")


def _is_forward(text: str, known: Known) -> bool:
    address, port = _tcp(text)
    is_door = port == known.door_port and _is_loopback(address)
    return text.startswith("tcp ") and port not in _X11_PORTS and port != 22 and not is_door


_FAULTY: dict[Wall, Callable[[str, Known], bool]] = {
    Wall.SMBIOS: _names_this_computer,
    Wall.SHARES: lambda text, _: _is_share(text),
    Wall.CHANNELS: lambda text, _: text.startswith("port ") and text not in (_GUEST_AGENT, _WEBDAV),
    Wall.AGENT: lambda text, _: text.startswith("unix "),
    Wall.X11: lambda text, _: _tcp(text)[1] in _X11_PORTS,
    Wall.LISTENERS: _is_forward,
}
