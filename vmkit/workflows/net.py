"""See and change what a machine's guest may reach."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vmkit.errors import NotFound, WrongState
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.edit import Edited, with_allowed, with_denied
from vmkit.network.groups import Group, describe_groups, load_groups
from vmkit.network.history import Entry, last_refusal, read_entries
from vmkit.network.learn import Proposed, propose
from vmkit.network.policy import Decision, Mode, Policy, load_policy, save_policy
from vmkit.network.rules import HTTPS, Rule, checked_host, parse_target
from vmkit.workflows.keep import Keeper

Clock = Callable[[], float]
Notify = Callable[[Machine], object]
Change = Callable[[Policy], Edited]


def log_path(machine: Machine) -> Path:
    """Return where the proxy logs."""
    return machine.folder / "network.jsonl"


def policy_for(egress: str, recipes: Sequence[str]) -> Policy:
    """Return the policy that a new machine begins with: the mode, and the groups that its recipes need."""
    wanted = [group for group in describe_groups().values() if set(group.recipes) & set(recipes)]
    return Policy(mode=Mode(egress), rules=tuple(rule for group in wanted for rule in group.rules))


def policy_of(machine: Machine) -> Policy:
    """Return the machine's policy; without a file, that of its egress and recipes. Raises UsageError, Refused."""
    try:
        return load_policy(machine.policy, groups=load_groups())
    except NotFound:
        return policy_for(machine.egress, machine.recipes)


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What a change did."""

    machine: str
    added: tuple[Rule, ...]
    removed: tuple[Rule, ...]
    denied: tuple[str, ...]  # all that is denied by name now
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "machine": self.machine,
            "added": [rule.to_json() for rule in self.added],
            "removed": [rule.to_json() for rule in self.removed],
            "denied": list(self.denied),
            "notes": list(self.notes),
        }


def allow(
    machine: Machine,
    targets: Sequence[str],
    *,
    machines: MachineStore,
    for_s: int | None = None,
    notify: Notify | None = None,
    clock: Clock = time.time,
) -> Changed:
    """Allow hosts or groups, for good or for `for_s` seconds; all of them or none.

    Raises UsageError, Refused (too broad, no name), WrongState (no closed network), NotFound (deleted meanwhile).
    """
    groups, now = load_groups(), clock()
    expires = None if for_s is None else float(int(now) + for_s)

    def allowing(target: str) -> Change:
        return lambda policy: with_allowed(policy, target, groups=groups, now=now, expires=expires)

    return _change(machine, [allowing(target) for target in targets], machines=machines, notify=notify)


def deny(machine: Machine, targets: Sequence[str], *, machines: MachineStore, notify: Notify | None = None) -> Changed:
    """Take back what allows hosts or groups, and deny by name what wider rules allow; all of them or none.

    Raises UsageError, Refused, WrongState, NotFound.
    """
    return _change(machine, [_denying(target) for target in targets], machines=machines, notify=notify)


def take_over(
    machine: Machine,
    policy: Policy,
    *,
    machines: MachineStore,
    notify: Notify | None = None,
    clock: Clock = time.time,
) -> Changed:
    """Allow and deny what another policy, of hosts only, allows and denies; all of it or nothing.

    Raises UsageError, Refused, WrongState, NotFound.
    """
    now = clock()

    def allowing(target: str) -> Change:
        return lambda before: with_allowed(before, target, groups={}, now=now)

    changes = [allowing(f"{rule.host}:{port}") for rule in policy.rules for port in rule.ports]
    changes += [_denying(host) for host in policy.denied]
    return _change(machine, changes, machines=machines, notify=notify)


@dataclass(frozen=True, kw_only=True)
class Why:
    """What the policy says of one name, and what the proxy said last."""

    machine: str
    decision: Decision
    group: Group | None
    group_reason: str | None
    offered: tuple[str, ...]  # shipped groups that would allow it
    last: Entry | None

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        decision = self.decision
        return {
            "machine": self.machine,
            "host": decision.host,
            "port": decision.port,
            "allowed": decision.allowed,
            "reason": decision.reason,
            "rule": decision.rule.to_json() if decision.rule else None,
            "group_reason": self.group_reason,
            "nearest": decision.nearest,
            "groups": list(self.offered),
            "last_refusal": self.last.to_json() if self.last else None,
        }


def why(machine: Machine, target: str, *, clock: Clock = time.time) -> Why:
    """Say which rule allows a host, or why none does. Raises UsageError, or Refused when it is no name at all."""
    host, port = parse_target(target)
    host = checked_host(host.encode())  # a `*.` is no question
    decision = policy_of(machine).decide(host, port or HTTPS, now=clock())
    rule = decision.rule
    group = describe_groups().get(rule.group) if rule and rule.group else None
    offered = [
        name
        for name, rules in load_groups().items()
        if any(one.host == host and decision.port in one.ports for one in rules)
    ]
    reasons = {(one.host, one.ports): text for one, text in group.reasons.items()} if group else {}
    return Why(
        machine=machine.name,
        decision=decision,
        group=group,
        group_reason=reasons.get((rule.host, rule.ports)) if rule else None,
        offered=() if decision.allowed else tuple(offered),
        last=last_refusal(read_entries(log_path(machine)), host, decision.port),
    )


def learn(machine: Machine, *, machines: MachineStore, on: bool, clock: Clock = time.time) -> float | None:
    """Mark from when on refusals count for a proposal, or forget the mark; return the moment. Nothing opens by it.

    Raises WrongState, NotFound.
    """
    with _changing(machine, machines):
        policy = _closed(machine)
        since = (policy.learning_since or float(int(clock()))) if on else None
        save_policy(machine.policy, replace(policy, learning_since=since))
    return since


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The smallest policy for what was refused. `since` None: all that the log holds."""

    machine: str
    since: float | None
    proposed: tuple[Proposed, ...]
    left_out: int


