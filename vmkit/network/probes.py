"""The probes of `vmkit verify`: what the guest's program is told to try behind each wall, and what should come of it.

Pure: a probe's `task` is data for `network/probe.py`, which runs in the guest and in the control alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from vmkit.network.hello_bytes import client_hello
from vmkit.network.selftest import OWN, PUBLIC, TABLE, ZONE
from vmkit.network.walls import Wall

GATEWAY = "10.0.2.2"  # slirp's addresses, in QEMU and in UTM
NAME_SERVER = "10.0.2.3"
STRANGERS = ("s3.amazonaws.com", "awsapps.com", "cloudfront.net", "github.io", "pages.dev", "com", "co.uk", "zip")
# HOST passes every other check; ZONE is what a rule allows names below of.
_REQUESTS = {
    "nul": "CONNECT evil.example\0.ZONE:443 HTTP/1.1\r\n\r\n",
    "line-end-in-name": "CONNECT evil.example\r\n.ZONE:443 HTTP/1.1\r\n\r\n",
    "bare-line-ends": "CONNECT HOST:443 HTTP/1.1\n\n",
    "two-hosts": "CONNECT HOST:443 HTTP/1.1\r\nHost: HOST:443\r\nHost: evil.example\r\n\r\n",
    "other-host": "CONNECT HOST:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "folded-header": "CONNECT HOST:443 HTTP/1.1\r\nX-A: b\r\n c\r\n\r\n",
    "body": "CONNECT HOST:443 HTTP/1.1\r\nContent-Length: 9\r\n\r\nCONNECT a",
    "no-version": "CONNECT HOST:443\r\n\r\n",
    "post": "POST http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "https-page": "GET https://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "socks": "\5\1\0\3HOST",
}
_FOREIGN = f"vmkit.{ZONE.rpartition('.')[2]}"  # no rule has it, and nobody can register it


class Door(StrEnum):
    """Whether something can be reached."""

    OPEN = "open"
    CLOSED = "closed"


class Stage(IntEnum):
    """The proxy's checks in their order: a refusal at one of them shows that those before let the request through."""

    HEAD = 0
    NAME = 1
    POLICY = 2
    PORT = 3
    LOOKUP = 4
    ADDRESS = 5
    TUNNEL = 6  # open, and nothing was said in it
    FIRST_WORDS = 7
    CONNECT = 8


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One thing that is tried. `stage`: which check of the proxy has to refuse it; `host`, `port`: its log's words."""

    id: str
    wall: Wall
    tries: str
    task: Mapping[str, Any] = field(default_factory=dict)  # empty: the host looks, not the guest
    expected: Door = Door.CLOSED
    stage: Stage | None = None
    host: str = ""
    port: int = 443


@dataclass(frozen=True, kw_only=True)
class Target:
    """What this run is about. `token` is in every name that is asked for; ports are of this computer."""

    token: str
    direct_port: int  # a listener for what comes by the network card
    proxied_port: int  # a listener for what comes by the proxy
    ssh_ports: tuple[int, ...]  # the machine's own forward, then other machines'
    lan: tuple[str, ...]  # this computer's addresses in its networks

    @property
    def zone(self) -> str:
        """The names of this run."""
        return f"{self.token}.{ZONE}"


def inside(target: Target) -> list[Probe]:
    """Return what needs no proxy: the network card, and what the guest shows of itself."""
    return [*_card(target), *_traces(target)]


