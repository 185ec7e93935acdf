"""Where the simulator keeps things: its installation, and the user's container."""

import fcntl
import hashlib
import json
import os
import plistlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """One installation, seen by one user."""

    folder: Path
    home: Path

    @classmethod
    def of_caller(cls, folder: Path) -> "Place":
        return cls(folder, Path(os.environ.get("HOME") or "/nonexistent"))

    @property
    def container(self) -> Path:
        return self.home / "Library/Containers/com.utmapp.UTM/Data"

    @property
    def documents(self) -> Path:
        return self.container / "Documents"

    @property
    def registry(self) -> Path:
        """Stand for the preferences of UTM, and for what the running UTM has in its memory."""
        return self.container / "Library/Preferences/com.utmapp.UTM.json"

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version_text.split("."))

    @property
    def version_text(self) -> str:
        info = plistlib.loads((self.folder / "UTM.app/Contents/Info.plist").read_bytes())
        return str(info["CFBundleShortVersionString"])

    @property
    def architecture(self) -> str:
        return str(json.loads((self.folder / "host.json").read_text())["architecture"])

    def sockets(self, uuid: str) -> Path:
        """Return a folder short enough for socket paths, whatever HOME and TMPDIR are."""
        digest = hashlib.sha256(f"{self.container}/{uuid}".encode()).hexdigest()[:12]
        return Path("/tmp") / f"utmsim-{os.getuid()}" / digest

    def record(self, **call: Any) -> None:
        with (self.folder / "calls.jsonl").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(call) + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Do one thing at a time, as the one UTM does."""
        self.registry.parent.mkdir(parents=True, exist_ok=True)
        self.documents.mkdir(parents=True, exist_ok=True)
        with self.registry.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
