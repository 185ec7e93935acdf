"""Give a UEFI machine its firmware: this computer's code, and variables of its own in the bundle."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from vmkit.host.computer import fsync_directory
from vmkit.host.process import Runner
from vmkit.host.programs import find_firmware

VARIABLES_NAME = "efi_vars.fd"  # in the bundle's Data folder; the name is UTM's


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """UEFI code, shared and read-only, and the machine's own variables."""

    code: Path
    variables: Path


def prepare_firmware(arch: str, data: Path, *, binary: Path, runner: Runner, root: Path = Path("/")) -> Firmware:
    """Return the firmware for a machine whose bundle's Data folder is `data`; make its variables when it has none.

    They are made as qcow2, since UTM probes the format and QEMU forbids writes to the first block of a probed raw file.
    Raises HostLacks, ToolFailed.
    """
    code, empty = find_firmware(arch, binary=binary, root=root)
    variables = data / VARIABLES_NAME
    if not variables.exists():
        with tempfile.TemporaryDirectory(dir=data, prefix=f".{VARIABLES_NAME}.") as folder:
            made = Path(folder) / VARIABLES_NAME
            runner.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(empty), str(made)])
            made.chmod(0o600)
            made.rename(variables)
        fsync_directory(data)
    return Firmware(code=code, variables=variables)
