"""What only this computer can see of a machine's walls. Each look is first shown a door of our own that is open."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from vmkit.drivers.base import Address
from vmkit.errors import Refused
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.broad import refuse_broad
from vmkit.network.judged import Finding, Observed
from vmkit.network.policy import Policy
from vmkit.network.probes import Probe
from vmkit.network.walls import Wall
from vmkit.workflows.net import log_path
from vmkit.workflows.verify_doors import Doors, answering, open_to_others

_FORWARD = Probe(id="forward-address", wall=Wall.FORWARD, tries="the forwarded port at other addresses than loopback")
_MODES = Probe(id="modes", wall=Wall.FILES, tries="modes and owners")
_RULES = Probe(id="policy-rules", wall=Wall.BROAD, tries="every rule of the policy")
_BY_CARD = Probe(id="host-listeners", wall=Wall.CARD, tries="who came to this computer's own listeners")
_BY_PROXY = Probe(id="proxied-listeners", wall=Wall.ADDRESSES, tries="where the proxy connected to on this computer")
_EVERYWHERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "")  # noqa: S104  # as a bundle may say it
_TOO_BROAD = "*.amazonaws.com"


def listeners(doors: Doors) -> list[Finding]:
    """Say who came to the listeners of this run: no guest's word is needed for that, and none helps."""
    found = []
    for probe, port in ((_BY_CARD, doors.direct_port), (_BY_PROXY, doors.proxied_port)):
        came = doors.arrivals(port)
        answering(["127.0.0.1"], port)
        found.append(_looked(probe, [came] if came else [], nothing="nobody", proved=doors.arrived_within(port)))
    return found


def forward(address: Address, doors: Doors) -> list[Finding]:
    """Knock at the forwarded port from this computer's other addresses; a guest with an address of its own has none."""
    if address.host not in _EVERYWHERE:
        return []
    if not doors.others:
        return [_looked(_FORWARD, [], nothing="this computer has no other address now", proved=None)]
    proved = bool(answering(doors.others, doors.direct_port))
    faults = [f"it answers at {place}" for place in answering(doors.others, address.port)]
    return [_looked(_FORWARD, faults, nothing=f"closed at {', '.join(doors.others)}", proved=proved)]


def modes(machine: Machine, *, machines: MachineStore) -> Finding:
    """Look whether other users could read keys, enter the sockets' folder, or change policy and log."""
    log = log_path(machine)
    faults = open_to_others(
        folders=[machines.paths.sockets(machine.uuid)],
        private=[path for path in machine.keys.glob("*") if path.suffix != ".pub"],
        own=[machine.folder, machine.policy, log, log.with_name(log.name + ".1")],
    )
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "sample"
        sample.touch()
        sample.chmod(0o644)
        sees = any(open_to_others(folders=[], private=[sample], own=[]))
    return _looked(_MODES, list(faults), nothing="all are yours alone", proved=sees)


def rules(policy: Policy | None, too_broad: str | None, *, now: float) -> Finding:
    """Judge every rule of the policy anew; `too_broad`: why it could not even be read."""
    faults = [too_broad] if too_broad else []
    live = [rule for rule in policy.rules if rule.is_live(now)] if policy else []
    faults += [fault for rule in live if (fault := _why_broad(rule.host))]
    return _looked(_RULES, faults, nothing=f"{len(live)} rules", proved=_why_broad(_TOO_BROAD) is not None)


def _why_broad(host: str) -> str | None:
    try:
        refuse_broad(host)
    except Refused as refused:
        return f"{refused.message}: {refused.detail}"
    return None


def _looked(probe: Probe, faults: Sequence[str], *, nothing: str, proved: bool | None) -> Finding:
    observed = Observed.OPEN if faults else Observed.CLOSED
    return Finding(probe=probe, observed=observed, evidence="; ".join(faults[:5]) or nothing, proved=proved)
