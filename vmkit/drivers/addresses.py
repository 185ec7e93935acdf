"""Find a guest's address by the MAC address of its network card: the ARP table, then macOS's DHCP leases.

What is found is never kept: the network of UTM's shared mode moves. Whose address it is, the host key tells.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import VmkitError
from vmkit.host.files import tail
from vmkit.host.process import Runner

LEASES = Path("/var/db/dhcpd_leases")  # macOS bootpd's

_ARP_LINE = re.compile(r"\((\d{1,3}(?:\.\d{1,3}){3})\) at ([0-9A-Fa-f:]{11,17}) ")
_MAC = re.compile(r"[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}")
_ETHERNET = "1"  # hw_address=1,MAC; a DUID is hw_address=ff,…
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One block of the leases file. `mac` is None for a guest that identified itself by a DUID."""

    ip: str
    mac: str | None
    expires: int  # seconds since 1970


def normal_mac(text: str) -> str | None:
    """Return a MAC address in lower case with its leading zeros, which macOS leaves out; None for anything else."""
    if not _MAC.fullmatch(text):
        return None
    return ":".join(octet.zfill(2) for octet in text.lower().split(":"))


def parse_arp(text: str) -> list[tuple[str, str]]:
    """Return (MAC address, address) for each complete line of `arp -an`."""
    found = ((normal_mac(match[2]), match[1]) for match in _ARP_LINE.finditer(text))
    return [(mac, ip) for mac, ip in found if mac and is_guest_address(ip)]


def parse_leases(text: str) -> list[Lease]:
    """Return the leases in `/var/db/dhcpd_leases`; a block that is not whole is passed over."""
    leases = []
    for block in text.split("{")[1:]:
        body, closed, _ = block.partition("}")
        pairs = (line.strip().partition("=") for line in body.splitlines())
        values = {key: value for key, equals, value in pairs if equals}
        kind, _, hardware = values.get("hw_address", "").partition(",")
        ip, expires = values.get("ip_address", ""), values.get("lease", "")
        if closed and is_guest_address(ip) and re.fullmatch(r"0x[0-9A-Fa-f]{1,16}", expires):
            mac = normal_mac(hardware) if kind == _ETHERNET else None
            leases.append(Lease(ip=ip, mac=mac, expires=int(expires, 16)))
    return leases


def leased_address(leases: list[Lease], mac: str, *, now: float) -> str | None:
    """Return the address of the newest lease of `mac` that has not expired."""
    wanted = normal_mac(mac)
    valid = [lease for lease in leases if wanted and lease.mac == wanted and lease.expires > now]
    return max(valid, key=lambda lease: lease.expires).ip if valid else None


def is_guest_address(text: str) -> bool:
    """Tell whether `text` is an IPv4 address that a guest can have, rather than this computer or a group."""
    import ipaddress  # noqa: PLC0415  # 6 ms that `list` does not pay for machines with a forwarded port

    try:
        ip = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not (ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_reserved)


def find_address(
    mac: str, *, runner: Runner, leases: Path = LEASES, clock: Callable[[], float] = time.time
) -> str | None:
    """Look `mac` up in the ARP table, then in the leases; None when neither has it (yet)."""
    for known, ip in parse_arp(_arp_table(runner)):
        if known == normal_mac(mac):
            return ip
    try:
        text = tail(leases, max_bytes=_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    return leased_address(parse_leases(text), mac, now=clock())


def _arp_table(runner: Runner) -> str:
    program = runner.find("arp")
    if program is None:
        return ""
    try:
        return runner.run([str(program), "-an"], timeout_s=5, ok_codes=None).text[:_MAX_BYTES]
    except VmkitError:
        return ""
