"""utmsim stands in for UTM 5.0.3 on a Mac: a `utmctl` and an `osascript` that fail the way UTM's do. See README.md."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.utmsim import qemu
from tests.utmsim.faults import Faults
from tests.utmsim.place import Place
from tests.utmsim.registry import opened
from tests.utmsim.sdef import dictionary

__all__ = ["UtmSim", "install"]

_ROOT = Path(__file__).parents[2]
_PROGRAM = """#!{python}
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.utmsim.{module} import main
sys.exit(main(Path({folder!r}), sys.argv[1:]))
"""
_INFO = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>CFBundleIdentifier</key><string>com.utmapp.UTM</string>
<key>CFBundleName</key><string>UTM</string>
<key>CFBundleShortVersionString</key><string>{version}</string>
<key>CFBundleVersion</key><string>122</string>
</dict></plist>
"""


@dataclass(frozen=True)
class UtmSim:
    """An installed simulator. What its machines are is kept under the HOME of whoever runs its programs."""

    folder: Path

    @property
    def app(self) -> Path:
        return self.folder / "UTM.app"

    @property
    def utmctl(self) -> Path:
        return self.app / "Contents/MacOS/utmctl"

    @property
    def osascript(self) -> Path:
        return self.folder / "bin/osascript"

    @property
    def environment(self) -> dict[str, str]:
        """What vmkit has to be given, beside a HOME of its own."""
        return {"VMKIT_UTM_APP": str(self.app), "PATH": f"{self.folder / 'bin'}:{os.environ.get('PATH', '')}"}

    @property
    def faults(self) -> Faults:
        return Faults(self.folder / "faults.json")

    def documents(self, home: Path) -> Path:
        """Return where UTM keeps the machines of the user whose home this is."""
        return Place(self.folder, home).documents

    def calls(self) -> list[dict[str, Any]]:
        """Return every run so far: `program`, `argv`, and for osascript `script` (a path) and `text`."""
        record = self.folder / "calls.jsonl"
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    def set_version(self, version: str) -> None:
        (self.app / "Contents/Info.plist").write_text(_INFO.format(version=version))

    def set_host(self, *, architecture: str) -> None:
        """Say which Mac it is: `aarch64` or `x86_64`."""
        (self.folder / "host.json").write_text(json.dumps({"architecture": architecture}))

    def set_dictionary(self, *, later: bool) -> None:
        """Install the scripting dictionary of 5.0.3, or one in which `make` knows macOS (its names are guessed)."""
        (self.app / "Contents/Resources/UTM.sdef").write_text(dictionary(later=later))

    def relaunch(self, home: Path) -> None:
        """Quit UTM, with every machine that runs, and start it again: it reads every bundle in Documents anew."""
        self.end_all(home)
        Place(self.folder, home).registry.unlink(missing_ok=True)

    def end_all(self, home: Path) -> None:
        """Kill every machine of a user, as the end of a test must, and remove its sockets."""
        place = Place(self.folder, home)
        with opened(place) as registry:
            for entry in registry.entries:
                qemu.end(entry, place.sockets(entry.uuid), kill=True)
                entry.status = "stopped"
                shutil.rmtree(place.sockets(entry.uuid), ignore_errors=True)


def install(folder: Path, *, version: str = "5.0.3", later: bool = False, architecture: str | None = None) -> UtmSim:
    """Make `UTM.app` and `bin/osascript` in a folder."""
    folder = folder.absolute()
    sim = UtmSim(folder)
    for program, module in ((sim.utmctl, "utmctl"), (sim.osascript, "osascript")):
        program.parent.mkdir(parents=True, exist_ok=True)
        text = _PROGRAM.format(python=sys.executable, root=str(_ROOT), folder=str(folder), module=module)
        program.write_text(text)
        program.chmod(0o755)
    (sim.app / "Contents/Resources").mkdir(parents=True, exist_ok=True)
    sim.set_version(version)
    sim.set_dictionary(later=later)
    sim.set_host(architecture=architecture or ("aarch64" if os.uname().machine in ("arm64", "aarch64") else "x86_64"))
    return sim
