"""Propose the smallest policy for what was refused: exact hosts only, with a remark on each that is broad."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vmkit.network.broad import remark_on
from vmkit.network.history import Entry, refused_names
from vmkit.network.policy import Policy, render_rule
from vmkit.network.rules import Rule

MAX_PROPOSED = 100  # a guest can ask for as many names as it likes; nobody reviews more


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """One rule that would allow what was refused."""

    rule: Rule
    times: int
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "host": self.rule.host,
            "ports": list(self.rule.ports),
            "times": self.times,
            "remarks": list(self.remarks),
        }

    def to_toml(self) -> str:
        """Return an `[[allow]]` table for the policy file, its remarks as comments."""
        often = "refused once" if self.times == 1 else f"refused {self.times} times"
        comments = "".join(f"# {remark}\n" for remark in (often, *self.remarks))
        return f"{comments}{render_rule(self.rule)}\n"


def propose(
    entries: Iterable[Entry], *, policy: Policy, groups: Mapping[str, tuple[Rule, ...]], now: float
) -> tuple[list[Proposed], int]:
    """Return what to allow, most refused first, and how many names were left out.

    What the policy allows by now is not proposed: it was refused for another reason, such as a private address.
    """
    counts: dict[str, dict[int, int]] = {}
    for (host, port), times in refused_names(entries).items():
        if not policy.decide(host, port, now=now).allowed:
            counts.setdefault(host, {})[port] = times
    ranked = sorted(counts, key=lambda host: (-sum(counts[host].values()), host))
    proposed = [_proposed(host, counts[host], groups) for host in ranked[:MAX_PROPOSED]]
    return proposed, len(ranked) - len(proposed)


def _proposed(host: str, ports: Mapping[int, int], groups: Mapping[str, tuple[Rule, ...]]) -> Proposed:
    remarks = [f'group "{name}" has it' for name, rules in groups.items() if any(rule.host == host for rule in rules)]
    broad = remark_on(host)
    if broad:
        remarks.append(f"broad: {broad}")
    if 80 in ports:
        remarks.append("port 80 is plain HTTP: anybody on the way can read and change what comes")
    rule = Rule(host=host, ports=tuple(sorted(ports)), added_by="learn")
    return Proposed(rule=rule, times=sum(ports.values()), remarks=tuple(remarks))