def _card(target: Target) -> list[Probe]:
    say = f"vmkit {target.token}\n".encode().hex()
    at, query = target.direct_port, _query(target.token)
    v4, v6 = [one for one in target.lan if ":" not in one], [one for one in target.lan if ":" in one]
    tasks: dict[str, tuple[str, dict[str, Any]]] = {
        "host-tcp": ("this computer's loopback, TCP", _tcp(GATEWAY, at, say)),
        "host-udp": ("this computer's loopback, UDP", _udp(GATEWAY, at, say)),
        "host-tcp6": ("this computer's loopback by IPv6", _tcp("fec0::2", at, say) | {"to": ["fec0::2", "fe80::2"]}),
        "host-udp6": ("this computer's loopback by IPv6, UDP", _udp("fec0::2", at, say)),
        **{
            f"forward-{n}": (f"a machine's port {port}", _tcp(GATEWAY, port)) for n, port in enumerate(target.ssh_ports)
        },
        **{f"gateway-{port}": (f"the gateway's port {port}", _tcp(GATEWAY, port)) for port in (22, 80, 111, 443, 631)},
        "gateway-tftp": ("a file by TFTP", _udp(GATEWAY, 69, b"\0\1etc/hostname\0octet\0".hex(), want="0003")),
        "metadata": ("the cloud's metadata", _tcp("169.254.169.254", 80, b"GET / HTTP/1.0\r\n\r\n".hex())),
        "dns-udp": ("slirp's name service", _udp(NAME_SERVER, 53, query.hex())),
        "dns-tcp": ("slirp's name service, TCP", _tcp(NAME_SERVER, 53, (len(query).to_bytes(2) + query).hex())),
        "dns6-udp": ("slirp's name service by IPv6", _udp("fec0::3", 53, query.hex())),
        "dns-far-udp": ("8.8.8.8, UDP", _udp("8.8.8.8", 53, query.hex())),
        "dns-far-tcp": ("8.8.8.8, TCP", _tcp("8.8.8.8", 53, (len(query).to_bytes(2) + query).hex())),
        "doh": ("DNS over HTTPS", _tcp("8.8.8.8", 443, client_hello("dns.google").hex())),
        "internet": ("1.1.1.1, TCP", _tcp("1.1.1.1", 443, client_hello("one.one.one.one").hex())),
        "internet-80": ("1.1.1.1, HTTP", _tcp("1.1.1.1", 80, b"GET / HTTP/1.0\r\n\r\n".hex())),
        "internet6": ("2606:4700:4700::1111", _tcp("2606:4700:4700::1111", 443)),
        "ntp": ("a clock on the internet", _udp("162.159.200.1", 123, (b"\x1b" + bytes(47)).hex())),
        "quic": ("QUIC", _udp("1.1.1.1", 443, _quic().hex())),
        "ping": ("a ping to 8.8.8.8", {"do": "icmp", "to": ["8.8.8.8"]}),
        "ping6": ("a ping by IPv6", {"do": "icmp", "to": ["2606:4700:4700::1111"]}),
    }
    if v4:
        tasks |= {"lan-tcp": ("this computer in its network", _tcp(v4[0], at, say))}
        tasks |= {"lan-udp": ("this computer in its network, UDP", _udp(v4[0], at, say))}
        tasks |= {"lan-ping": ("a ping to this computer", {"do": "icmp", "to": v4[:1]})}
    if v6:
        tasks |= {"lan-tcp6": ("this computer in its network, IPv6", _tcp(v6[0], at, say))}
    return [Probe(id=name, wall=Wall.CARD, tries=tries, task=task) for name, (tries, task) in tasks.items()]


def _traces(target: Target) -> list[Probe]:
    names = [f"{target.token}.example.com", f"{target.token}.{_FOREIGN}"]
    return [
        Probe(id="resolver", wall=Wall.RESOLVER, tries="look a name up", task={"do": "lookup", "names": names}),
        Probe(id="ssh-listeners", wall=Wall.LISTENERS, tries="where sshd listens", task={"do": "sshd"}),
        Probe(id="agent-socket", wall=Wall.AGENT, tries="sockets of sshd", task={"do": "sshd"}),
        Probe(id="x11-display", wall=Wall.X11, tries="displays of sshd", task={"do": "sshd"}),
        Probe(id="environment", wall=Wall.ENVIRONMENT, tries="every process's variables", task={"do": "environment"}),
        Probe(id="mounts", wall=Wall.SHARES, tries="mounts, and devices that carry them", task={"do": "shares"}),
        Probe(id="serial-channels", wall=Wall.CHANNELS, tries="virtio ports", task={"do": "channels"}),
        Probe(id="dmi", wall=Wall.SMBIOS, tries="SMBIOS, fw_cfg, kernel line", task={"do": "smbios"}),
    ]


def at_door(target: Target, *, expected: Door = Door.OPEN) -> Probe:
    """Return the one that finds the proxy."""
    host = f"door-{target.token}.{_FOREIGN}"
    return Probe(
        id="proxy", wall=Wall.DOOR, tries="the proxy", task=_proxy(_connect(host)) | {"any": True},
        expected=expected, host=host,
    )  # fmt: skip


def through_proxy(target: Target) -> list[Probe]:
    """Return what the proxy has to refuse, each with the check that has to do it."""
    return [
        *_by_policy(target), *_by_name(target), *_by_head(target), *_by_address(target), *_by_first_words(target)
    ]  # fmt: skip


def _by_policy(target: Target) -> list[Probe]:
    foreign, zone = f"{target.token}.{_FOREIGN}", target.zone
    hosts = {
        "name-unlisted": f"unlisted-{foreign}",
        "name-capitals": f"UNLISTED-{foreign.upper()}",
        "name-parent": ZONE,
        "name-prefixed": f"x-{target.token}x{ZONE}",
        "name-suffixed": f"{PUBLIC}.{zone}.{_FOREIGN}",
    }
    found = [_refused(name, Wall.NAMES, host, Stage.POLICY) for name, host in hosts.items()]
    found += [
        _refused(
            f"broad-{suffix.replace('.', '-')}", Wall.BROAD, f"vmkit-selftest-{target.token}.{suffix}", Stage.POLICY
        )
        for suffix in STRANGERS
    ]
    found += [_refused(f"port-{port}", Wall.PORTS, f"{PUBLIC}.{zone}", Stage.PORT, port) for port in (22, 25, 8443)]
    page = f"{PUBLIC}.{zone}"
    head = f"GET http://{page}/{target.token} HTTP/1.1\r\nHost: {page}\r\n\r\n".encode()
    get = Probe(
        id="port-80", wall=Wall.PORTS, tries=f"GET http://{page}/", task=_proxy(head), stage=Stage.PORT,
        host=page, port=80,
    )  # fmt: skip
    return [*found, get]


