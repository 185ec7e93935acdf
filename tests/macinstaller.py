"""Stand-ins for a Mac's compiler, signer and installer: programs in a folder, found there and nowhere else."""

import sys
from pathlib import Path

from vmkit.host.process import Runner

# What the compiled program does, by the words of its first argument. It answers as installer.swift is written to.
INSTALLER = """#!{python}
import json, pathlib, plistlib, sys
def say(**event): print(json.dumps(event), flush=True)
folder = pathlib.Path({folder!r})
(folder / "calls").open("a").write(json.dumps(sys.argv[1:]) + "\\n")
print("2026-11-22 09:00:00.000 installer[1:2] a line of the framework's own")
if sys.argv[1] == "latest":
    say(event="latest", url=(folder / "url").read_text(), version="15.6.1", build="24G90")
    sys.exit(0)
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
made = pathlib.Path(options["--folder"])
say(event="requirements", version="15.6.1", build="24G90", cpus=2, memory=4 << 30)
{body}
"""
GOOD = """
model = {"DataRepresentationVersion": 1, "MinimumSupportedOS": [13, 0, 0], "PlatformVersion": 2}
(made / "HardwareModel").write_bytes(plistlib.dumps(model, fmt=plistlib.FMT_BINARY))
(made / "MachineIdentifier").write_bytes(plistlib.dumps({"ECID": 4711}, fmt=plistlib.FMT_BINARY))
(made / "AuxiliaryStorage").write_bytes(b"nvram")
with open(options["--disk"], "r+b") as disk:
    disk.write(b"macOS")
say(event="progress", fraction=0.25)
say(event="progress", fraction=float("nan"))
say(event="progress", fraction="1e999")
say(event="progress", fraction=7)
say(event="news", text="x" * 100000)
say(event="done")
"""


def error(**fields: object) -> str:
    """Return the body of an installer that fails with these fields."""
    return f"say(event='error', **{fields!r}); sys.exit(1)"


class MacTools(Runner):
    """A runner that finds `swiftc`, `codesign` and `xcode-select` in `folder` alone."""

    def __init__(self, folder: Path, *, body: str = GOOD, url: str = "https://example.com/mac.ipsw") -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "url").write_text(url)
        (folder / "built").write_text(INSTALLER.format(python=sys.executable, folder=str(folder), body=body))
        self._program(
            "swiftc",
            f'echo "$*" >> {folder}/compiled\n'
            'if [ "$1" = --version ]; then echo "Apple Swift version 6.1"; exit; fi\n'
            f'for last; do :; done; cp {folder}/built "$last" && chmod 700 "$last"',
        )
        self._program("codesign", f'echo "$*" >> {folder}/signed')
        self._program("xcode-select", "echo /Library/Developer/CommandLineTools")

    def find(self, program: str) -> Path | None:
        found = self.folder / program
        return found if found.is_file() else None

    def without(self, program: str) -> "MacTools":
        (self.folder / program).unlink()
        return self

    def failing(self, program: str) -> "MacTools":
        self._program(program, 'echo "no such thing" >&2; exit 1')
        return self

    def lines(self, name: str) -> list[str]:
        """Return what a program wrote down of its calls."""
        path = self.folder / name
        return path.read_text().splitlines() if path.is_file() else []

    def _program(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o700)
