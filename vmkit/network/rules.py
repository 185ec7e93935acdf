"""Which names a machine may reach: modes, rules, and the one check of a host's bytes that all others rely on."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from vmkit.errors import Refused, UsageError
from vmkit.host.text import printable

HTTPS = 443
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LDH = _LETTERS | frozenset(b"0123456789-")
_MAX_NAME, _MAX_LABEL = 253, 63
_MAX_COMPARED = 100  # names that a refused one is compared with: a guest asks as often as it likes


class Mode(StrEnum):
    """How much of the network a machine has."""

    STRICT = "strict"
    OPEN = "open"
    AIRGAP = "airgap"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One name, or every name below it with `*.`, that may be reached. Port 80 means plain HTTP to this host."""

    host: str
    ports: tuple[int, ...] = (HTTPS,)
    group: str | None = None
    added_by: str = "user"  # "template", "user" or "learn"
    expires: float | None = None  # seconds of the epoch

    @property
    def target(self) -> str:
        """The rule as `vmkit net allow` takes it: `pypi.org`, `deb.debian.org:80`."""
        return " ".join(self.host if port == HTTPS else f"{self.host}:{port}" for port in self.ports)

    def is_live(self, now: float) -> bool:
        """Tell whether it has not run out."""
        return self.expires is None or now < self.expires

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "host": self.host,
            "ports": list(self.ports),
            "group": self.group,
            "added_by": self.added_by,
            "expires": self.expires,
        }


def checked_host(raw: bytes) -> str:
    """Return the host name in lower case. Raises Refused, with the reason, for any byte or form that is none.

    Looked at byte by byte before anything else sees it: a name that two programs read differently is how allow-lists
    are passed (`allowed.example` after a NUL, a number that is an address, a dot at the end).
    """
    fault = _fault(raw)
    if fault:
        raise Refused(f'"{printable(raw, max_chars=80)}" is no host name', detail=fault)
    return raw.decode("ascii").lower()


def _fault(raw: bytes, *, least_labels: int = 2) -> str | None:
    if not 0 < len(raw) <= _MAX_NAME:
        return f"it is longer than {_MAX_NAME} bytes" if raw else "it is empty"
    strange = next((byte for byte in raw if byte not in _LDH and byte != 0x2E), None)
    if strange is not None:
        other = "; a name outside ASCII is written in its xn-- form" if strange >= 0x80 else ""
        return f"byte 0x{strange:02x} is not a letter, a digit, a hyphen or a dot{other}"
    labels = raw.split(b".")
    fault = "it ends with a dot" if not labels[-1] else next(filter(None, map(_label_fault, labels)), None)
    if fault:
        return fault
    if len(labels) < least_labels:
        return "it has no dot: names of one word are of the local network"
    if labels[-1][0] not in _LETTERS:  # every numeric address ends so: 127.1, 0x7f.0.0.0x1, 1.2.3.4
        return "it ends in a number: it is an address, not a name"
    return None


def _label_fault(label: bytes) -> str | None:
    if not 0 < len(label) <= _MAX_LABEL:
        return f"it has a label of more than {_MAX_LABEL} bytes" if label else "it has an empty label"
    if label[:1] == b"-" or label[-1:] == b"-":
        return "it has a label that begins or ends with a hyphen"
    return None


def checked_pattern(text: str) -> str:
    """Return a host, or `*.` and a host, in lower case. Raises Refused, with the reason."""
    if not text.startswith("*."):
        return checked_host(_raw(text))
    fault = _fault(_raw(text[2:]), least_labels=1)  # `*.com` is a pattern; why it is refused, `refuse_broad` says
    if fault:
        raise Refused(f'"{printable(text, max_chars=80)}" is no host name', detail=fault)
    return text.lower()


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def parse_target(text: str) -> tuple[str, int | None]:
    """Return host or `*.host`, and the port, of `HOST[:PORT]`. Raises UsageError, or Refused for a bad name."""
    if "/" in text:
        raise UsageError(
            f'"{printable(text, max_chars=80)}" is not HOST[:PORT]', hint="the host alone, without https://"
        )
    host, colon, digits = text.rpartition(":")
    if not colon or ":" in host:  # more than one colon: an IPv6 address, which checked_host refuses
        return checked_pattern(text), None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 1 <= int(digits) <= 65535):
        raise UsageError(f'"{printable(digits, max_chars=20)}" is no port', hint="1 to 65535; without one: 443")
    return checked_pattern(host), int(digits)


def matches(pattern: str, host: str) -> bool:
    """Tell whether `pattern` covers `host`; `*.x` covers every name below x, and not x itself."""
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def nearest(host: str, names: Iterable[str]) -> str | None:
    """Return the name that is most like `host`: of the same domain, or spelled much the same."""
    known = sorted(set(names))
    shared = {name: _shared_labels(name, host) for name in known}
    most = max(shared.values(), default=0)
    related = [name for name in known if shared[name] == most] if most >= 2 else []
    if len(host) > _MAX_LABEL:  # comparing is quadratic
        return next(iter(related), None)
    near = difflib.get_close_matches(host, (related or known)[:_MAX_COMPARED], n=1, cutoff=0.0 if related else 0.75)
    return near[0] if near else None


def _shared_labels(one: str, other: str) -> int:
    count = 0
    for mine, its in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if mine != its:
            break
        count += 1
    return count
