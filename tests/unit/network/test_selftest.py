"""Names for the self-test: each leads where no connection may go, and nowhere else."""

import asyncio
import socket

import pytest

from vmkit.network.addresses import why_forbidden, why_refused
from vmkit.network.selftest import OWN, PUBLIC, TABLE, ZONE, own_addresses, resolving


async def elsewhere(host: str, port: int) -> list[str]:
    return [f"passed on: {host}:{port}"]


def ask(host: str) -> list[str]:
    return asyncio.run(resolving(elsewhere)(host, 443))


@pytest.mark.parametrize("name", [name for name in TABLE if name != PUBLIC])
def test_every_name_leads_to_an_address_that_is_forbidden(name: str) -> None:
    assert any(why_forbidden(address) for address in ask(f"{name}.t1.{ZONE}"))


def test_one_name_leads_to_an_address_that_is_not() -> None:
    assert [why_refused(address) for address in ask(f"{PUBLIC}.any.label.t1.{ZONE}")] == [None]


@pytest.mark.skipif(not own_addresses(), reason="this computer has no network")
def test_one_name_leads_to_this_computer() -> None:
    assert all(why_refused(address) for address in ask(f"{OWN}.t1.{ZONE}"))


@pytest.mark.parametrize("host", [ZONE, f"unknown.{ZONE}", f"203-0-113-5.{ZONE}"])
def test_no_other_name_has_an_address(host: str) -> None:
    with pytest.raises(socket.gaierror):
        ask(host)


@pytest.mark.parametrize("host", ["pypi.org", f"x{ZONE}", f"loopback.{ZONE}.example"])
def test_other_names_are_looked_up_elsewhere(host: str) -> None:
    assert ask(host) == [f"passed on: {host}:443"]
