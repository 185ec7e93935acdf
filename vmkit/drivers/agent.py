"""Ask the guest's qemu-guest-agent: to shut down, for its host key, to let our key in.

It runs in the guest: what it says is bounded, is never shown as it stands, and is believed of that guest only.

The protocol: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html
"""

import base64
import os
import re
import time
from pathlib import Path
from typing import Any, Self

from vmkit.drivers.lines import JsonLines, Silent
from vmkit.host.wait import Deadline

_MAX_LINE = 64 << 10
_POLL_S = 0.3
_IDLE_S = 1.0
_IDLE_SHARE = 0.9
_TICKS = re.compile(rb"cpu ((?: \d{1,18}){5,12})\n")
_SENTINEL = b"\xff"  # no JSON text has this byte: it ends whatever an earlier client left half-said


class Agent:
    """A connection to the agent, synchronised. Raises Silent when it does not answer within `timeout_s`."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self._lines = JsonLines(path, deadline=Deadline(timeout_s), max_line=_MAX_LINE)
        try:
            self._synchronise()
        except BaseException:
            self._lines.close()
            raise

    def ping(self) -> None:
        """Return when the agent answers. Raises Silent."""
        self._lines.send({"execute": "guest-ping"})
        self._lines.receive()

    def shutdown(self) -> None:
        """Ask the guest to power off. The agent does not answer when it obeys."""
        self._lines.send({"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}})

    def read_file(self, path: str, *, max_bytes: int = 4096) -> bytes | None:
        """Return the beginning of a file in the guest, or None when the agent does not give it. Raises Silent."""
        handle = self._ask("guest-file-open", path=path, mode="r")
        if not isinstance(handle, int):
            return None
        found = self._ask("guest-file-read", handle=handle, count=max_bytes)
        self._ask("guest-file-close", handle=handle)
        try:
            return base64.b64decode(found["buf-b64"], validate=True)[:max_bytes]
        except (TypeError, KeyError, ValueError):
            return None

    def authorize(self, user: str, public_line: str) -> None:
        """Let a public key in for a user of the guest, which an agent from 5.2 on can do. Raises Silent."""
        self._ask("guest-ssh-add-authorized-keys", username=user, keys=[public_line])

    def wait_until_booted(self) -> None:
        """Return when a guest with systemd has started all that it starts, or does not say. Raises Silent."""
        started = self._ask("guest-exec", path="systemctl", arg=["is-system-running", "--wait"])
        while isinstance(started, dict) and isinstance(started.get("pid"), int):
            status = self._ask("guest-exec-status", pid=started["pid"])
            if not isinstance(status, dict) or status.get("exited") is not False:
                return
            time.sleep(_POLL_S)

    def wait_until_idle(self) -> None:
        """Return when a Linux guest's processors had next to nothing to do for a second, or it does not say.

        Raises Silent.
        """
        before = self._ticks()
        while before is not None:
            time.sleep(_IDLE_S)
            now = self._ticks()
            if now is None or now[1] - before[1] >= _IDLE_SHARE * (now[0] - before[0]):
                return
            before = now

    def close(self) -> None:
        """End the connection."""
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, command: str, **arguments: Any) -> Any:
        """Return what a command returns, or None when the agent refuses it."""
        self._lines.send({"execute": command, "arguments": arguments})
        return self._lines.receive().get("return")

    def _ticks(self) -> tuple[int, int] | None:
        """Return the clock ticks of all processors since the guest booted, and those of them without work: proc(5)."""
        found = _TICKS.match(self.read_file("/proc/stat") or b"")
        ticks = [int(word) for word in found[1].split()] if found else []
        return (sum(ticks), ticks[3] + ticks[4]) if ticks else None  # idle, and waiting for a disk

    def _synchronise(self) -> None:
        number = int.from_bytes(os.urandom(4))
        self._lines.send({"execute": "guest-sync-delimited", "arguments": {"id": number}}, prefix=_SENTINEL)
        answer = self._lines.receive(after=_SENTINEL)
        while answer.get("return") != number:  # answers to earlier clients; the deadline ends a guest that floods us
            answer = self._lines.receive()


def ask_to_shut_down(path: Path, *, timeout_s: float) -> bool:
    """Ask the guest to power off; return whether its agent was there to hear it."""
    try:
        with Agent(path, timeout_s=timeout_s) as agent:
            agent.ping()
            agent.shutdown()
    except Silent:
        return False
    return True
