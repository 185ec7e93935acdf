"""The keeper of a running machine: the process that holds its SSH connection, its door, the proxy and the log.

It outlives the command that started it and never the machine. Commands talk to it over a socket that is the user's
alone: each conversation begins with one message, `{"op": …}`, and has a thread of its own. The guest's connections are
all served by one event loop. When the keeper dies, its SSH connection ends, and with that the guest's way out.
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vmkit.drivers.base import Address
from vmkit.errors import Refused, TransportFailed, VmkitError
from vmkit.guest.base import Secret
from vmkit.guest.connection import Listening, Liveness
from vmkit.guest.lending import lend
from vmkit.host.messages import Messages, error_message
from vmkit.network.audit import AuditLog
from vmkit.network.dial import Connect, Resolve, connect, resolve
from vmkit.network.door import DOOR_PORT, Door
from vmkit.network.groups import load_groups
from vmkit.network.policy import Mode, Policy, parse_policy
from vmkit.network.proxy import Proxy

_MAX_CLIENTS = 128
_BACKLOG = 64
_LOOK_EVERY_S = 0.5
_REDIAL_S = 30.0
_DOOR_AGAIN_S = 5.0
_GONE_AFTER_S = 3.0  # the machine's port refuses for as long: it has stopped
_UNUSED_S = 60.0  # no guest was ever reached


@dataclass(frozen=True, kw_only=True)
class Target:
    """A guest's sshd, and how to be let in. With `door`, its programs reach the proxy."""

    address: Address
    user: str
    key: Secret
    host_key: str
    door: bool


class Dial(Protocol):
    """How a guest is reached: `guest.dial.dial`."""

    def __call__(
        self,
        address: Address,
        *,
        user: str,
        key: Secret,
        host_key: str,
        timeout_s: float,
        give_up: Callable[[], bool],
    ) -> Listening:
        """Connect. Raises TransportFailed, Refused (another host key)."""


