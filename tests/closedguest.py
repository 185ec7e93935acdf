"""A guest without a machine: a namespace with no network but the proxy's port, around which each control can be removed.

The proxy is the real one. It runs in this process, and is reached through a Unix socket, as the keeper's forward would.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.unit.machines.test_model import MACHINE
from vmkit.drivers.base import Address, Vm
from vmkit.guest.base import Command, CommandFailed, Outcome
from vmkit.host.paths import Paths
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.audit import AuditLog
from vmkit.network.dial import STREAM_LIMIT
from vmkit.network.door import DOOR_PORT
from vmkit.network.policy import Policy, render_policy
from vmkit.network.proxy import Proxy
from vmkit.network.selftest import resolving
from vmkit.workflows.net import log_path, policy_for, policy_of

NAMESPACES = ["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
INSIDE = Path(__file__).with_name("closedguest_inside.py")
GATEWAY = "10.0.2.2"


def why_no_namespaces() -> str | None:
    """Say why this computer cannot make namespaces; None when it can."""
    try:
        words = ["unshare", *NAMESPACES, "--", "ip", "link", "set", "lo", "up"]
        done = subprocess.run(words, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.decode(errors="replace").strip() or "it may not" if done.returncode else None


class NamespaceGuest:
    """A Guest, as far as verify needs one. `removed`: what its side of the walls lacks."""

    def __init__(self, door: Path, *removed: str, env: dict[str, str] | None = None) -> None:
        self._door, self._removed, self._env = door, removed, env or {}

    def run(self, command: Command, *, stdin: bytes = b"", check: bool = True, **_: object) -> Outcome:
        given = {"door": DOOR_PORT, "socket": str(self._door), "removed": self._removed, "wire": command.wire()}
        done = subprocess.run(
            ["unshare", *NAMESPACES, "--", sys.executable, "-I", INSIDE, json.dumps(given)],
            input=stdin,
            capture_output=True,
            timeout=120,
            check=False,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **self._env},
        )
        outcome = Outcome(command=str(command), code=done.returncode, stdout=done.stdout, stderr=done.stderr)
        if check and not outcome.ok:
            raise CommandFailed(outcome)
        return outcome


class At:
    """As much of a driver as says where sshd answers."""

    def __init__(self, port: int) -> None:
        self.port = port

    def address(self, vm: Vm) -> Address:
        return Address(host="127.0.0.1", port=self.port)


async def no_names(host: str, port: int) -> list[str]:
    """Resolve nothing: no test asks the internet."""
    raise socket.gaierror(socket.EAI_NONAME, "no name service in the tests")


@dataclass
class Place:
    """One machine on this computer, its sshd's port, and the door of its proxy."""

    home: Path
    machines: MachineStore
    machine: Machine
    door: Path
    policy: Callable[[], Policy] = field(init=False)

    def __post_init__(self) -> None:
        self.policy = lambda: policy_of(self.machine)
        self._read: tuple[bytes, Policy] | None = None

    def _policy(self) -> Policy:
        """Return the policy of this moment; reading it takes longer than a connection does."""
        content = (self.machine.folder / "policy.toml").read_bytes()
        if self._read is None or self._read[0] != content:
            self._read = content, self.policy()
        return self._read[1]

    @contextlib.contextmanager
    def proxy(self, resolve: Callable[[str, int], Awaitable[list[str]]] = no_names, **changed: Any) -> Iterator[None]:
        """Serve the door from a thread."""
        started, stop = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            proxy = Proxy(
                machine=self.machine.name,
                policy=self._policy,
                audit=AuditLog(log_path(self.machine)),
                resolve=resolving(resolve),
                **changed,
            )
            async with await asyncio.start_unix_server(proxy.serve, self.door, limit=STREAM_LIMIT):
                started.set()
                await stop.wait()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        started.wait(10)
        try:
            yield
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join(20)


@contextlib.contextmanager
def sshd_port(address: str = "127.0.0.1") -> Iterator[int]:
    """Listen as QEMU does for the guest's sshd."""
    with socket.create_server((address, 0)) as listener:
        yield int(listener.getsockname()[1])


def made(home: Path, *, egress: str = "strict") -> Place:
    """Make a machine on disk, with nothing behind it."""
    home.chmod(0o700)
    machines = MachineStore(Paths(config=home, data=home, cache=home / "cache"))
    folder = machines.paths.machines / "a"
    machine = Machine(
        **{name: getattr(MACHINE, name) for name in MACHINE.__dataclass_fields__}
        | {"folder": folder, "egress": egress, "recipes": ("base", "kiro-cli"), "name": "a"}
    )
    folder.mkdir(parents=True, mode=0o700)
    machine.keys.mkdir(mode=0o700)
    machines.save(machine)
    machines.paths.sockets(machine.uuid).mkdir(parents=True, mode=0o700)
    (folder / "policy.toml").write_text(render_policy(policy_for(egress, machine.recipes)))
    (folder / "policy.toml").chmod(0o600)
    return Place(home=home, machines=machines, machine=machine, door=home / "door.sock")
