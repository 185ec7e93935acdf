"""Choose a driver by its name."""

from vmkit.drivers.base import Driver
from vmkit.errors import HostLacks, UsageError
from vmkit.host.paths import Paths
from vmkit.host.process import Runner


def default_driver_name() -> str:
    """Return the driver that a machine gets when nobody names one."""
    return "qemu"


def checked_driver_name(name: str) -> str:
    """Return `name` when this computer has such a driver. Raises HostLacks, UsageError."""
    if name == "utm":
        raise HostLacks("the utm driver is not in this version of vmkit", hint="--driver qemu")
    if name != "qemu":
        raise UsageError(f'there is no driver "{name[:40]}"', hint="drivers: qemu")
    return name


def get_driver(name: str, *, paths: Paths, runner: Runner) -> Driver:
    """Return the driver of that name. Raises HostLacks, UsageError."""
    checked_driver_name(name)
    from vmkit.drivers.qemu import QemuDriver  # noqa: PLC0415  # only what runs machines pays for it

    return QemuDriver(runner=runner, cache=paths.cache)
