"""Have a machine prove its walls: probes from inside the guest, as root, after they have shown that they can see."""

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from vmkit.drivers.base import Driver
from vmkit.errors import Refused, TimedOut, VmkitError, WrongState
from vmkit.guest.base import Command, Guest
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.wait import Deadline, until
from vmkit.machines.model import Machine
from vmkit.machines.store import BrokenMachine, MachineStore
from vmkit.network.history import Entry, read_entries
from vmkit.network.judged import MAX_ANSWER_BYTES, Answers, Finding, Observed, judge, parse_answers
from vmkit.network.policy import Mode, Policy
from vmkit.network.probes import GATEWAY, Door, Probe, Stage, Target, at_door, inside, through_proxy
from vmkit.network.traces import Known
from vmkit.network.walls import Wall
from vmkit.workflows.net import allow, deny, log_path, policy_of
from vmkit.workflows.verify_control import Control, plan_of, program, run_control
from vmkit.workflows.verify_doors import Doors
from vmkit.workflows.verify_host import forward, listeners, modes, rules

_GUEST_S = 300.0
_LOGGED_WITHIN_S = 10.0
_ALLOWED_S = 300
_AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec python3 -I -; else exec sudo -n python3 -I -; fi'


class State(StrEnum):
    """How a wall does."""

    HOLDS = "holds"
    LEAKS = "leaks"
    BLIND = "blind"  # a probe did not see the control's open door: it proves nothing
    NOT_SHOWN = "not shown"  # nothing was seen either way


def state_of(findings: Sequence[Finding]) -> State:
    """Return the state of the wall behind which these were found, the worst first."""
    if any(one.observed not in (Observed.UNKNOWN.value, one.probe.expected.value) for one in findings):
        return State.LEAKS
    if any(one.proved is False for one in findings):
        return State.BLIND
    return State.NOT_SHOWN if any(one.observed is Observed.UNKNOWN for one in findings) else State.HOLDS


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a run showed."""

    machine: str
    mode: Mode
    findings: tuple[Finding, ...]
    control: Control
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every probe saw what was expected, and none was blind."""
        return all(finding.passed for finding in self.findings)

    @property
    def rows(self) -> Mapping[Wall, tuple[Finding, ...]]:
        """The findings by wall, in the order of the walls."""
        found = {wall: tuple(one for one in self.findings if one.probe.wall is wall) for wall in Wall}
        return {wall: findings for wall, findings in found.items() if findings}

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "machine": self.machine,
            "mode": self.mode.value,
            "passed": self.passed,
            "control": self.control.to_json(),
            "walls": [
                {"id": wall.value, "state": state_of(findings).value, "probes": len(findings)}
                for wall, findings in self.rows.items()
            ],
            "probes": [finding.to_json() for finding in self.findings],
            "seconds": self.seconds,
        }


def verify(
    machine: Machine,
    *,
    guest: Guest,
    machines: MachineStore,
    driver: Driver,
    runner: Runner,
    report: Report,
    door: int,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
    logged_within_s: float = _LOGGED_WITHIN_S,
) -> Verdict:
    """Try every way out of the guest, and say which are open.

    An open network is not closed: its leaks are reported as leaks. Raises WrongState (no Linux guest), CommandFailed
    (no python3, no root), TransportFailed, UsageError (a damaged policy), Busy.
    """
    if machine.system != "linux":
        raise WrongState(
            f'machine "{machine.name}" is not a Linux guest, and its network cannot be closed',
            hint="docs/explanation/apple-backend.md",
        )
    begun, token = clock(), "t" + secrets.token_hex(4)
    policy, too_broad = _policy(machine)
    mode = Mode(machine.egress)
    with Doors(token) as doors:
        target = Target(
            token=token,
            direct_port=doors.direct_port,
            proxied_port=doors.proxied_port,
            ssh_ports=_ssh_ports(machine, machines=machines, driver=driver),
            lan=doors.lan,
        )
        probes = _probes(target, mode, asks_names=policy is not None)
        plan = plan_of(probes, door=door, gateway=GATEWAY)
        with report.phase("control", "Showing that the probes can see"):
            control = run_control(probes, plan=plan, runner=runner)
        policy_mode = policy.mode if policy else None
        allowed = _allowed(machine, target, machines=machines, wanted=mode is policy_mode is Mode.STRICT)
        with report.phase("guest", f"Trying the walls of {machine.name}"), allowed:
            answers = _ask(guest, plan, probes)
            entries = _entries(machine, probes, since=begun - 1, within_s=logged_within_s)
        known = _known(machine, machines, environment, door)
        findings = [
            replace(judge(probe, answers, entries, known), proved=control.saw.get(probe.id)) for probe in probes
        ]
        findings += listeners(doors)
        findings += [*forward(driver.address(machines.vm(machine)), doors), modes(machine, machines=machines)]
    findings.append(rules(policy, too_broad, now=clock()))
    order = list(Wall)
    findings.sort(key=lambda finding: order.index(finding.probe.wall))
    return Verdict(
        machine=machine.name, mode=mode, findings=tuple(findings), control=control, seconds=round(clock() - begun, 1)
    )


