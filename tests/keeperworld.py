"""A machine whose guest is an sshd of this computer, and its keeper: the product's process, or one inside the test."""

import contextlib
import dataclasses
import fcntl
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cliclient import command_line, environment, place_machine
from tests.sshd import Sshd, running_sshd
from vmkit.guest.dial import dial
from vmkit.host.paths import Paths
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.audit import AuditLog
from vmkit.network.door import DOOR_PORT
from vmkit.network.keeper import Keeper
from vmkit.workflows import keep


@dataclass(kw_only=True)
class Kept:
    """One machine of a store of its own."""

    home: Path
    sshd: Sshd
    machines: MachineStore
    machine: Machine

    @property
    def keeper(self) -> keep.Keeper:
        return keep.Keeper(self.machine, machines=self.machines)

    def vmkit(self, *words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            command_line(*words), check=False, env=environment(self.home), input=stdin, capture_output=True, timeout=60
        )

    def reach(self):
        """Have the keeper reach the guest, as commands do; its connection."""
        keys = self.sshd.keys
        return self.keeper.dial(
            self.sshd.address, user=self.sshd.user, key=keys.user_key, host_key=keys.host_public, timeout_s=30
        )


@contextlib.contextmanager
def kept_machine(home: Path, *, egress: str = "open", policy: str | None = None) -> Iterator[Kept]:
    machines = MachineStore(Paths(config=home, data=home, cache=home / "cache"))
    (home / "sshd").mkdir(parents=True)
    with running_sshd(home / "sshd") as sshd:
        placed = place_machine(machines, sshd, name="kept")
        machine = dataclasses.replace(placed, egress=egress)
        machines.save(machine)
        if policy is not None:
            machine.policy.write_text(policy)
        kept = Kept(home=home, sshd=sshd, machines=machines, machine=machine)
        try:
            yield kept
        finally:
            kept.keeper.end()


@contextlib.contextmanager
def the_door() -> Iterator[None]:
    """Have the guest's port to oneself: here the guest's loopback is this computer's, whose ports all tests share."""
    with Path("/tmp/vmkit-tests-door.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def keeper_inside(kept: Kept, **changed: object) -> Iterator[Keeper]:
    """Run the keeper in this process, with parts of it replaced."""
    keeper = Keeper(kept.machine.name, audit=AuditLog(kept.machine.folder / "network.jsonl"), dial=dial, **changed)
    place = kept.keeper.socket
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.unlink(missing_ok=True)  # root's keeper, which has given root up, leaves its socket behind
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        thread = threading.Thread(target=keeper.run, args=(listener,))
        thread.start()
        try:
            yield keeper
        finally:
            keeper.end("the test is over")
            thread.join(20)
            place.unlink(missing_ok=True)


def ask_door(request: bytes, *, then: bytes = b"") -> bytes:
    """Send to the guest's side of the door; all that comes back."""
    with socket.create_connection(("127.0.0.1", DOOR_PORT), timeout=20) as guest:
        guest.sendall(request)
        answer = guest.recv(4096)
        if then and answer.startswith(b"HTTP/1.1 200"):
            guest.sendall(then)
        while block := guest.recv(4096):
            answer += block
        return answer
