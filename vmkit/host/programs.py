"""Find QEMU, its firmware and UTM on this computer, and say how to get what is missing."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from vmkit.errors import HostLacks
from vmkit.host.computer import is_macos
from vmkit.host.process import Runner

_DEBIAN_PACKAGES = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}
_FIRMWARE_PACKAGES = {"x86_64": "ovmf", "aarch64": "qemu-efi-aarch64"}

# Code and variables, of the same size, in this order. The first folders are Debian's and Ubuntu's, then Fedora's,
# Arch's, and the `share/qemu` beside the program, where Homebrew (unverified) and QEMU's own `make install` put them.
_FIRMWARE = {
    "x86_64": (
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
        ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
        ("edk2-x86_64-code.fd", "edk2-i386-vars.fd"),
    ),
    "aarch64": (
        ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
        ("/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"),
        ("edk2-aarch64-code.fd", "edk2-arm-vars.fd"),
    ),
}


def find_utm(*, environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Path | None:
    """Return `UTM.app`, or None: `VMKIT_UTM_APP` when it is set, else the system's or the user's Applications.

    A folder counts when it holds `utmctl`; `root` is where the absolute path begins.
    """
    named = environment.get("VMKIT_UTM_APP")
    home = Path(environment.get("HOME", "/"))
    places = [Path(named)] if named else [root / "Applications" / "UTM.app", home / "Applications" / "UTM.app"]
    return next((app for app in places if utmctl_of(app).is_file()), None)


def utmctl_of(app: Path) -> Path:
    """Return the command-line tool inside `UTM.app`."""
    return app / "Contents" / "MacOS" / "utmctl"


def utm_runs(*, runner: Runner) -> bool:
    """Tell whether UTM is running, without an Apple event: that would launch it (unverified).

    Elsewhere than on a Mac there is only a simulated UTM, which runs whenever it is asked.
    """
    if not is_macos():
        return True
    return runner.run(["/usr/bin/pgrep", "-x", "-U", str(os.getuid()), "UTM"], timeout_s=5, ok_codes=None).code == 0


def find_qemu(arch: str, *, runner: Runner) -> Path:
    """Return the program that emulates `arch`. Raises HostLacks with the command that installs it."""
    found = runner.find(f"qemu-system-{arch}")
    if found is None:
        raise HostLacks(
            f'"qemu-system-{arch}" is not installed',
            hint="brew install qemu" if is_macos() else f"apt install {_DEBIAN_PACKAGES.get(arch, 'qemu-system')}",
        )
    return found


def qemu_version(binary: Path, *, runner: Runner) -> tuple[int, int]:
    """Ask QEMU for its version: `(7, 2)`. Raises ToolFailed, TimedOut, HostLacks when it says none."""
    said = runner.run([str(binary), "--version"]).text
    match = re.search(r"version (\d{1,4})\.(\d{1,4})", said[:1000])
    if match is None:
        raise HostLacks(f'"{binary}" does not say its version')
    return int(match[1]), int(match[2])


def find_firmware(arch: str, *, binary: Path, root: Path = Path("/")) -> tuple[Path, Path]:
    """Return the UEFI code and the empty variables that belong to it; `root` is where the absolute paths begin.

    Raises HostLacks.
    """
    beside = binary.resolve().parent.parent / "share" / "qemu"
    for code, variables in _FIRMWARE.get(arch, ()):
        folder = root if code.startswith("/") else beside
        pair = folder / code.lstrip("/"), folder / variables.lstrip("/")
        if all(path.is_file() for path in pair):
            return pair
    raise HostLacks(
        f"no UEFI firmware for {arch} was found",
        hint="brew install qemu" if is_macos() else f"apt install {_FIRMWARE_PACKAGES.get(arch, 'ovmf')}",
    )
