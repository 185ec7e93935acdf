"""A bundle of the smallest machine: no disk and no system, so that its firmware finds nothing to boot and idles."""

import plistlib
from pathlib import Path
from typing import Any

from vmkit.drivers.base import Vm

UUID = "6F9619FF-8B86-4D01-B42D-00CF4FC964FF"


def idle_machine(folder: Path, *, port: int, sockets: Path, name: str = "idle") -> Vm:
    """Write the bundle of a machine into `folder`, which becomes its home, and return the machine, not started."""
    vm = Vm(name=name, uuid=UUID, bundle=folder / f"{name}.utm", home=folder, sockets=sockets)
    (vm.bundle / "Data").mkdir(parents=True)
    write_config(vm, idle_config(name, port=port))
    return vm


def write_config(vm: Vm, config: dict[str, Any]) -> None:
    """Write `config.plist`, whatever is in `config`."""
    (vm.bundle / "config.plist").write_bytes(plistlib.dumps(config))


def idle_config(name: str = "idle", *, port: int) -> dict[str, Any]:
    """Return the `config.plist` of an x86_64 machine whose port 22 is forwarded to `port`."""
    return {
        "Backend": "QEMU",
        "ConfigurationVersion": 4,
        "Information": {"Name": name, "UUID": UUID, "IconCustom": False},
        "System": {
            "Architecture": "x86_64",
            "Target": "pc",
            "CPU": "default",
            "CPUFlagsAdd": [],
            "CPUFlagsRemove": [],
            "CPUCount": 1,
            "ForceMulticore": False,
            "MemorySize": 32,
            "JITCacheSize": 0,
        },
        "QEMU": {
            "DebugLog": False,
            "UEFIBoot": False,
            "RNGDevice": False,
            "BalloonDevice": False,
            "TPMDevice": False,
            "Hypervisor": False,
            "RTCLocalTime": False,
            "PS2Controller": False,
            "AdditionalArguments": [],
        },
        "Input": {"UsbBusSupport": "Disabled", "UsbSharing": False, "MaximumUsbShare": 0},
        "Sharing": {"DirectoryShareMode": "None", "DirectoryShareReadOnly": False, "ClipboardSharing": False},
        "Display": [],
        "Drive": [],
        "Network": [
            {
                "Mode": "Emulated",
                "Hardware": "virtio-net-pci",
                "MacAddress": "52:54:00:12:34:56",
                "IsolateFromHost": False,
                "PortForward": [{"Protocol": "TCP", "HostAddress": "127.0.0.1", "HostPort": port, "GuestPort": 22}],
            }
        ],
        "Serial": [{"Mode": "Terminal", "Target": "Auto", "Terminal": _TERMINAL}],
        "Sound": [],
    }


_TERMINAL = {
    "BackgroundColor": "#000000",
    "CursorBlink": True,
    "Font": "Menlo",
    "FontSize": 12,
    "ForegroundColor": "#ffffff",
}
