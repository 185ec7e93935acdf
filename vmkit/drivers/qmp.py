"""Speak QMP, QEMU's monitor protocol, to one QEMU.

A client of our own: importing qemu.qmp (asyncio) takes longer than all of `vmkit list`, and it hides the socket whose
peer is the process id that we trust. QEMU serves one client at a time; a second one waits for the greeting.
"""

from pathlib import Path
from typing import Any, Self

from vmkit.drivers.lines import JsonLines
from vmkit.errors import ToolFailed
from vmkit.host.text import printable
from vmkit.host.wait import Deadline


class Qmp:
    """A connection to QEMU's monitor. Raises Silent when it does not answer within `timeout_s`, all calls together."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self._lines = JsonLines(path, deadline=Deadline(timeout_s))
        try:
            version = self._lines.receive()["QMP"]["version"]["qemu"]
            self.version = tuple(int(version[part]) for part in ("major", "minor", "micro"))
            self.execute("qmp_capabilities")
        except (KeyError, TypeError, ValueError) as error:
            self._lines.close()
            raise ToolFailed(f'"{path.name}" is not QEMU\'s monitor') from error
        except BaseException:
            self._lines.close()
            raise

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command and return its answer; events are skipped. Raises Silent, ToolFailed when QEMU refuses."""
        self._lines.send({"execute": command, "arguments": arguments})
        while True:
            answer = self._lines.receive()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise ToolFailed(f'QEMU refused "{command}"', detail=printable(str(answer["error"]), max_chars=500))

    @property
    def pid(self) -> int:
        """QEMU's process id, as the kernel knows it."""
        return self._lines.peer_pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
