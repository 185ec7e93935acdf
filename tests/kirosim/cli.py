"""Run the simulated `kiro-cli` on this computer, as a guest's user would: with a pipe, or on a terminal."""

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.kirosim.mirror import VERSION, archive_files

_DEADLINE_S = 30.0


class Cli:
    """An installed kiro-cli and the home folder it writes to. Nothing of the caller's environment reaches it."""

    def __init__(self, home: Path, *, service: str, env: Mapping[str, str] | None = None) -> None:
        self.home, self.bin = home, home / ".local" / "bin"
        self.bin.mkdir(parents=True)
        for path, content in archive_files(version=VERSION, service=service, target="x86_64-linux").items():
            if path.startswith("kirocli/bin/"):
                (self.bin / Path(path).name).write_bytes(content)
                (self.bin / Path(path).name).chmod(0o755)
        system = os.environ.get("PATH", os.defpath)
        self.env = {"HOME": str(home), "PATH": f"{self.bin}:{system}", "LANG": "C.UTF-8", **(env or {})}

    @property
    def database(self) -> Path:
        """Where it keeps its login."""
        return self.home / ".local" / "share" / "kiro-cli" / "data.sqlite3"

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, program: str = "kiro-cli", stdin: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it through pipes, over an SSH session unless `env` says otherwise."""
        return subprocess.run(
            [self.bin / program, *arguments],
            env={**self.env, **({"SSH_CONNECTION": "10.0.2.2 1 10.0.2.15 22"} if env is None else env)},
            input=stdin.encode(),
            capture_output=True,
            timeout=_DEADLINE_S,
            check=False,
        )

    @contextlib.contextmanager
    def terminal(
        self, *arguments: str, env: Mapping[str, str] | None = None, program: str = "kiro-cli"
    ) -> Iterator["Terminal"]:
        """Run it on a terminal of its own, as `ssh -tt` would."""
        ours, theirs = pty.openpty()
        ssh = {"SSH_TTY": "/dev/pts/0", "TERM": "xterm-256color"}
        child = subprocess.Popen(
            [self.bin / program, *arguments],
            env={**self.env, **(ssh if env is None else env)},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            yield Terminal(ours, child)
        finally:
            child.kill()
            child.wait()
            os.close(ours)


class Terminal:
    """What a person sees and types."""

    def __init__(self, descriptor: int, child: "subprocess.Popen[bytes]") -> None:
        self._descriptor, self._child, self.seen = descriptor, child, b""

    def wait_for(self, text: str) -> bytes:
        """Read until `text` has been shown; return all that was shown. Raises AssertionError when it never is."""
        deadline = time.monotonic() + _DEADLINE_S
        while text.encode() not in self.seen:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{text!r} was never shown; shown was {self.seen!r}")
        return self.seen

    def type(self, keys: str) -> None:
        """Type."""
        os.write(self._descriptor, keys.encode())

    def end(self) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + _DEADLINE_S
        while self._read(deadline - time.monotonic()):
            pass
        return self._child.wait(_DEADLINE_S)

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._descriptor], [], [], max(0.0, timeout_s))[0]:
            return False
        try:
            block = os.read(self._descriptor, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            return False
        self.seen += block
        return bool(block)
