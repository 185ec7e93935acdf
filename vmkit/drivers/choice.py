"""Choose a driver by its name."""

from pathlib import Path

from vmkit.drivers.base import Driver
from vmkit.errors import HostLacks, UsageError
from vmkit.host.computer import is_macos
from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.host.programs import find_utm


def default_driver_name() -> str:
    """Return the driver that a machine gets when nobody names one: UTM on a Mac that has it, else plain QEMU."""
    return "utm" if is_macos() and find_utm() else "qemu"


def checked_driver_name(name: str) -> str:
    """Return `name` when this computer has such a driver. Raises HostLacks, UsageError."""
    if name == "utm":
        _utm()
    elif name != "qemu":
        raise UsageError(f'there is no driver "{name[:40]}"', hint="drivers: qemu, utm")
    return name


def get_driver(name: str, *, paths: Paths, runner: Runner) -> Driver:
    """Return the driver of that name. Raises HostLacks, UsageError."""
    if checked_driver_name(name) == "utm":
        from vmkit.drivers.utm import UtmDriver  # noqa: PLC0415  # only what runs machines pays for it

        return UtmDriver(runner=runner, app=_utm())
    from vmkit.drivers.qemu import QemuDriver  # noqa: PLC0415  # as above

    return QemuDriver(runner=runner, cache=paths.cache)


def _utm() -> Path:
    app = find_utm()
    if app is None:
        raise HostLacks(
            "UTM is not installed",
            hint="brew install --cask utm, or name the app in VMKIT_UTM_APP" if is_macos() else "--driver qemu",
        )
    return app
