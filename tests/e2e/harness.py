"""Drive the installed `vmkit` as a user does: its console script, real QEMU, a real guest."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPT = Path(sys.executable).with_name("vmkit")
PATIENCE_S = 300  # software emulation on a busy machine; nothing here asserts a time


@dataclass(frozen=True)
class Lab:
    """One VMKIT_HOME and the machines in it."""

    home: Path
    extra: Mapping[str, str] = field(default_factory=dict)  # what this lab adds to the environment
    enter: tuple[str, ...] = ()  # what runs `vmkit` elsewhere, such as nsenter

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "VMKIT_HOME": str(self.home), "NO_COLOR": "1", **self.extra}

    def run(
        self, *words: str, stdin: bytes | None = None, code: int | None = 0, env: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run `vmkit WORDS` to its end; fail with what it said unless it exits with `code` (None: any)."""
        done = subprocess.run(
            [*self.enter, SCRIPT, *words],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=False,
            env=self.environment | (env or {}),
            timeout=PATIENCE_S * 4,
        )
        assert code is None or done.returncode == code, (
            f"vmkit {' '.join(words)} exited with {done.returncode}\n{done.stdout[-4000:].decode(errors='replace')}\n"
            f"{done.stderr[-4000:].decode(errors='replace')}"
        )
        return done

    def start(self, *words: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start `vmkit WORDS` in a session of its own."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen([*self.enter, SCRIPT, *words], env=self.environment, start_new_session=True, **options)

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def exec(self, name: str, *command: str, **options: Any) -> str:
        """Return what a command in the guest printed."""
        return self.run("exec", name, "--", *command, **options).stdout.decode()

    def state(self, name: str) -> str | None:
        states = {machine["name"]: machine["state"] for machine in self.json("list")["machines"]}
        return states.get(name)

    def qemu_pids(self) -> list[int]:
        """Return the QEMU processes of this lab: those with its home in their arguments."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                arguments = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if arguments.startswith(b"/usr/bin/qemu-system") and os.fsencode(self.home) in arguments:
                found.append(int(entry.name))
        return found

    def pid_of(self, name: str) -> int:
        [pid] = [
            pid
            for pid in self.qemu_pids()
            if f"/machines/{name}/".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return pid


def eventually(happens: Callable[[], Any], what: str, *, within_s: float = PATIENCE_S) -> Any:
    """Wait until `happens()` returns something true, and return that."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        found = happens()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {within_s} s")
