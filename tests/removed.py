"""Controls of the proxy and its policy, taken away one by one, to see that `vmkit verify` notices each."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from vmkit.errors import Refused
from vmkit.network import http_request
from vmkit.network import proxy as proxy_module
from vmkit.network.http_request import Request
from vmkit.network.policy import Decision, Policy, Rule
from vmkit.network.walls import Wall


class AnyPort(Policy):
    def decide(self, host: str, port: int, *, now: float) -> Decision:
        return super().decide(host, 443, now=now)


def with_rule(host: str) -> Callable[[Policy], Policy]:
    return lambda policy: replace(policy, rules=(*policy.rules, Rule(host=host)))


def any_port(policy: Policy) -> Policy:
    return AnyPort(mode=policy.mode, rules=policy.rules)


async def trusting_hello(visit: Any) -> bytes:
    """Open the tunnel as the proxy does, and look no further than whether it is TLS with one name or none."""
    visit.tunnel = True
    visit.guest[1].write(proxy_module._ESTABLISHED)
    first = await visit.guest[0].read(1 << 14)
    if first[:1] != b"\x16":
        raise proxy_module.Denied("what follows CONNECT is not TLS")
    return first


async def deaf_to_plain_text(visit: Any) -> bytes:
    """Do as the proxy does, but take what is not TLS for a hello."""
    reader = visit.guest[0]
    visit.tunnel = True
    visit.guest[1].write(proxy_module._ESTABLISHED)
    first = await reader.read(1 << 14)
    if first[:1] != b"\x16":
        return first
    names_host = visit.host.encode() in first
    if not names_host:
        raise proxy_module.Denied("the TLS hello names another host")
    return first


async def lenient_request(reader: Any) -> Request:
    """Do as the proxy does, and take the first thing that looks like a host where it would refuse."""
    head = await reader.read(1 << 14)
    copy = asyncio.StreamReader()
    copy.feed_data(head)
    copy.feed_eof()
    with contextlib.suppress(Refused, EOFError):
        return await http_request.read_request(copy)
    words = head.split(b"\r\n")[0].split(b" ")
    target = words[1].removeprefix(b"http://").removeprefix(b"https://").split(b"/")[0]
    host, _, port = target.partition(b":")
    return Request(host=host, port=int(port or 443))


@dataclass(frozen=True)
class Removed:
    """One control of the proxy, or of its policy, taken away."""

    wall: Wall
    policy: Callable[[Policy], Policy] = lambda policy: policy
    patched: dict[str, Any] = field(default_factory=dict)
    visit: dict[str, Any] = field(default_factory=dict)


REMOVED = {
    "an unlisted name is allowed": Removed(Wall.NAMES, policy=with_rule("*.vmkit.invalid")),
    "a wildcard over everybody's names": Removed(Wall.BROAD, policy=with_rule("*.amazonaws.com")),
    "any port": Removed(Wall.PORTS, policy=any_port),
    "names are not checked": Removed(Wall.FORMS, patched={"checked_host": lambda raw: raw.decode("latin-1").lower()}),
    "requests are read leniently": Removed(Wall.REQUESTS, patched={"read_request": lenient_request}),
    "private addresses are allowed": Removed(Wall.ADDRESSES, patched={"why_refused": lambda address: None}),
    "the name in the hello is not compared": Removed(Wall.TLS_NAME, visit={"_hello": trusting_hello}),
    "plain text is carried": Removed(Wall.PLAIN, visit={"_hello": deaf_to_plain_text}),
}


@contextlib.contextmanager
def without(removed: Removed) -> Iterator[None]:
    """Take a control out of the proxy's code for a while: there is no switch for it, and there must be none."""
    changed = [(proxy_module, removed.patched), (proxy_module._Visit, removed.visit)]
    kept = [(thing, name, getattr(thing, name)) for thing, names in changed for name in names]
    try:
        for thing, names in changed:
            for name, value in names.items():
                setattr(thing, name, value)
        yield
    finally:
        for thing, name, value in kept:
            setattr(thing, name, value)
