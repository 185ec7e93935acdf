from pathlib import Path

import pytest

from vmkit.drivers.addresses import (
    Lease,
    find_address,
    is_guest_address,
    leased_address,
    normal_mac,
    parse_arp,
    parse_leases,
)
from vmkit.errors import TimedOut
from vmkit.host.process import Completed, Runner

DATA = Path(__file__).parents[2] / "data/macos"
NOW = 0x68D4FFFF


class Arp(Runner):
    """Answers `arp -an` with a text, or fails."""

    def __init__(self, text: str = "", *, error: Exception | None = None) -> None:
        self.text, self.error = text, error

    def find(self, program):
        return Path("/usr/sbin/arp")

    def run(self, argv, **_):
        assert argv == ["/usr/sbin/arp", "-an"]
        if self.error:
            raise self.error
        return Completed(argv=tuple(argv), code=0, stdout=self.text.encode(), stderr=b"")


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("EE:A7:85:09:92:39", "ee:a7:85:09:92:39"),
        ("ee:a7:85:9:92:39", "ee:a7:85:09:92:39"),
        ("2:0:0:a:b:c", "02:00:00:0a:0b:0c"),
        ("2:0:0:a:b", None),
        ("ff,f1:f5:dd:7f", None),
        ("02:00:00:0a:0b:0c:0d", None),
        ("002:0:0:a:b:c", None),
        ("", None),
    ],
)
def test_a_mac_address_has_one_form(text, mac):
    assert normal_mac(text) == mac


def test_the_arp_table_is_read_without_what_is_no_guest():
    assert parse_arp((DATA / "arp-an.txt").read_text()) == [
        ("04:95:e6:a0:0b:c0", "192.168.1.1"),
        ("ff:ff:ff:ff:ff:ff", "192.168.1.255"),
        ("ee:a7:85:09:92:39", "192.168.64.5"),
        ("02:00:00:0a:0b:0c", "192.168.64.9"),
    ]


def test_the_leases_are_read_block_by_block_and_a_part_of_one_is_none():
    leases = parse_leases((DATA / "dhcpd_leases.txt").read_text())

    assert [(lease.ip, lease.mac) for lease in leases] == [
        ("192.168.64.31", "02:00:00:0a:0b:0c"),
        ("192.168.64.30", "02:00:00:0a:0b:0c"),
        ("192.168.64.29", "02:00:00:0a:0b:0c"),
        ("192.168.64.12", None),
        ("192.168.64.4", "ee:a7:85:09:92:39"),
    ]


def test_of_several_leases_the_newest_that_is_valid_counts():
    leases = parse_leases((DATA / "dhcpd_leases.txt").read_text())

    assert leased_address(leases, "02:00:00:0A:0B:0C", now=NOW) == "192.168.64.31"
    assert leased_address(list(reversed(leases)), "2:0:0:a:b:c", now=NOW) == "192.168.64.31"


def test_an_expired_lease_and_one_by_duid_are_nobodys():
    leases = parse_leases((DATA / "dhcpd_leases.txt").read_text())

    assert leased_address(leases, "EE:A7:85:09:92:39", now=NOW) is None
    assert leased_address(leases, "02:00:00:0A:0B:0C", now=0x68D51000) is None
    assert leased_address([Lease(ip="10.0.0.1", mac=None, expires=NOW + 1)], "not a mac", now=NOW) is None
    assert leased_address(leases, "FF:F1:F5:DD:7F:00", now=NOW) is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "}",
        "{}",
        "{\n\tip_address=192.168.64.4\n\thw_address=1,2:0:0:a:b:c\n}",
        "{\n\tip_address=192.168.64.4\n\thw_address=1,2:0:0:a:b:c\n\tlease=soon\n}",
        "{\n\tip_address=::1\n\thw_address=1,2:0:0:a:b:c\n\tlease=0x68d51000\n}",
        "{\n\tip_address=127.0.0.1\n\thw_address=1,2:0:0:a:b:c\n\tlease=0x68d51000\n}",
        "{\n\tname=}{\n\x00\n}",
    ],
)
def test_what_is_no_lease_is_passed_over(text):
    assert parse_leases(text) == []


@pytest.mark.parametrize(
    ("text", "is_guest"),
    [
        ("192.168.64.5", True),
        ("127.0.0.1", False),
        ("224.0.0.251", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("fe80::1", False),
        ("192.168.064.5", False),
        ("1.2.3.4; rm", False),
    ],
)
def test_only_an_address_that_a_guest_can_have_is_one(text, is_guest):
    assert is_guest_address(text) is is_guest


def test_the_arp_table_goes_before_the_leases():
    runner = Arp((DATA / "arp-an.txt").read_text())
    leases = DATA / "dhcpd_leases.txt"

    assert find_address("02:00:00:0A:0B:0C", runner=runner, leases=leases, clock=lambda: NOW) == "192.168.64.9"


@pytest.mark.parametrize("runner", [Arp(), Arp(error=TimedOut("arp hangs"))])
def test_without_an_entry_the_lease_counts(runner):
    leases = DATA / "dhcpd_leases.txt"

    assert find_address("02:00:00:0A:0B:0C", runner=runner, leases=leases, clock=lambda: NOW) == "192.168.64.31"


def test_nobody_knows_a_guest_that_has_not_spoken(tmp_path):
    assert find_address("02:00:00:0A:0B:0C", runner=Arp(), leases=tmp_path / "none", clock=lambda: NOW) is None
