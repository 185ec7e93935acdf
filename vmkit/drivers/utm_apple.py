"""What only machines of UTM's Apple backend need: which guest it is, and where on the network."""

from vmkit.bundle.config import AppleConfig
from vmkit.bundle.layout import Bundle
from vmkit.drivers.addresses import find_address, is_guest_address
from vmkit.drivers.base import Vm
from vmkit.drivers.utmctl import Utmctl
from vmkit.errors import HostLacks, TimedOut, ToolFailed
from vmkit.host.process import Runner

_MACOS = "macOS"  # System.Boot.OperatingSystem


def is_macos_guest(vm: Vm) -> bool:
    """Tell whether macOS runs in the machine."""
    config = Bundle(vm.bundle).read_any()
    return isinstance(config, AppleConfig) and config.system.boot.operating_system == _MACOS


def guest_address(vm: Vm, *, utmctl: Utmctl, runner: Runner) -> str | None:
    """Ask UTM (5.0.3: the ARP table, for the first card), the ARP table, the DHCP leases; None while nobody knows."""
    try:
        for found in utmctl.addresses(vm.uuid):
            if is_guest_address(found):
                return found
    except HostLacks:
        raise
    except (ToolFailed, TimedOut):  # before 5.0.3 UTM does not support it; and there are two more to ask
        pass
    for network in Bundle(vm.bundle).read_any().network:
        address = find_address(network.mac_address, runner=runner)
        if address is not None:
            return address
    return None