def _by_name(target: Target) -> list[Probe]:
    zone = target.zone
    forms = {
        "address": "127.0.0.1",
        "address-short": "127.1",
        "address-number": "2130706433",
        "address-hex": "0x7f.0.0.1",
        "address-octal": "0177.0.0.01",
        "address6": "[::1]",
        "address-public": "203.0.113.1",
        "one-word": "localhost",
        "dot-at-end": f"{PUBLIC}.{zone}.",
        "percent-nul": f"evil.example%00.{zone}",
        "user": f"{PUBLIC}.{zone}@evil.example",
        "underscore": f"a_b.{zone}",
        "empty-label": f"a..{zone}",
        "slash": f"evil.example/.{zone}",
    }
    return [_refused(f"form-{name}", Wall.FORMS, host, Stage.NAME, target.proxied_port) for name, host in forms.items()]


def _by_head(target: Target) -> list[Probe]:
    found = []
    for name, request in _REQUESTS.items():
        marker = f"{name}.{target.zone}"
        words = request.replace("HOST", f"{PUBLIC}.{marker}").replace("ZONE", marker)
        found.append(
            Probe(
                id=f"request-{name}", wall=Wall.REQUESTS, tries=f"a request with {name}", task=_proxy(words.encode()),
                stage=Stage.HEAD, host=marker,
            )
        )  # fmt: skip
    return found


def _by_address(target: Target) -> list[Probe]:
    names = [name for name in TABLE if name != PUBLIC] + ([OWN] if target.lan else [])
    return [
        Probe(
            id=f"leads-to-{name}", wall=Wall.ADDRESSES, tries=f"an allowed name that leads to {name}",
            task=_proxy(_connect(host, target.proxied_port), client_hello(host)), stage=Stage.ADDRESS,
            host=host, port=target.proxied_port,
        )
        for name in names
        for host in [f"{name}.{target.zone}"]
    ]  # fmt: skip


def _by_first_words(target: Target) -> list[Probe]:
    said = {
        "tls-other-name": (Wall.TLS_NAME, client_hello("evil.example")),
        "tls-no-name": (Wall.TLS_NAME, client_hello("")),
        "plain-http": (Wall.PLAIN, b"GET / HTTP/1.0\r\n\r\n"),
        "plain-ssh": (Wall.PLAIN, b"SSH-2.0-vmkit_selftest\r\n"),
        "plain-second-connect": (Wall.PLAIN, _connect("evil.example")),
    }
    return [
        Probe(
            id=name, wall=wall, tries=f"a tunnel, then {name}", task=_proxy(_connect(host), words),
            stage=Stage.FIRST_WORDS, host=host,
        )
        for name, (wall, words) in said.items()
        for host in [f"{PUBLIC}.{name}.{target.zone}"]
    ]  # fmt: skip


def _refused(name: str, wall: Wall, host: str, stage: Stage, port: int = 443) -> Probe:
    """Return a tunnel that is refused before it opens."""
    return Probe(
        id=name, wall=wall, tries=f"a tunnel to {host}:{port}", task=_proxy(_connect(host, port)), stage=stage,
        host=host.lower(), port=port,
    )  # fmt: skip


def _tcp(to: str, port: int, say: str = "") -> dict[str, Any]:
    return {"do": "tcp", "to": [to], "port": port, "say": say}


def _udp(to: str, port: int, say: str, want: str = "") -> dict[str, Any]:
    return {"do": "udp", "to": [to], "port": port, "say": say, "want": want}


def _proxy(*say: bytes) -> dict[str, Any]:
    return {"do": "proxy", "say": [words.hex() for words in say]}


def _connect(host: str, port: int = 443) -> bytes:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host.lower()}:{port}\r\n\r\n".encode()


def _query(token: str) -> bytes:
    """Ask for the IPv4 address of a name that carries the token (RFC 1035)."""
    labels = b"".join(bytes([len(label)]) + label for label in (token.encode(), b"example", b"com"))
    return b"\x76\x6d\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def _quic() -> bytes:
    """Say hello in a version that nobody speaks: a QUIC server answers with those that it does (RFC 9000, 6)."""
    return (b"\xc0\x1a\x2a\x3a\x4a\x08" + b"vmkit-00" + b"\x08" + b"vmkit-01").ljust(1200, b"\0")
