"""The keeper of a machine, as commands see it: start it, have it reach the guest, borrow its connection, end it."""

import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import vmkit
from vmkit.drivers.base import Address
from vmkit.errors import ToolFailed, TransportFailed, VmkitError
from vmkit.guest.base import Secret
from vmkit.guest.lent import LentConnection
from vmkit.host.files import is_locked, own_directory, read_bounded, tail
from vmkit.host.messages import Messages, dial_local, raise_error
from vmkit.host.process import Runner
from vmkit.host.text import printable_lines
from vmkit.host.wait import Deadline
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore

_STARTED_WITHIN_S = 20.0
_ENDED_WITHIN_S = 10.0
_ANSWER_S = 10.0
_POLL_S = 0.1
_FIRST_PAUSE_S = 0.01
_MAX_LOCK_BYTES = 500
_MAX_POLICY_BYTES = 1 << 20


class Keeper:
    """One machine's keeper: its place, and what can be asked of it. Errors: TransportFailed when it does not answer."""

    def __init__(self, machine: Machine, *, machines: MachineStore, runner: Runner | None = None) -> None:
        self._machine = machine
        self._runner = runner or Runner()
        self._folder = machines.paths.sockets(machine.uuid)
        self.socket = self._folder / "keeper.sock"
        self.lock = machines.keeper_lock(machine.name)
        self.log = machine.folder / "keeper.log"

    @property
    def is_up(self) -> bool:
        """Tell whether the process lives, without asking it."""
        return is_locked(self.lock)

    def status(self) -> dict[str, object] | None:
        """Return what it says of itself, or None when there is none."""
        try:
            return self._ask({"op": "status"})
        except OSError:
            return None

    def ensure(self) -> dict[str, object]:
        """Start it unless it runs, anew when it hangs; return its status. Raises ToolFailed with its last words."""
        try:
            return self._ask({"op": "status"})
        except TimeoutError:
            self._kill()
        except OSError:  # there is none
            pass
        own_directory(self._folder)
        process = self._runner.spawn(self._argv(), log_path=self.log, env={"PYTHONPATH": _code()})
        deadline, pause_s = Deadline(_STARTED_WITHIN_S), _FIRST_PAUSE_S
        while (status := self.status()) is None:
            if deadline.passed or (process.poll() is not None and not self.is_up):
                said = "\n".join(printable_lines(tail(self.log, max_bytes=4096), max_lines=8))
                raise ToolFailed(f'the keeper of "{self._machine.name}" did not start', detail=said or None)
            select.select([], [], [], pause_s)
            pause_s = min(_POLL_S, pause_s * 2)
        return status

    def dial(
        self,
        address: Address,
        *,
        user: str,
        key: Path | Secret,
        host_key: str,
        timeout_s: float,
        give_up: Callable[[], bool] = lambda: False,
    ) -> LentConnection:
        """Have it reach the guest, unless it has, under the policy of this moment; borrow its connection.

        Raises TransportFailed, Refused (another host key), ToolFailed.
        """
        target = self._target(address, user, key, host_key)
        self._have_dialed(target | {"timeout_s": timeout_s}, timeout_s=timeout_s + _ANSWER_S, give_up=give_up)
        return LentConnection(self.socket)

    def dial_later(self, address: Address, *, user: str, key: Path | Secret, host_key: str) -> None:
        """Have it reach the guest as soon as that can be reached; return at once. Raises ToolFailed."""
        target = self._target(address, user, key, host_key)
        self._have_dialed(target | {"later": True}, timeout_s=_ANSWER_S, give_up=lambda: False)

    def refresh(self) -> None:
        """Tell a keeper that runs of a policy that has changed; nothing when there is none. Raises Refused.

        One that does not take it is ended: what was denied must not stay open.
        """
        status = self.status()
        if status is not None:
            try:
                self._tell_policy(status)
            except OSError:
                self.end()

    def renew(self) -> None:
        """Have it make a new connection, with the environment of now; what runs over the old one runs on."""
        with contextlib.suppress(OSError):  # it has just ended
            self._ask({"op": "renew"})

    def end(self) -> None:
        """End it, and return when it has ended; nothing when there is none."""
        with contextlib.suppress(OSError, VmkitError):
            self._ask({"op": "end"})
        self._await_end()
        if self.is_up:
            self._kill()

    def _kill(self) -> None:
        """End one that hangs. Whoever holds the lock has written its number there."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            content = json.loads(read_bounded(self.lock, max_bytes=_MAX_LOCK_BYTES))
            if self.is_up:
                os.kill(int(content["pid"]), signal.SIGKILL)
        self._await_end()

    def _await_end(self) -> None:
        deadline = Deadline(_ENDED_WITHIN_S)
        while self.is_up and not deadline.passed:
            select.select([], [], [], _FIRST_PAUSE_S)

    def _target(self, address: Address, user: str, key: Path | Secret, host_key: str) -> dict[str, object]:
        return {
            "op": "dial",
            "host": address.host,
            "port": address.port,
            "user": user,
            "key": key.value if isinstance(key, Secret) else key.read_text(),  # which it may not be allowed to read
            "host_key": host_key,
            "door": self._machine.egress == "strict",
        }

    def _have_dialed(self, request: dict[str, object], *, timeout_s: float, give_up: Callable[[], bool]) -> None:
        try:
            self._tell_policy(self.ensure())
            self._ask(request, timeout_s=timeout_s, give_up=give_up)
        except OSError as error:
            raise TransportFailed(f'the keeper of "{self._machine.name}" does not answer') from error

    def _tell_policy(self, status: dict[str, object]) -> None:
        if self._machine.egress != "strict":
            return
        text = _policy_text(self._machine)
        if text != status.get("policy"):
            self._ask({"op": "policy", "text": text})

    def _ask(
        self,
        request: dict[str, object],
        *,
        timeout_s: float = _ANSWER_S,
        give_up: Callable[[], bool] = lambda: False,
    ) -> dict[str, object]:
        """Return the answer. Raises OSError when there is no keeper, or none that answers in time."""
        messages = dial_local(self.socket, timeout_s=_ANSWER_S)
        try:
            messages.send(request)
            _await_answer(messages, Deadline(timeout_s), give_up)
            answer = messages.receive()
        except (EOFError, ValueError) as error:
            raise ConnectionResetError from error
        finally:
            messages.close()
        raise_error(answer)
        return answer

    def _argv(self) -> list[str]:
        places = ["--socket", self.socket, "--lock", self.lock, "--log", self._machine.folder / "network.jsonl"]
        # -P: the folder in which vmkit is called may hold modules of the guest's making
        return [
            sys.executable,
            "-P",
            "-m",
            "vmkit",
            "keeper",
            self._machine.name,
            "--uuid",
            self._machine.uuid,
            *map(str, places),
        ]


def _await_answer(messages: Messages, deadline: Deadline, give_up: Callable[[], bool]) -> None:
    while not select.select([messages.connected], [], [], min(_POLL_S, deadline.left_s))[0]:
        if give_up():
            raise TransportFailed("stopped waiting for the guest's sshd")
        if deadline.passed:
            raise TimeoutError


def _policy_text(machine: Machine) -> str:
    try:
        return read_bounded(machine.policy, max_bytes=_MAX_POLICY_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        from vmkit.network.policy import render_policy  # noqa: PLC0415  # for a machine that lost its file
        from vmkit.workflows.net import policy_of  # noqa: PLC0415

        return render_policy(policy_of(machine))


def _code() -> str:
    return str(Path(vmkit.__file__).parent.parent)
