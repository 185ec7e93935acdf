"""A Mac for tests: utmsim installed, a home, and machines written by hand rather than by vmkit."""

import contextlib
import json
import plistlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.utmsim import install

UUID = "6F9619FF-8B86-4D01-B42D-00CF4FC964FF"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def qemu_config(name: str = "idle", *, port: int = 0, uuid: str = UUID) -> dict[str, Any]:
    return {
        "Backend": "QEMU",
        "ConfigurationVersion": 4,
        "Information": {"Name": name, "UUID": uuid, "IconCustom": False},
        "System": {
            "Architecture": "x86_64", "Target": "pc", "CPU": "default", "CPUFlagsAdd": [], "CPUFlagsRemove": [],
            "CPUCount": 1, "ForceMulticore": False, "MemorySize": 32, "JITCacheSize": 0,
        },
        "QEMU": {
            "DebugLog": False, "UEFIBoot": False, "RNGDevice": False, "BalloonDevice": False, "TPMDevice": False,
            "Hypervisor": False, "RTCLocalTime": False, "PS2Controller": False, "AdditionalArguments": [],
        },
        "Input": {"UsbBusSupport": "Disabled", "UsbSharing": False, "MaximumUsbShare": 0},
        "Sharing": {"DirectoryShareMode": "None", "DirectoryShareReadOnly": False, "ClipboardSharing": False},
        "Display": [],
        "Drive": [],
        "Network": [
            {
                "Mode": "Emulated", "Hardware": "virtio-net-pci", "MacAddress": "52:54:00:12:34:56",
                "IsolateFromHost": False,
                "PortForward": [
                    {"Protocol": "TCP", "HostAddress": "127.0.0.1", "HostPort": port or free_port(), "GuestPort": 22}
                ],
            }
        ],
        "Serial": [{"Mode": "Ptty", "Target": "Auto"}],
        "Sound": [],
    }  # fmt: skip


def write_bundle(folder: Path, config: dict[str, Any], **data: bytes) -> Path:
    bundle = folder / f"{config['Information']['Name']}.utm"
    (bundle / "Data").mkdir(parents=True)
    (bundle / "config.plist").write_bytes(plistlib.dumps(config))
    for name, content in data.items():
        (bundle / "Data" / name.replace("__", ".")).write_bytes(content)
    return bundle


class Mac:
    """A simulated UTM, and one user's home."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.sim = install(folder / "sim")
        self.faults = self.sim.faults
        self.scripts = folder / "scripts"
        self.scripts.mkdir()

    def run(
        self, *argv: str, env: dict[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        clean = {"HOME": str(self.home), "LANG": "C", **self.sim.environment}
        done = subprocess.run(argv, capture_output=True, env=clean | (env or {}), timeout=timeout, check=False)
        return subprocess.CompletedProcess(
            argv, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def utmctl(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.sim.utmctl), *argv, **options)

    def osascript(self, script: str, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        file = self.scripts / script
        file.write_text("-- a script")
        language = ["-l", "JavaScript"] if script.endswith(".js") else []
        return self.run(str(self.sim.osascript), *language, str(file), *argv, **options)

    def add(self, bundle: Path) -> str:
        done = self.osascript("import.applescript", str(bundle))
        assert done.returncode == 0, done.stderr
        return str(done.stdout.split()[3])

    def status(self, identifier: str = UUID) -> str:
        return self.utmctl("status", identifier).stdout.strip()

    def listed(self) -> list[dict[str, Any]]:
        return list(json.loads(self.osascript("list.js").stdout))

    def configuration(self, uuid: str = UUID) -> dict[str, Any]:
        return dict(json.loads(self.osascript("configuration.js", uuid).stdout))

    @property
    def documents(self) -> Path:
        return self.sim.documents(self.home)


@contextlib.contextmanager
def simulated_mac(folder: Path) -> Iterator[Mac]:
    """Give a Mac; at the end none of its machines runs or is left."""
    mac = Mac(folder)
    try:
        yield mac
    finally:
        mac.sim.end_all(mac.home)