class Keeper:
    """Serves one machine until it has stopped, or is told to end."""

    def __init__(
        self, machine: str, *, audit: AuditLog, dial: Dial, resolve: Resolve = resolve, connect: Connect = connect
    ) -> None:
        self._machine, self._audit, self._dial = machine, audit, dial
        self._resolve, self._connect = resolve, connect
        self._dialing, self._borrowing = threading.Lock(), threading.Lock()
        self._borrowed: Counter[Listening] = Counter()  # how many programs run over it
        self._clients = threading.BoundedSemaphore(_MAX_CLIENTS)
        self._policy = Policy(mode=Mode.STRICT)
        self._policy_text: str | None = None
        self._target: Target | None = None
        self._connection: Listening | None = None
        self._liveness: Liveness | None = None
        self._closed_door: str | None = None  # why the guest's sshd has no door, when it should
        self._door_tried_at = 0.0
        self._gone_since: float | None = None
        self._used_at = time.monotonic()
        self._why_ended: str | None = None
        self._wake: Callable[[], object] = lambda: None

    def run(self, listener: socket.socket) -> str:
        """Serve until the end; return why it came."""
        return asyncio.run(self._run(listener))

    def end(self, why: str) -> None:
        """Make `run` return, from any thread."""
        self._why_ended = self._why_ended or why
        self._wake()

    async def _run(self, listener: socket.socket) -> str:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(ended.set)
        proxy = Proxy(
            machine=self._machine,
            policy=lambda: self._policy,
            audit=self._audit,
            resolve=self._resolve,
            connect=self._connect,
        )
        self._door = Door(proxy, loop)
        listener.listen(_BACKLOG)
        listener.settimeout(0)
        loop.add_reader(listener, self._accept, listener)
        try:
            while self._why_ended is None:
                await asyncio.to_thread(self._look)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), _LOOK_EVERY_S)
            return self._why_ended
        finally:
            loop.remove_reader(listener)
            self._hang_up()
            await self._door.close()
            self._audit.close()

    # what commands ask for

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connected, _ = listener.accept()
            if not self._clients.acquire(blocking=False):
                connected.close()
                return
            connected.settimeout(None)
            threading.Thread(target=self._converse, args=(Messages(connected=connected),), daemon=True).start()

    def _converse(self, messages: Messages) -> None:
        try:
            with contextlib.suppress(OSError, EOFError, ValueError):  # the client has gone
                try:
                    self._answer(messages.receive(), messages)
                except VmkitError as error:
                    messages.send(error_message(error))
        finally:
            messages.close()
            self._clients.release()

    def _answer(self, request: dict[str, object], messages: Messages) -> None:
        self._used_at = time.monotonic()
        match request.get("op"):
            case "start":
                self._lend(request, messages)
            case "status":
                messages.send(self._status())
            case "policy":
                self._take_policy(str(request.get("text")))
                messages.send(self._status())
            case "dial":
                target = _target(request)
                if request.get("later"):
                    self._target = target
                else:
                    timeout_s = float(str(request.get("timeout_s")))
                    self._reach(target, timeout_s=timeout_s, give_up=lambda: self._is_over(messages))
                messages.send(self._status())
            case "renew":
                with self._dialing:
                    self._retire()
                messages.send(self._status())
            case "end":
                messages.send({"ok": True})
                self.end("it was told to")
            case _:
                raise Refused("the keeper does not know that")

    def _status(self) -> dict[str, object]:
        ready = self._connection is not None and self._connection.is_alive()
        return {
            "pid": os.getpid(),
            "ready": ready,
            "door": bool(ready and self._target and self._target.door and self._closed_door is None),
            "closed_door": self._closed_door,
            "policy": self._policy_text,
            "connections": self._door.connections,
        }

    def _take_policy(self, text: str) -> None:
        self._policy = parse_policy(text.encode(), groups=load_groups())
        self._policy_text = text

    def _is_over(self, messages: Messages) -> bool:
        return self._why_ended is not None or _has_gone(messages)

    def _require(self) -> Listening:
        if self._connection is None or not self._connection.is_alive():
            raise TransportFailed("the connection to the guest was lost")
        return self._connection

    # the connection to the guest

    def _reach(self, wanted: Target | None, *, timeout_s: float, give_up: Callable[[], bool]) -> None:
        """Connect, unless that connection stands already; None: to the guest that was last wanted.

        Raises TransportFailed, Refused.
        """
        with self._dialing:
            target = wanted or self._target
            if target is None:
                return
            if self._connection and self._connection.is_alive() and target == self._target:
                return
            self._hang_up()
            connection = self._dial(
                target.address,
                user=target.user,
                key=target.key,
                host_key=target.host_key,
                timeout_s=timeout_s,
                give_up=give_up,
            )
            self._target, self._connection, self._gone_since = target, connection, None
            self._liveness = Liveness(connection).__enter__()
            self._open_door()

    def _open_door(self) -> None:
        self._closed_door, self._door_tried_at = None, time.monotonic()
        if self._target and self._connection and self._target.door:
            try:
                self._connection.accept(DOOR_PORT, self._door.admit)
            except TransportFailed as error:
                self._closed_door = f"{error.message}: {error.detail}" if error.detail else error.message

    def _hang_up(self) -> None:
        if self._liveness:
            self._liveness.__exit__()
            self._liveness = None
        if self._connection:
            self._connection.close()
            self._connection = None

    def _lend(self, request: dict[str, object], messages: Messages) -> None:
        with self._borrowing:
            connection = self._require()
            self._borrowed[connection] += 1
        try:
            lend(connection, request, messages)
        finally:
            with self._borrowing:
                self._borrowed[connection] -= 1
                if not self._borrowed[connection]:
                    del self._borrowed[connection]
                    if connection is not self._connection:
                        connection.close()

    def _retire(self) -> None:
        """Start nothing more over this connection; it ends with the last program that runs over it."""
        connection = self._connection
        with self._borrowing:
            if connection is None or connection not in self._borrowed:
                self._hang_up()
                return
            self._connection = None
        self._hang_up()
        with contextlib.suppress(TransportFailed):  # then it has ended
            if self._target and self._target.door and self._closed_door is None:
                connection.refuse(DOOR_PORT)

    def _look(self) -> None:
        """Notice a guest that is lost, and reach it again; notice that its machine has stopped, and end."""
        if self._target is None:
            if time.monotonic() - self._used_at > _UNUSED_S:
                self.end("no guest was reached")
            return
        try:
            if self._liveness:
                self._liveness.check()
            if self._connection and self._connection.is_alive():
                if self._closed_door and time.monotonic() - self._door_tried_at > _DOOR_AGAIN_S:
                    self._open_door()
            elif _listens(self._target.address):
                self._gone_since = None
                self._reach(None, timeout_s=_REDIAL_S, give_up=lambda: self._why_ended is not None)
            else:
                self._miss()
        except TransportFailed:
            pass
        except VmkitError as error:
            self.end(error.message)

    def _miss(self) -> None:
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        if now - self._gone_since > _GONE_AFTER_S:
            self.end("the machine has stopped")


def _target(request: dict[str, object]) -> Target:
    return Target(
        address=Address(host=str(request.get("host")), port=int(str(request.get("port")))),
        user=str(request.get("user")),
        key=Secret(str(request.get("key"))),
        host_key=str(request.get("host_key")),
        door=bool(request.get("door")),
    )


def _has_gone(messages: Messages) -> bool:
    """Tell whether the client has hung up: it says nothing while it waits."""
    try:
        return not messages.connected.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError as error:
        return not isinstance(error, BlockingIOError)


def _listens(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=2).close()
    except OSError:
        return False
    return True
