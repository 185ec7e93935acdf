"""Turn the settings of srt, the Sandbox Runtime, into a machine's policy."""

from dataclasses import dataclass
from pathlib import Path

from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.policy import Mode, Policy, render_policy
from vmkit.network.rules import Rule
from vmkit.network.srt import Remark, read_srt
from vmkit.workflows.net import Changed, Notify, take_over


@dataclass(frozen=True, kw_only=True)
class PolicyImport:
    """What a file's settings come to, and what a machine's policy became by them."""

    source: Path
    policy: Policy
    remarks: tuple[Remark, ...]  # on all that was not taken over, or is broader than it looks
    changed: Changed | None  # None: nothing was asked to change
    narrow: tuple[Rule, ...] = ()  # proposed in place of wildcards

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "source": str(self.source),
            "policy": {
                "mode": str(self.policy.mode),
                "rules": [rule.to_json() for rule in self.policy.rules],
                "denied": list(self.policy.denied),
            },
            "remarks": [{"name": remark.name, "text": remark.text} for remark in self.remarks],
            "proposed": [rule.to_json() for rule in self.narrow],
            "changed": self.changed.to_json() if self.changed else None,
        }

    def to_toml(self) -> str:
        """Return a policy file, each remark a comment at its head, and what is proposed a comment at its end."""
        comments = "".join(f"# {remark.name}\n#     {remark.text}\n" for remark in self.remarks)
        return comments + render_policy(self.policy) + self._proposal()

    def _proposal(self) -> str:
        groups = dict.fromkeys(rule.group for rule in self.narrow)
        lines = ["", "# In place of the wildcards, the hosts below them that vmkit knows; allow a group, or one host:"]
        for group in groups:
            lines += [f"# vmkit net allow NAME {group}"]
            lines += [f"#     {rule.target}" for rule in self.narrow if rule.group == group]
        return "\n".join([*lines, ""]) if groups else ""


def import_srt(
    source: Path, *, into: Machine | None, machines: MachineStore, notify: Notify | None = None
) -> PolicyImport:
    """Read srt's settings, and change the policy of `into` by what fits; what is too broad is never taken over.

    Raises NotFound, UsageError, Refused (too large, or a wider deny of the machine), WrongState.
    """
    imported = read_srt(source)
    policy = Policy(mode=Mode.STRICT, rules=imported.rules, denied=imported.denied)
    changed = take_over(into, policy, machines=machines, notify=notify) if into else None
    return PolicyImport(source=source, policy=policy, remarks=imported.remarks, changed=changed, narrow=imported.narrow)
