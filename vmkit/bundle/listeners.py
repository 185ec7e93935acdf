"""Find what in a bundle listens beyond this computer's loopback (pure)."""

import ipaddress

from vmkit.bundle.config import AppleConfig, QemuConfig, SerialMode
from vmkit.host.text import printable


def open_listeners(config: QemuConfig | AppleConfig) -> list[str]:
    """Return, by key path, each forward and serial port that other computers could connect to.

    A forward without an address listens on all of them. `AdditionalArguments` are not looked into.
    """
    if not isinstance(config, QemuConfig):
        return []
    forwards = [
        f"Network[{i}].PortForward[{j}].HostAddress: port {forward.host_port} on {_shown(forward.host_address)}"
        for i, network in enumerate(config.network)
        for j, forward in enumerate(network.port_forward)
        if not _is_loopback(forward.host_address)
    ]
    serials = [
        f"Serial[{i}].RemoteConnectionAllowed: port {serial.tcp_port} on every address"
        for i, serial in enumerate(config.serial)
        if serial.mode is SerialMode.TCP_SERVER and serial.remote_connection_allowed
    ]
    return forwards + serials


def _shown(address: str | None) -> str:
    return printable(address, max_chars=60) if address else "every address"


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return address == "localhost"
