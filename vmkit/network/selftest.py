"""Names that lead to forbidden addresses, for `vmkit verify`: nobody can register one (`.invalid`, RFC 6761).

No policy allows them but for the time of a run. The table is fixed, so that a guest that knows of it gains no address
that it could not have asked for by itself, had it a name.
"""

import socket

from vmkit.network.dial import Resolve

ZONE = "selftest.vmkit.invalid"
PUBLIC = "public"  # the one name that passes the address check: a documentation address (RFC 5737), where nobody is
OWN = "own"  # this computer's own address in its network

# name → its addresses. Each has to be refused, but for PUBLIC.
TABLE: dict[str, tuple[str, ...]] = {
    PUBLIC: ("203.0.113.1",),
    "loopback": ("127.0.0.1",),
    "loopback-far": ("127.200.0.9",),
    "loopback6": ("::1",),
    "unspecified": ("0.0.0.0",),  # noqa: S104  # an address to refuse
    "unspecified6": ("::",),
    "private-10": ("10.0.2.2",),
    "private-172": ("172.16.0.1",),
    "private-192": ("192.168.0.1",),
    "private6": ("fd00::1",),
    "carrier": ("100.64.0.1",),
    "metadata": ("169.254.169.254",),
    "metadata6": ("fd00:ec2::254",),
    "link-local6": ("fe80::1",),
    "group": ("224.0.0.1",),
    "broadcast": ("255.255.255.255",),
    "mapped": ("::ffff:127.0.0.1",),
    "translated": ("64:ff9b::7f00:1",),
    "tunnelled": ("2002:7f00:1::1",),
    "mixed": ("203.0.113.1", "127.0.0.1"),
}


def resolving(resolve: Resolve) -> Resolve:
    """Return a resolver that answers the names of the self-test from the table, and passes all others on."""

    async def answer(host: str, port: int) -> list[str]:
        if host != ZONE and not host.endswith(f".{ZONE}"):
            return await resolve(host, port)
        name = host.partition(".")[0]
        found = own_addresses()[:1] if name == OWN else list(TABLE.get(name, ()))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name in the self-test")
        return found

    return answer


def own_addresses() -> list[str]:
    """Return this computer's addresses in its networks, IPv4 before IPv6; nothing is sent."""
    found = []
    for family, far in ((socket.AF_INET, "203.0.113.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:  # no such network
            continue
    return found
