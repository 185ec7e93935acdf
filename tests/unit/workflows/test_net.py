"""Changing what a machine may reach: locked, all or nothing, and the keeper told."""

import dataclasses
import json
import shutil
import threading
from pathlib import Path

import pytest

from tests.unit.machines.test_model import MACHINE
from vmkit.errors import NotFound, Refused, UsageError, WrongState
from vmkit.host.paths import Paths
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.policy import Mode
from vmkit.workflows.net import (
    Changed,
    Why,
    allow,
    deny,
    learn,
    log_path,
    policy_for,
    policy_of,
    proposal,
    why,
)

NOW = 1_800_000_000.0


@pytest.fixture
def machines(tmp_path: Path) -> MachineStore:
    return MachineStore(Paths(config=tmp_path, data=tmp_path, cache=tmp_path / "cache"))


@pytest.fixture
def machine(machines: MachineStore) -> Machine:
    return made(machines)


def made(machines: MachineStore, *, egress: str = "strict") -> Machine:
    folder = machines.paths.machines / "a"
    folder.mkdir(parents=True)
    machine = dataclasses.replace(MACHINE, folder=folder, egress=egress, recipes=("base", "kiro-cli"))
    machines.save(machine)
    return machine


def refused(machine: Machine, *hosts: str, at: str = "2027-01-15T08:00:00Z") -> None:
    with log_path(machine).open("a") as log:
        for host in hosts:
            entry = {
                "time": at,
                "kind": "refused",
                "host": host,
                "port": 443,
                "allowed": False,
                "reason": f"said of {host}",
            }
            log.write(json.dumps(entry) + "\n")


