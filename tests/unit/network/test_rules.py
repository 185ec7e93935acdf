"""Host names, byte by byte; targets as users type them; what a pattern covers."""

import re
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmkit.errors import Refused, UsageError
from vmkit.network.rules import checked_host, checked_pattern, matches, nearest, parse_target

# Written apart from the code: one expression over the whole name, and the C library's view of what an address is.
NAME = re.compile(
    rb"(?=.{3,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z"
)
LABEL = st.text("abcXYZ019-_", min_size=0, max_size=65)


def is_name(raw: bytes) -> bool:
    try:
        checked_host(raw)
    except Refused:
        return False
    return True


@given(st.binary(max_size=260) | st.lists(LABEL, max_size=6).map(lambda labels: ".".join(labels).encode()))
@example(b"a." * 126 + b"a")
@example(b"a." * 126 + b"ab")
@example(b"a." + b"b" * 63)
@example(b"a." + b"b" * 64)
def test_a_name_is_what_an_independent_expression_says(raw: bytes) -> None:
    assert is_name(raw) == bool(NAME.match(raw))


@given(st.lists(st.from_regex(rb"[0-9a-fxX]{1,4}", fullmatch=True), max_size=5).map(b".".join).filter(is_name))
def test_no_accepted_name_is_an_address_to_the_c_library(raw: bytes) -> None:
    host = checked_host(raw)

    with pytest.raises(OSError):
        socket.inet_aton(host)
    assert host == raw.decode().lower()
    assert checked_host(host.encode()) == host


ADDRESSES = [
    "127.0.0.1", "127.1", "0177.0.0.1", "0x7f.0.0.1", "0x7f.1", "127.0.0.0x1", "10.0.0.1", "1.2.3.4", "0.0", "1.0x",
    "a.1", "255.255.255.255", "169.254.169.254", "1.2.3.4.5", "example.123", "example.0x7f",
]  # fmt: skip


@pytest.mark.parametrize("text", ADDRESSES)
def test_a_name_that_ends_in_a_number_is_an_address(text: str) -> None:
    with pytest.raises(Refused) as refused:
        checked_host(text.encode())

    assert "address" in (refused.value.detail or "")


HOSTILE = [
    (b"", "empty"),
    (b".", "dot"),
    (b"..", "dot"),
    (b"pypi.org.", "ends with a dot"),
    (b".pypi.org", "empty label"),
    (b"pypi..org", "empty label"),
    (b"localhost", "no dot"),
    (b"2130706433", "no dot"),
    (b"0x7f000001", "no dot"),
    (b"pypi.org\x00.evil.example", "0x00"),
    (b"evil.example\x00pypi.org", "0x00"),
    (b"pypi.org%00", "0x25"),
    (b"pypi.org\r\nHost: evil", "0x0d"),
    (b"pypi.org\n", "0x0a"),
    (b" pypi.org", "0x20"),
    (b"pypi.org\t", "0x09"),
    (b"[::1]", "0x5b"),
    (b"::1", "0x3a"),
    (b"::ffff:127.0.0.1", "0x3a"),
    (b"fe80::1%eth0", "0x3a"),
    (b"pypi.org:443", "0x3a"),
    (b"user@pypi.org", "0x40"),
    (b"pypi.org/simple", "0x2f"),
    (b"pypi.org\\evil", "0x5c"),
    (b"pypi.org#evil", "0x23"),
    (b"pypi.org?evil", "0x3f"),
    (b"*.pypi.org", "0x2a"),
    (b"a_b.example", "0x5f"),
    ("pypi。org".encode(), "xn--"),
    ("\u0440ypi.org".encode(), "xn--"),  # a Cyrillic letter
    ("①27.0.0.1".encode(), "xn--"),
    (b"\xff\xfe.org", "0xff"),
    (b"-a.example", "hyphen"),
    (b"a-.example", "hyphen"),
    (b"a.-", "hyphen"),
    (b"a" * 64 + b".example", "63"),
    (b"a." * 127 + b"a", "253"),
    (b"x" * 65536, "253"),
]


@pytest.mark.parametrize(("raw", "reason"), HOSTILE)
def test_a_hostile_name_is_refused_with_the_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        checked_host(raw)

    assert reason in (refused.value.detail or "")
    assert refused.value.message.replace("\t", "").isprintable()
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"PyPI.org", "pypi.org"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"r3---sn.example.com", "r3---sn.example.com"),
        (b"1.example", "1.example"),
        (b"127.0.0.1.nip.io", "127.0.0.1.nip.io"),
        (b"a." + b"b" * 63, "a." + "b" * 63),
    ],
)
def test_a_good_name_comes_back_in_lower_case(raw: bytes, host: str) -> None:
    assert checked_host(raw) == host


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("pypi.org", ("pypi.org", None)),
        ("PYPI.org:8443", ("pypi.org", 8443)),
        ("*.Debian.org", ("*.debian.org", None)),
        ("*.debian.org:80", ("*.debian.org", 80)),
        ("*.com", ("*.com", None)),  # a pattern; why it is refused, refuse_broad says
    ],
)
def test_a_target_is_host_and_port(text: str, target: tuple[str, int | None]) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["pypi.org:", "pypi.org:0", "pypi.org:65536", "pypi.org:x", "pypi.org:44٣", "a.b:-1"])
def test_a_wrong_port_is_usage(text: str) -> None:
    with pytest.raises(UsageError, match="port"):
        parse_target(text)


def test_a_url_is_told_from_a_host() -> None:
    with pytest.raises(UsageError) as refused:
        parse_target("https://pypi.org/simple")

    assert "https://" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "text", ["*", "*.", "*.*.com", "a.*.com", "*pypi.org", "*.pypi.org.", "**.x.org", "*.1", "[::1]:443", "\ud800.org"]
)
def test_other_patterns_are_none(text: str) -> None:
    with pytest.raises(Refused):
        checked_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("pypi.org", "pypi.org", True),
        ("pypi.org", "a.pypi.org", False),
        ("*.pypi.org", "a.pypi.org", True),
        ("*.pypi.org", "a.b.pypi.org", True),
        ("*.pypi.org", "pypi.org", False),
        ("*.pypi.org", "evilpypi.org", False),
        ("*.pypi.org", "pypi.org.evil.example", False),
    ],
)
def test_a_wildcard_covers_what_is_below_on_a_label_boundary(pattern: str, host: str, *, covered: bool) -> None:
    assert matches(pattern, host) is covered


NAMES = ("pypi.org", "deb.debian.org", "q.us-east-1.amazonaws.com", "oidc.us-east-1.amazonaws.com")


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("ftp.debian.org", "deb.debian.org"),
        ("pipy.org", "pypi.org"),
        ("qq.us-east-1.amazonaws.com", "q.us-east-1.amazonaws.com"),
        ("evil.example", None),
        ("a." * 60 + "debian.org", "deb.debian.org"),
        ("x" * 63 + ".example", None),
    ],
)
def test_the_nearest_name_shares_the_domain_or_is_spelled_alike(host: str, near: str | None) -> None:
    assert nearest(host, NAMES) == near


def test_nothing_is_near_when_nothing_is_allowed() -> None:
    assert nearest("pypi.org", ()) is None
