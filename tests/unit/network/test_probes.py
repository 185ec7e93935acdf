"""The table of probes: every wall has some, none is there twice, and nothing of this computer is told to the guest."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from vmkit.errors import Refused
from vmkit.network.hello import read_hello
from vmkit.network.hello_bytes import client_hello
from vmkit.network.probes import Door, Probe, Stage, Target, at_door, inside, through_proxy
from vmkit.network.walls import CLAIMS, Wall

TARGET = Target(
    token="t12345678", direct_port=40001, proxied_port=40002, ssh_ports=(20001, 20002), lan=("192.0.2.2", "2001:db8::2")
)


def every() -> list[Probe]:
    return [*inside(TARGET), at_door(TARGET), *through_proxy(TARGET)]


def test_every_wall_has_a_claim_and_all_but_the_hosts_own_have_probes_of_the_guest() -> None:
    assert set(CLAIMS) == set(Wall)
    assert set(Wall) - {probe.wall for probe in every()} == {Wall.FORWARD, Wall.FILES}


def test_no_probe_is_there_twice() -> None:
    names = [probe.id for probe in every()]

    assert len(names) == len(set(names))


def test_only_the_door_is_expected_open() -> None:
    assert [probe.id for probe in every() if probe.expected is Door.OPEN] == ["proxy"]
    assert at_door(TARGET, expected=Door.CLOSED).expected is Door.CLOSED


def test_what_the_log_will_say_tells_the_probes_of_the_proxy_apart() -> None:
    logged = [(probe.host, probe.port) for probe in through_proxy(TARGET)]
    # two spellings of one name
    twice = {pair for pair in logged if logged.count(pair) > 1}

    assert {host for host, _ in twice} <= {"unlisted-t12345678.vmkit.invalid"}


def test_requests_of_one_run_fit_into_the_log_that_is_bounded() -> None:
    assert sum(probe.stage is not None for probe in every()) < 100


def test_the_guest_is_told_nothing_of_this_computer_but_its_addresses() -> None:
    plan = json.dumps([probe.task for probe in every()])

    for secret in (str(Path.home()), os.uname().nodename, str(Path.cwd())):
        assert len(secret) < 5 or secret not in plan


def test_without_a_network_there_is_no_probe_of_its_addresses() -> None:
    alone = Target(token="t1", direct_port=1, proxied_port=2, ssh_ports=(3,), lan=())

    assert not any(probe.id.startswith("lan") for probe in inside(alone))
    assert "leads-to-own" not in {probe.id for probe in through_proxy(alone)}


@pytest.mark.parametrize("name", ["a.example", "x" * 63 + ".example"])
def test_the_small_hello_is_one_that_the_proxy_understands(name: str) -> None:
    async def read() -> bytes:
        reader = asyncio.StreamReader()
        reader.feed_data(client_hello(name))
        return (await read_hello(reader)).server_name

    assert asyncio.run(read()) == name.encode()


def test_the_small_hello_without_a_name_has_none() -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(client_hello(""))
        await read_hello(reader)

    with pytest.raises(Refused, match="no server name"):
        asyncio.run(read())


def test_the_checks_are_in_the_order_of_the_proxy() -> None:
    assert sorted(Stage) == list(Stage)