class Keeper:
    """Notes who was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, machine: Machine) -> None:
        self.told.append(machine.name)


def test_a_kiro_machine_begins_with_what_kiro_and_its_recipes_need() -> None:
    policy = policy_for("strict", ("base", "kiro-cli"))

    assert policy.mode is Mode.STRICT
    assert {rule.group for rule in policy.rules} == {"kiro", "debian"}
    assert not any(rule.host.startswith("*") for rule in policy.rules)
    assert policy.decide("q.us-east-1.amazonaws.com", 443, now=NOW).allowed
    assert policy.decide("deb.debian.org", 80, now=NOW).allowed


def test_a_bare_machine_begins_with_nothing_and_an_airgapped_one_reaches_nothing() -> None:
    assert policy_for("strict", ()).rules == ()
    assert not policy_for("airgap", ("base",)).decide("deb.debian.org", 80, now=NOW).allowed


def test_allow_is_in_the_file_and_the_keeper_is_told(machine: Machine, machines: MachineStore) -> None:
    keeper = Keeper()

    changed = allow(
        machine, ["pypi", "a.example.com:8443"], machines=machines, for_s=60, notify=keeper, clock=lambda: NOW
    )

    policy = policy_of(machine)
    assert policy.decide("files.pythonhosted.org", 443, now=NOW + 59).allowed
    assert not policy.decide("a.example.com", 8443, now=NOW + 60).allowed
    assert {rule.host for rule in changed.added} == {"pypi.org", "files.pythonhosted.org", "a.example.com"}
    assert policy.decide("q.us-east-1.amazonaws.com", 443, now=NOW).allowed
    assert keeper.told == ["a"]


def test_of_several_names_all_are_allowed_or_none(machine: Machine, machines: MachineStore) -> None:
    keeper = Keeper()

    with pytest.raises(Refused):
        allow(machine, ["a.example.com", "*.com"], machines=machines, notify=keeper)

    assert not machine.policy.exists()
    assert keeper.told == []


def test_what_changes_nothing_writes_nothing(machine: Machine, machines: MachineStore) -> None:
    keeper = Keeper()

    changed = allow(machine, ["deb.debian.org"], machines=machines, notify=keeper)

    assert (changed.added, changed.removed, keeper.told) == ((), (), [])
    assert changed.notes
    assert not machine.policy.exists()


def test_deny_says_what_it_took_back(machine: Machine, machines: MachineStore) -> None:
    allow(machine, ["a.example.com"], machines=machines)

    changed = deny(machine, ["a.example.com", "deb.debian.org"], machines=machines)

    assert [rule.host for rule in changed.removed] == ["a.example.com"]
    assert changed.denied == ("deb.debian.org",)
    assert not policy_of(machine).decide("deb.debian.org", 80, now=NOW).allowed


def test_a_policy_can_be_changed_while_the_machine_is_made(machine: Machine, machines: MachineStore) -> None:
    with machines.lock("a", "create"):
        allow(machine, ["a.example.com"], machines=machines)
        deny(machine, ["b.example.com"], machines=machines)

    policy = policy_of(machine)
    assert policy.decide("a.example.com", 443, now=NOW).allowed
    assert policy.denied == ("b.example.com",)


def test_changes_at_the_same_moment_are_all_kept(machine: Machine, machines: MachineStore) -> None:
    hosts = [f"h{number}.example.com" for number in range(12)]
    threads = [threading.Thread(target=allow, args=(machine, [host]), kwargs={"machines": machines}) for host in hosts]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(policy_of(machine).decide(host, 443, now=NOW).allowed for host in hosts)


def test_a_machine_that_was_deleted_meanwhile_is_not_found(machine: Machine, machines: MachineStore) -> None:
    shutil.rmtree(machine.folder)

    with pytest.raises(NotFound, match='"a"'):
        allow(machine, ["a.example.com"], machines=machines)

    assert not machine.folder.exists()


@pytest.mark.parametrize("egress", ["open", "airgap"])
def test_only_a_closed_network_is_changed_by_name(egress: str, machines: MachineStore) -> None:
    machine = made(machines, egress=egress)

    for change in (
        lambda: allow(machine, ["a.example.com"], machines=machines),
        lambda: deny(machine, ["a.example.com"], machines=machines),
        lambda: learn(machine, machines=machines, on=True),
        lambda: proposal(machine),
    ):
        with pytest.raises(WrongState, match=egress):
            change()


def test_a_damaged_policy_is_said_and_stays_as_it_is(machine: Machine, machines: MachineStore) -> None:
    machine.policy.write_text("mod = 'open'")

    with pytest.raises(UsageError, match=r"policy\.toml"):
        allow(machine, ["a.example.com"], machines=machines)

    assert machine.policy.read_text() == "mod = 'open'"


def test_why_names_rule_group_and_reason(machine: Machine) -> None:
    said = why(machine, "deb.debian.org:80", clock=lambda: NOW)

    assert said.decision.allowed
    assert said.group
    assert said.group.name == "debian"
    assert "plain HTTP" in (said.group_reason or "")
    assert said.offered == ()


def test_why_not_names_the_nearest_the_group_and_what_the_proxy_said(machine: Machine) -> None:
    refused(machine, "pypi.org")

    said = why(machine, "PyPI.org", clock=lambda: NOW)
    near = why(machine, "ftp.debian.org", clock=lambda: NOW)

    assert not said.decision.allowed
    assert said.offered == ("pypi",)
    assert said.last
    assert said.last.reason == "said of pypi.org"
    assert near.decision.nearest == "deb.debian.org"


@pytest.mark.parametrize("target", ["*.debian.org", "127.0.0.1", "localhost", "pypi.org."])
def test_why_of_no_name_is_refused_with_the_reason(target: str, machine: Machine) -> None:
    with pytest.raises(Refused) as no_name:
        why(machine, target)

    assert no_name.value.detail


def test_learning_proposes_what_was_refused_since_and_opens_nothing(machine: Machine, machines: MachineStore) -> None:
    refused(machine, "old.example.com", at="2027-01-15T07:00:00Z")

    since = learn(machine, machines=machines, on=True, clock=lambda: NOW)
    refused(machine, "a.example.com", "deb.debian.org")

    found = proposal(machine, clock=lambda: NOW)
    assert since == found.since == NOW
    assert [one.rule.host for one in found.proposed] == ["a.example.com"]
    assert not policy_of(machine).decide("a.example.com", 443, now=NOW).allowed


def test_learning_goes_on_from_where_it_began_until_it_is_stopped(machine: Machine, machines: MachineStore) -> None:
    learn(machine, machines=machines, on=True, clock=lambda: NOW)

    assert learn(machine, machines=machines, on=True, clock=lambda: NOW + 60) == NOW
    assert learn(machine, machines=machines, on=False) is None
    assert policy_of(machine).learning_since is None


def test_results_are_json(machine: Machine, machines: MachineStore) -> None:
    changed: Changed = allow(machine, ["a.example.com"], machines=machines)
    said: Why = why(machine, "a.example.com")

    assert json.loads(json.dumps(changed.to_json()))["added"][0]["host"] == "a.example.com"
    assert json.loads(json.dumps(said.to_json()))["rule"]["added_by"] == "user"
