"""Take over a machine that exists already: give it a record and keys, vouch for its host key, get our key into it.

What is copied is staged and appears by one rename; a machine that UTM holds stays where it is. From the rename on there
is a journal, and `vmkit adopt NAME` goes on where it stopped.
"""

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from vmkit.bundle.adopted import render_adopted
from vmkit.bundle.layout import Bundle
from vmkit.drivers.base import Address, Driver, MachineState, NoAddressYet
from vmkit.drivers.guest_agent import GuestAgent
from vmkit.errors import Refused, ToolFailed, TransportFailed, VmkitError, WrongState
from vmkit.guest.base import Command
from vmkit.guest.dial import ask_host_key
from vmkit.guest.keys import fingerprint, is_pinned, load_keys, make_user_key, pin_host_key
from vmkit.guest.ssh import connect
from vmkit.host.computer import cpu_count, machine_arch
from vmkit.host.files import staging, write_atomically
from vmkit.host.ports import choose_port
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.text import printable
from vmkit.host.wait import Deadline, until
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore, Unfinished, close_journal, read_journal, write_journal
from vmkit.workflows.adopt_files import copy_files
from vmkit.workflows.adopt_plan import AdoptPlan
from vmkit.workflows.plan import refuse_existing
from vmkit.workflows.start import boot

HOST_KEY_FILE = "/etc/ssh/ssh_host_ed25519_key.pub"

_PROBE_S = 15.0
_AGENT_S = 90.0  # a slow guest's agent comes up well after its sshd (seen: 40 s, emulated on a busy computer)
_AGENT_WATCHED_S = 15.0  # while somebody waits who can answer instead
_REFUSED_S = 10.0  # how long a guest that is still booting may turn us away
_PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Vouched:
    """A host key that is pinned now. `by`: the guest agent, --host-key, you, or (before) an earlier run."""

    fingerprint: str
    by: str


def adopt(
    plan: AdoptPlan,
    *,
    machines: MachineStore,
    driver: Driver,
    runner: Runner,
    report: Report,
    host_arch: str | None = None,
) -> Machine:
    """Make the machine of `plan` and let its hypervisor know it; it is not started. The source is only read.

    Raises WrongState (exists, busy), Refused, HostLacks (space, UTM), ToolFailed.
    """
    with machines.lock(plan.name, "adopt"):
        if machines.exists(plan.name):
            refuse_existing(plan.name, machines, held=True)
        host = host_arch or machine_arch()
        if plan.source.backend == "apple" and plan.source.arch != host:
            raise Refused(f"the guest is of {plan.source.arch}, and this Mac is of {host}: UTM would not start it")
        with report.phase("copy", f"making {plan.name}"):
            machine = _publish(plan, machines=machines, runner=runner)
        driver.add(machines.vm(machine))
        write_journal(machine.folder, Unfinished(operation="adopt", phase="host key not yet known"))
    return machine


def needs_adoption(machine: Machine) -> bool:
    """Tell whether `finish` has something to do: nobody has vouched for the host key, or our key is not in yet."""
    unfinished = read_journal(machine)
    return not is_pinned(machine.keys) or (unfinished is not None and unfinished.operation == "adopt")


def finish(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    agent: GuestAgent | None,
    report: Report,
    timeout_s: float,
    host_key: str | None = None,
    confirm: Callable[[str], bool] | None = None,
    patient: bool = False,
) -> Vouched:
    """Start the machine if need be, pin its host key, and see to it that our key is let in.

    The key is vouched for by the guest's agent, by `host_key` (a fingerprint), or by `confirm`, which shows one to
    somebody. `patient`: wait for the user to let our key in, rather than say how and end.

    Raises Refused (another key than was said, or nobody vouches), WrongState (our key is not let in), TimedOut, Busy.
    """
    deadline = Deadline(timeout_s)
    with machines.lock(machine.name, "adopt"):
        vm = machines.vm(machine)
        if read_journal(machine):
            driver.add(vm)
        if driver.state(vm) in (MachineState.STOPPED, MachineState.BROKEN, MachineState.PAUSED):
            boot(machine, machines=machines, driver=driver, report=report)
        with report.phase("host-key", f"waiting for the sshd of {machine.name}"), driver.recording(vm):
            address, offered = _await_offer(machine, machines=machines, driver=driver, deadline=deadline)
            told = None
            if not (host_key or is_pinned(machine.keys)):
                patience_s = _AGENT_WATCHED_S if confirm else _AGENT_S
                told = _told_by(agent, Deadline(min(patience_s, deadline.left_s)))
        vouched = _vouch(machine, offered, told=told, host_key=host_key, confirm=confirm)
        pin_host_key(machine.keys, offered)
        write_journal(machine.folder, Unfinished(operation="adopt", phase="vmkit's key is not let in yet"))
        with report.phase("login", f"logging in to {machine.name}"):
            within_s = _AGENT_S if told else _REFUSED_S  # an agent that spoke will act
            turned_away = Deadline(deadline.left_s if patient else min(within_s, deadline.left_s))
            _await_login(machine, address, agent=agent, report=report, end=turned_away, patient=patient)
        close_journal(machine)
    return vouched


def paste_command(public_line: str) -> str:
    """Return the line that lets a public key in when it is typed in a shell of the guest's user."""
    return (
        "mkdir -p ~/.ssh && chmod 700 ~/.ssh && "
        f"echo '{public_line}' >> ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys"
    )


