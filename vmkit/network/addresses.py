"""Addresses that the proxy never connects to, whatever name leads there: this computer, its networks, groups."""

import ipaddress
import socket

# Written out instead of `ipaddress.is_private`, which also holds the documentation ranges and 198.18.0.0/15: some
# networks really use those. Sources: the IANA special-purpose registries for IPv4 and IPv6, and the clouds' manuals.
_FORBIDDEN = tuple(
    (ipaddress.ip_network(text), what)
    for text, what in (
        ("0.0.0.0/8", "this computer"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "a carrier's private network"),
        ("127.0.0.0/8", "this computer"),
        ("168.63.129.16/32", "a cloud's host"),  # Azure's, inside a public range
        ("169.254.0.0/16", "the local link, where clouds keep credentials"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "a protocol's own network"),  # Oracle's metadata is 192.0.0.192
        ("192.168.0.0/16", "a private network"),
        ("224.0.0.0/4", "a group"),
        ("240.0.0.0/4", "reserved"),  # 255.255.255.255 too
        ("::/128", "this computer"),
        ("::1/128", "this computer"),
        ("64:ff9b:1::/48", "a private network"),  # NAT64 for local use: where the IPv4 address is differs
        ("100::/64", "a black hole"),
        ("fc00::/7", "a private network"),  # AWS's and Google's IPv6 metadata too
        ("fe80::/10", "the local link"),
        ("fec0::/10", "a private network"),  # site-local: withdrawn, and still slirp's
        ("ff00::/8", "a group"),
    )
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_ISATAP = (0x00005EFE, 0x02005EFE)  # the third quarter of the address; the fourth is the IPv4 address


def why_refused(address: str) -> str | None:
    """Say why `address` must not be connected to from here; None when it may be."""
    return why_forbidden(address) or ("this computer" if is_this_computer(address) else None)


def why_forbidden(address: str) -> str | None:
    """Say what `address` belongs to when it must not be connected to; None when it may be.

    Whatever is not a plain address is forbidden, and so is a form of IPv6 that carries a forbidden IPv4 address.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "not an address"
    for network, what in _FORBIDDEN:
        if ip.version == network.version and ip in network:
            return what
    if isinstance(ip, ipaddress.IPv6Address):
        return next(filter(None, (why_forbidden(str(carried)) for carried in _carried(ip))), None)
    return None


def is_this_computer(address: str) -> bool:
    """Tell whether `address` is one of this computer's own. Nothing is sent.

    A route to one's own address has that address as its source, on Linux; unverified on macOS.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:  # no route: connecting will say so
            return False
        return bool(probe.getsockname()[0] == address)


def _carried(ip: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses inside an IPv6 address, as far as a translator or tunnel would use them."""
    number = int(ip)
    last = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if any(ip in network for network in (_MAPPED, _TRANSLATED, _COMPATIBLE, _NAT64)):
        return [last]
    if ip in _6TO4:
        return [ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF)]
    if ip in _TEREDO:
        return [ipaddress.IPv4Address(number >> 64 & 0xFFFFFFFF), ipaddress.IPv4Address(~number & 0xFFFFFFFF)]
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        return [last]
    return []