def _policy(machine: Machine) -> tuple[Policy | None, str | None]:
    """Return the policy, or why it counts for nothing: a rule in it is too broad. Raises UsageError."""
    try:
        return policy_of(machine), None
    except Refused as refused:
        return None, f"{refused.message}: {refused.detail}"


def _probes(target: Target, mode: Mode, *, asks_names: bool) -> list[Probe]:
    if mode is Mode.OPEN:
        return inside(target)
    if mode is Mode.AIRGAP:
        return [*inside(target), at_door(target, expected=Door.CLOSED)]
    return [*inside(target), at_door(target), *(through_proxy(target) if asks_names else [])]


def _ssh_ports(machine: Machine, *, machines: MachineStore, driver: Driver) -> tuple[int, ...]:
    """Return the port of this machine's own sshd, then those of others that run."""
    found = [driver.address(machines.vm(machine)).port]
    for other in machines.all():
        if not isinstance(other, BrokenMachine) and other.driver == machine.driver and other.name != machine.name:
            with contextlib.suppress(VmkitError):  # it does not run
                found.append(driver.address(machines.vm(other)).port)
    return tuple(dict.fromkeys(found))[:4]


@contextlib.contextmanager
def _allowed(machine: Machine, target: Target, *, machines: MachineStore, wanted: bool) -> Iterator[None]:
    """Allow the names of this run, for its time."""
    if not wanted:
        yield
        return
    pattern = f"*.{target.zone}"
    allow(machine, [pattern, f"{pattern}:{target.proxied_port}"], machines=machines, for_s=_ALLOWED_S)
    try:
        yield
    finally:
        deny(machine, [pattern], machines=machines)


def _ask(guest: Guest, plan: Mapping[str, object], probes: Sequence[Probe]) -> Answers:
    """Run the probe program in the guest."""
    source = f"PLAN = {json.dumps(plan)!r}\n{program()}".encode()
    done = guest.run(Command("sh", "-c", _AS_ROOT), stdin=source, timeout_s=_GUEST_S, max_bytes=MAX_ANSWER_BYTES)
    return parse_answers(done.stdout, asked={probe.id for probe in probes})


def _entries(machine: Machine, probes: Sequence[Probe], *, since: float, within_s: float) -> list[Entry]:
    """Return what the proxy logged; wait for what it is still busy with."""
    wanted = {(probe.host, probe.port) for probe in probes if probe.stage not in (None, Stage.HEAD)}

    def logged(_: float) -> list[Entry]:
        entries = read_entries(log_path(machine), since=since)
        return entries if wanted <= {(entry.host, entry.port) for entry in entries} else []

    try:
        return until(logged, deadline=Deadline(within_s), what="the proxy's log") if wanted else logged(0)
    except TimedOut:  # those that are missing are judged so
        return read_entries(log_path(machine), since=since)


def _known(machine: Machine, machines: MachineStore, environment: Mapping[str, str], door: int) -> Known:
    paths = (str(Path.home()), str(machine.folder), str(machines.paths.data))
    return Known(environment=environment, paths=paths, host_name=socket.gethostname(), door_port=door)