def _publish(plan: AdoptPlan, *, machines: MachineStore, runner: Runner) -> Machine:
    paths, source = machines.paths, plan.source
    identity = plan.held.uuid if plan.held else str(uuid.uuid4()).upper()
    machine = Machine(
        name=plan.name,
        uuid=identity,
        driver=plan.driver,
        template="",
        image="",
        image_digest="",
        arch=source.arch,
        cpus=source.cpus or cpu_count(),
        memory_mib=source.memory_mib,
        disk_bytes=source.disk_bytes,
        user=plan.user,
        recipes=(),
        egress="open",
        options={},
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        folder=paths.machines / plan.name,
        backend=source.backend,
        system=source.system,
    )
    with staging(paths.staging) as folder:
        make_user_key(folder / "keys")
        bundle = Bundle(folder / machine.bundle.name)
        bundle.data.mkdir(mode=0o700, parents=True)
        if plan.foreign:
            adopted = render_adopted(
                plan.foreign, name=plan.name, identity=identity, cpus=cpu_count(), host_port=choose_port()
            )
            copy_files(adopted, bundle.data, runner=runner)
            write_atomically(bundle.config_plist, adopted.content)
        elif plan.held:
            bundle.write(plan.held.config)
        (folder / "machine.json").write_text(machine.to_json())
        write_journal(folder, Unfinished(operation="adopt", phase="made"))
        machines.publish(folder, plan.name)
    return machine


def _await_offer(
    machine: Machine, *, machines: MachineStore, driver: Driver, deadline: Deadline
) -> tuple[Address, str]:
    """Wait for an address and an sshd there; return what key it shows."""
    vm = machines.vm(machine)

    def ask(left_s: float) -> tuple[Address, str]:
        if driver.state(vm) == MachineState.STOPPED:
            raise ToolFailed("the machine stopped while it was adopted", hint=f"vmkit logs {machine.name}")
        address = driver.address(vm)
        return address, ask_host_key(address, timeout_s=max(1.0, min(_PROBE_S, left_s)))

    return until(
        ask,
        deadline=deadline,
        what=f'the sshd of "{machine.name}" did not answer',
        retry_on=(NoAddressYet, TransportFailed),
        every_s=_PAUSE_S,
    )


def _vouch(
    machine: Machine,
    offered: str,
    *,
    told: str | None,
    host_key: str | None,
    confirm: Callable[[str], bool] | None,
) -> Vouched:
    """Compare the key that the network shows with what is known by another way. Raises Refused."""
    shown = fingerprint(offered)
    if host_key is not None and host_key != shown:
        raise _other_key(machine, expected=host_key, shown=shown)
    if is_pinned(machine.keys):
        pinned = fingerprint(load_keys(machine.keys).host_public)
        if pinned != shown:
            raise _other_key(machine, expected=pinned, shown=shown)
        return Vouched(fingerprint=shown, by="an earlier run")
    if told is not None:
        if told != offered:
            raise _other_key(machine, expected=fingerprint(told), shown=shown)
        return Vouched(fingerprint=shown, by="the guest agent")
    if host_key is not None:
        return Vouched(fingerprint=shown, by="--host-key")
    if confirm is not None and confirm(shown):
        return Vouched(fingerprint=shown, by="you")
    raise Refused(
        f'nobody vouches for the host key of "{machine.name}"',
        detail=f"its sshd shows {shown}\nin the guest: ssh-keygen -lf {HOST_KEY_FILE}",
        hint=f"vmkit adopt {machine.name} --host-key SHA256:… with what the guest's own screen shows",
    )


def _told_by(agent: GuestAgent | None, deadline: Deadline) -> str | None:
    """Return the host key by the agent's word: no network lies between it and us."""
    while agent is not None:
        words = (agent.read_file(HOST_KEY_FILE) or b"").decode("ascii", "replace").split()
        if len(words) >= 2 and words[0] == "ssh-ed25519":
            try:
                fingerprint(" ".join(words[:2]))
            except ValueError:
                return None
            return " ".join(words[:2])
        if deadline.passed:
            return None
        time.sleep(_PAUSE_S)
    return None


def _other_key(machine: Machine, *, expected: str, shown: str) -> Refused:
    return Refused(
        f'what answers as "{machine.name}" has another host key',
        detail=f"expected {printable(expected, max_chars=80)}\ngot      {shown}",
        hint=f"nothing was sent. In the guest: ssh-keygen -lf {HOST_KEY_FILE}",
    )


def _await_login(
    machine: Machine,
    address: Address,
    *,
    agent: GuestAgent | None,
    report: Report,
    end: Deadline,
    patient: bool,
) -> None:
    from vmkit.guest.transport import LoginRefused  # noqa: PLC0415  # paramiko

    keys = load_keys(machine.keys)
    shown = False
    while True:
        try:
            guest = connect(
                address, user=machine.user, key=keys.user_key, host_key=keys.host_public, timeout_s=_PROBE_S
            )
        except LoginRefused:
            if agent is not None:
                agent.authorize(machine.user, keys.user_public)
        except TransportFailed:
            if end.passed:
                raise
        else:
            with guest, contextlib.suppress(VmkitError):
                guest.run(Command("sync"), timeout_s=_PROBE_S)  # lest a pulled plug shut us out again
            return
        if patient and not shown:
            report.note(f"in the guest, as {machine.user}, type: {paste_command(keys.user_public)}")
            shown = True
        if end.passed:
            raise WrongState(
                f'the guest of "{machine.name}" does not let vmkit in as "{machine.user}" yet',
                detail=f"in the guest, as {machine.user}, type:\n{paste_command(keys.user_public)}",
                hint=f"then: vmkit adopt {machine.name}",
            )
        time.sleep(_PAUSE_S)