def proposal(machine: Machine, *, clock: Clock = time.time) -> Proposal:
    """Return what to allow for what was refused since `learn`. Raises WrongState."""
    policy = _closed(machine)
    entries = read_entries(log_path(machine), since=policy.learning_since)
    proposed, left_out = propose(entries, policy=policy, groups=load_groups(), now=clock())
    return Proposal(machine=machine.name, since=policy.learning_since, proposed=tuple(proposed), left_out=left_out)


def _denying(target: str) -> Change:
    groups = load_groups()
    return lambda policy: with_denied(policy, target, groups=groups)


def _change(machine: Machine, changes: Sequence[Change], *, machines: MachineStore, notify: Notify | None) -> Changed:
    with _changing(machine, machines):
        before = _closed(machine)
        after, notes = before, list[str]()
        for change in changes:
            edited = change(after)
            after, notes = edited.policy, notes + list(edited.notes)
        if after != before:
            save_policy(machine.policy, after)
            (notify or _refresh(machines))(machine)
    return Changed(
        machine=machine.name,
        added=tuple(rule for rule in after.rules if rule not in before.rules),
        removed=tuple(rule for rule in before.rules if rule not in after.rules),
        denied=after.denied,
        notes=tuple(notes),
    )


@contextlib.contextmanager
def _changing(machine: Machine, machines: MachineStore) -> Iterator[None]:
    """Hold the policy's own lock: a `create` or `provision` that runs for minutes may need a host allowed meanwhile."""
    with machines.policy_lock(machine.name):
        try:
            yield
        except FileNotFoundError:  # its folder was deleted meanwhile
            raise NotFound(f'there is no machine "{machine.name}"', hint="vmkit list") from None


def _closed(machine: Machine) -> Policy:
    """Return the policy of a machine that names are allowed to one by one. Raises WrongState for another."""
    policy = policy_of(machine)
    if policy.mode is Mode.OPEN:
        raise WrongState(f'the network of "{machine.name}" is open: no name is refused')
    if policy.mode is Mode.AIRGAP:
        raise WrongState(f'machine "{machine.name}" has no network (airgap): no name can be allowed')
    return policy


def _refresh(machines: MachineStore) -> Notify:
    return lambda machine: Keeper(machine, machines=machines).refresh()
