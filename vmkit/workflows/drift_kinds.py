"""How much each kind of change in a guest matters, and why; which kind a file is of."""

import re
from dataclasses import dataclass
from enum import StrEnum


class Risk(StrEnum):
    """How much a change matters. `EXPECTED`: vmkit or a recipe of the machine made it, and it is as they make it."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    EXPECTED = "expected"


class Kind(StrEnum):
    """What was changed, the worst first."""

    LOADER = "loader"
    ROOT_USER = "root-user"
    RIGHTS = "rights"
    SUDO = "sudo"
    KEY = "authorized-key"
    LOGIN = "login"
    KIRO_RUNS = "kiro-runs"
    UNIT = "unit"
    CRON = "cron"
    APT = "apt"
    USER = "user"
    LIBRARIES = "libraries"
    KIRO_READS = "kiro-reads"
    PACKAGED_UNIT = "packaged-unit"
    USER_UNIT = "user-unit"
    PROFILE = "profile"
    PROGRAM = "program"
    SYSTEM_USER = "system-user"
    GROUP = "group"
    KIRO = "kiro"
    PACKAGE = "package"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """What a kind of change is called, how much it matters, and the reason in one sentence."""

    risk: Risk
    title: str
    reason: str


def _high(title: str, reason: str) -> Meaning:
    return Meaning(risk=Risk.HIGH, title=title, reason=reason)


def _medium(title: str, reason: str) -> Meaning:
    return Meaning(risk=Risk.MEDIUM, title=title, reason=reason)


def _low(title: str, reason: str) -> Meaning:
    return Meaning(risk=Risk.LOW, title=title, reason=reason)


MEANINGS = {
    Kind.LOADER: _high("preloaded library", "every program loads what this file names, with that program's rights"),
    Kind.ROOT_USER: _high("user with root's number", "who logs in as this user is root"),
    Kind.RIGHTS: _high("setuid, setgid, capabilities", "who runs this program gets rights that are not theirs"),
    Kind.SUDO: _high("who may become root", "it says who may run what as root"),
    Kind.KEY: _high("authorized key", "who has this key can log in"),
    Kind.LOGIN: _high("sshd and PAM", "it says who may log in, and what runs at a login"),
    Kind.KIRO_RUNS: _high(
        "Kiro's hooks, agents, MCP", "Kiro starts what it names, without asking, with the user's rights"
    ),
    Kind.UNIT: _high("unit, timer, boot script", "it runs by itself, as root unless it says otherwise"),
    Kind.CRON: _high("cron", "it runs by itself at its time, as root or as its user"),
    Kind.APT: _high("apt's sources, keys, hooks", "it says what may be installed as root, or runs when something is"),
    Kind.USER: _medium("user", "somebody may log in, or be logged in, by this name"),
    Kind.LIBRARIES: _medium("library folders", "programs take their libraries from where this says"),
    Kind.KIRO_READS: _medium("Kiro's steering, prompts, skills", "Kiro takes it for instructions of its user"),
    Kind.PACKAGED_UNIT: _medium("unit of a package", "it runs by itself, and came where packages put their units"),
    Kind.USER_UNIT: _medium("unit of a user", "it runs by itself, as this user"),
    Kind.PROFILE: _medium("profile, environment", "every shell or login of its users runs or takes it"),
    Kind.PROGRAM: _medium("program outside packages", "it is found on the path, before the system's of the same name"),
    Kind.SYSTEM_USER: _low("user without a shell", "services run by this name; nobody logs in by it"),
    Kind.GROUP: _low("group", "its members share files"),
    Kind.KIRO: _low("Kiro's other files", "they change how Kiro behaves"),
    Kind.PACKAGE: _low("package", "other programs and libraries than the image had"),
    Kind.OTHER: _low("file", "it was looked at, and is of no other kind"),
}

PRIVILEGED_GROUPS = frozenset(
    ("root", "sudo", "wheel", "admin", "docker", "lxd", "incus-admin", "libvirt", "disk", "shadow", "kvm")
)

# linux/capability.h, from bit 0 on
# fmt: off
_CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)
# fmt: on

# The first that is found in a path decides.
_KINDS = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (r"^/etc/ld\.so\.preload$", Kind.LOADER),
        (r"^/etc/ld\.so\.conf", Kind.LIBRARIES),
        (r"^/etc/sudo", Kind.SUDO),
        (r"^/etc/(ssh|pam\.d|security)/|^/etc/pam\.conf$", Kind.LOGIN),
        (r"^/usr/local/lib/vmkit/", Kind.KIRO_RUNS),
        (r"/\.kiro/(.*/)?(hooks|agents)(/|$)", Kind.KIRO_RUNS),
        (r"/\.kiro/settings(/(mcp\.json|permissions\.yaml))?$|/\.kiro$", Kind.KIRO_RUNS),
        (r"/\.aws/amazonq(/(.*/)?((cli-)?agents|mcp\.json)(/|$)|$)", Kind.KIRO_RUNS),
        (r"/\.kiro/(steering|prompts|skills)(/|$)", Kind.KIRO_READS),
        (r"/\.kiro/|/\.aws/amazonq/", Kind.KIRO),
        (r"/\.config/(systemd|autostart)(/|$)|/\.local/share/systemd(/|$)|^/etc/xdg/autostart", Kind.USER_UNIT),
        (r"^/etc/(systemd|init\.d|udev|modprobe\.d|modules|rc\.local)", Kind.UNIT),
        (r"^/usr/local/lib/systemd|^/usr/lib/vmkit/(?!closed-network/)", Kind.UNIT),
        (r"^/usr/lib/systemd/", Kind.PACKAGED_UNIT),
        (r"^/etc/(cron|anacron)|^/var/spool/cron", Kind.CRON),
        (r"^/etc/(apt|dpkg)(/|$)|^/usr/share/keyrings", Kind.APT),
        (r"^/usr/local/s?bin|/\.local/bin(/|$)|^/(root|home/[^/]+)/bin(/|$)", Kind.PROGRAM),
        (r"^/etc/(profile|bash\.bashrc|zsh|environment|gitconfig)|^/usr/lib/vmkit/closed-network/", Kind.PROFILE),
        (r"/\.(bash|z[spl]|ssh/|profile|inputrc|pam_environment|xprofile|xsessionrc|gitconfig)", Kind.PROFILE),
        (r"/\.config/(git|fish|environment\.d)(/|$)", Kind.PROFILE),
    )
)


def kind_of(path: str) -> Kind:
    """Return the kind of change that a change of this file is."""
    return next((kind for pattern, kind in _KINDS if pattern.search(path)), Kind.OTHER)


def capability_names(value: str) -> str:
    """Return what the attribute `security.capability`, in hexadecimal, permits; the value itself when it is none."""
    content = bytes.fromhex(value) if len(value) % 2 == 0 else b""
    if len(content) not in (20, 24):  # its second and third version
        return value
    permitted = int.from_bytes(content[4:8], "little") | int.from_bytes(content[12:16], "little") << 32
    return " ".join(name for bit, name in enumerate(_CAPABILITIES) if permitted >> bit & 1) or value
