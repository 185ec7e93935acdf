"""Reach the agent in a guest through its hypervisor: a way that nobody on a network can stand in.

QEMU gives us the agent's socket, UTM speaks to it for us. The Apple backend has none.
"""

import contextlib
from typing import Protocol

from vmkit.drivers.agent import Agent
from vmkit.drivers.base import Vm
from vmkit.drivers.lines import Silent
from vmkit.drivers.utmctl import Utmctl
from vmkit.errors import VmkitError
from vmkit.host.process import Runner
from vmkit.host.programs import find_utm, utmctl_of

_ASK_S = 5.0

# As the agent runs as root, the files get the owner that sshd wants to see.
_AUTHORIZE = """
set -eu; umask 077
home=$(getent passwd -- "$1" | cut -d: -f6); group=$(id -g -- "$1")
[ -d "$home" ]; mkdir -p -- "$home/.ssh"
grep -qxF -- "$2" "$home/.ssh/authorized_keys" 2>/dev/null || printf '%s\\n' "$2" >>"$home/.ssh/authorized_keys"
chown -- "$1:$group" "$home/.ssh" "$home/.ssh/authorized_keys"
"""


class GuestAgent(Protocol):
    """What an agent can do for a guest that does not know our key. It never raises."""

    def read_file(self, path: str) -> bytes | None:
        """Return the beginning of a file in the guest, or None."""

    def authorize(self, user: str, public_line: str) -> None:
        """Let a public key in for a user of the guest; whether that worked, a login tells."""


def guest_agent(vm: Vm, *, driver: str, runner: Runner) -> GuestAgent | None:
    """Return the way to the agent in a guest, or None where there can be none. Whether one is there, asking tells."""
    if vm.backend != "qemu":
        return None
    if driver == "qemu":
        return _BySocket(vm)
    app = find_utm()
    return _ByUtm(vm, Utmctl(utmctl_of(app), runner=runner)) if app else None


class _BySocket:
    def __init__(self, vm: Vm) -> None:
        self._socket = vm.sockets / "qga.sock"

    def read_file(self, path: str) -> bytes | None:
        try:
            with Agent(self._socket, timeout_s=_ASK_S) as agent:
                return agent.read_file(path)
        except Silent:
            return None

    def authorize(self, user: str, public_line: str) -> None:
        with contextlib.suppress(Silent), Agent(self._socket, timeout_s=_ASK_S) as agent:
            agent.authorize(user, public_line)


class _ByUtm:
    def __init__(self, vm: Vm, utmctl: Utmctl) -> None:
        self._uuid, self._utmctl = vm.uuid, utmctl

    def read_file(self, path: str) -> bytes | None:
        try:
            found = self._utmctl.pull(self._uuid, path)
        except VmkitError:
            return None
        return found[:4096] if found else None

    def authorize(self, user: str, public_line: str) -> None:
        with contextlib.suppress(VmkitError):
            self._utmctl.execute(self._uuid, ["/bin/sh", "-c", _AUTHORIZE, "sh", user, public_line])
