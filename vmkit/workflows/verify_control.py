"""Show that the probes can see: run them where every door is open, in a network namespace on this computer."""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vmkit.errors import Refused, VmkitError
from vmkit.host.computer import has_namespaces
from vmkit.host.files import read_bounded
from vmkit.host.process import Runner
from vmkit.host.resources import data_folder
from vmkit.host.text import printable
from vmkit.network.judged import in_control, parse_answers
from vmkit.network.probes import Probe
from vmkit.network.traces import Known

PROBE_S = 4.0  # how long one probe waits for an answer
_CONTROL_S = 90.0
_MAX_PROGRAM = 256 << 10
_NAMESPACES = ("--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_CANARY = ("VMKIT_SELFTEST", "this computer's own environment")
_SECRET_PATH = "/home/vmkit-selftest/machines/control"  # noqa: S105  # a path that the control's firmware tells


@dataclass(frozen=True, kw_only=True)
class Control:
    """What the control showed, by probe: True saw its open door, False did not, None could not be asked."""

    shown: bool
    reason: str | None = None  # why it was not shown at all
    saw: dict[str, bool | None] = field(default_factory=dict)

    @property
    def broken(self) -> tuple[str, ...]:
        """The probes that saw nothing where a door was open."""
        return tuple(name for name, saw in self.saw.items() if saw is False)

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {"shown": self.shown, "reason": self.reason, "broken": list(self.broken)}


def plan_of(probes: Sequence[Probe], *, door: int, gateway: str) -> dict[str, Any]:
    """Return what the probe program is told."""
    tasks = [{"id": probe.id, **probe.task} for probe in probes if probe.task]
    return {"seconds": PROBE_S, "door": door, "gateway": gateway, "tasks": tasks}


def program() -> str:
    """Return the text of the probe program."""
    return read_bounded(data_folder("network") / "probe.py", max_bytes=_MAX_PROGRAM).decode()


def run_control(probes: Sequence[Probe], *, plan: dict[str, Any], runner: Runner) -> Control:
    """Run the probes where all of them have to see an open door. Never raises: what cannot be shown says why."""
    if not has_namespaces():
        return Control(shown=False, reason="this computer has no network namespaces (Linux has)")
    with tempfile.TemporaryDirectory(prefix="vmkit-control-") as folder:
        given = {"program": program(), "plan": plan, "folder": folder, "text": _SECRET_PATH}
        script = str(data_folder("network") / "control.py")
        argv = ["unshare", *_NAMESPACES, "--", sys.executable, "-I", script]
        try:
            done = runner.run(
                argv, stdin=json.dumps(given).encode(), env=dict([_CANARY]), timeout_s=_CONTROL_S, ok_codes=(0,)
            )
            return _shown(probes, done.stdout, door=plan["door"])
        except (VmkitError, OSError) as error:
            said = error.detail.splitlines()[-1] if isinstance(error, VmkitError) and error.detail else ""
            return Control(shown=False, reason=printable(f"{error}: {said}" if said else str(error), max_chars=300))


def _shown(probes: Sequence[Probe], content: bytes, *, door: int) -> Control:
    asked = [probe for probe in probes if probe.task]
    answers = parse_answers(content, asked={probe.id for probe in asked})
    unable = json.loads(content).get("unable", {})
    if not isinstance(unable, dict):
        raise Refused("the control says nothing of what it could not build")
    known = Known(environment=dict([_CANARY]), paths=(_SECRET_PATH,), door_port=door)
    saw = {probe.id: None if probe.id in unable else in_control(probe, answers, known) for probe in asked}
    return Control(shown=True, saw=saw)
