"""Which addresses are never connected to; the forms that hide them are in tests/integration/test_proxy_hostile.py."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_requests import BAD_ADDRESSES
from vmkit.network.addresses import is_this_computer, why_forbidden, why_refused


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_forbidden(address: str) -> None:
    assert why_forbidden(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
        "168.63.129.15", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.2.1",
        "192.167.255.255", "192.169.0.0", "198.18.0.1", "198.51.100.1", "203.0.113.1", "223.255.255.255",
        "2606:4700::1111", "2001:db8::1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1",
    ],
)  # fmt: skip
def test_public_and_documentation_addresses_are_not(address: str) -> None:
    assert why_forbidden(address) is None


@settings(deadline=None)
@given(st.sampled_from(["127.0.0.0/8", "10.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16", "224.0.0.0/4"]), st.data())
def test_every_form_of_a_forbidden_address_is_forbidden(network: str, data: st.DataObject) -> None:
    inside = ipaddress.IPv4Network(network)
    ip = int(data.draw(st.integers(int(inside.network_address), int(inside.broadcast_address))))
    forms = [ip, 0xFFFF << 32 | ip, 0xFFFF << 48 | ip, 0x64FF9B << 96 | ip, 0x2002 << 112 | ip << 80 | 1]
    forms += [0x20010000 << 96 | 1 << 64 | (ip ^ 0xFFFFFFFF), 0x20010DB8 << 96 | 0x5EFE << 32 | ip]

    assert why_forbidden(str(ipaddress.IPv4Address(ip)))
    assert all(why_forbidden(str(ipaddress.IPv6Address(form))) for form in forms)


def test_own_address_is_known() -> None:
    assert is_this_computer("127.0.0.1")
    assert not is_this_computer("192.0.2.1")
    assert why_refused("192.0.2.1") is None
