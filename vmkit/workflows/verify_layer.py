"""Try what a program can do behind one wall: none, srt or a container in the guest, or the machine itself."""

import contextlib
import hashlib
import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmkit.errors import WrongState
from vmkit.guest.base import Command, Guest
from vmkit.host.files import read_bounded
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.machines.model import Machine
from vmkit.network.layer_probes import MAX_ANSWER_BYTES, Answer, Side, judge_side, read_reply
from vmkit.network.probes import GATEWAY
from vmkit.network.selftest import own_addresses
from vmkit.workflows.layer import Layer
from vmkit.workflows.layers import in_folder, in_layer

_PROBES_S = 600.0
_CANARY_S = 60.0
_MAX_PROGRAM = 256 << 10
_VARIABLE = "GITHUB_TOKEN"  # one that srt's settings take out of the environment


@dataclass(frozen=True, kw_only=True)
class SideVerdict:
    """What one wall showed."""

    machine: str
    side: Side
    answers: tuple[Answer, ...]

    @property
    def passed(self) -> bool:
        """Whether every answer is as it should be."""
        return all(answer.passed for answer in self.answers)

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "machine": self.machine,
            "layer": self.side.value,
            "passed": self.passed,
            "probes": [answer.to_json() for answer in self.answers],
        }


def layer_of(side: Side) -> Layer:
    """Return the layer that a program of this side runs behind; the machine is around it anyway."""
    return Layer.NONE if side is Side.MACHINE else Layer(side.value)


def verify_side(side: Side, machine: Machine, *, guest: Guest, runner: Runner, report: Report) -> SideVerdict:
    """Place keys, a file, a process and a listener on the computer that the wall protects, and try to get at them.

    For the machine that is this computer, else the guest. The layer has to be there. Raises WrongState (no Linux
    guest), CommandFailed, Refused (an answer that is none), TransportFailed.
    """
    if machine.system != "linux":
        raise WrongState(f'machine "{machine.name}" is not a Linux guest')
    token, secret = "v" + secrets.token_hex(6), secrets.token_hex(16)
    outside = _OnHost(runner) if side is Side.MACHINE else _InGuest(guest)
    about = {"token": token, "secret": secret, "in_ssh": side is not Side.MACHINE}
    with report.phase(side.value, f"Trying the wall: {side}"), _canary(outside, about) as placed:
        plan = {
            **placed,
            "token": token,
            "secret_sha256": hashlib.sha256(secret.encode()).hexdigest(),
            "hosts": ["127.0.0.1", GATEWAY, *own_addresses()] if side is Side.MACHINE else ["127.0.0.1"],
            "unlisted": f"{token}.example.com",
            "source": _program("layer_probe.py"),
        }
        reply = _try(side, plan, machine=machine, guest=guest, secret=secret, token=token)
        witness = outside.run({**about, "do": "report"})
    return SideVerdict(machine=machine.name, side=side, answers=tuple(judge_side(side, reply, witness, token=token)))


@contextlib.contextmanager
def scratch(guest: Guest, token: str) -> Iterator[Path]:
    """Give a folder of the guest that is nobody's workspace."""
    made = guest.run(Command("sh", "-c", 'mkdir "$HOME/vmkit-$1" && cd "$HOME/vmkit-$1" && pwd', "sh", token))
    folder = Path(made.text.strip())
    try:
        yield folder
    finally:
        guest.run(Command("sh", "-c", 'rm -rf "$HOME/vmkit-$1"', "sh", token), check=False)


def _try(
    side: Side, plan: Mapping[str, Any], *, machine: Machine, guest: Guest, secret: str, token: str
) -> Mapping[str, Any]:
    with scratch(guest, token) as workspace:
        words = in_layer(layer_of(side), ["python3", "-I", "-"], machine=machine, guest=guest, workspace=workspace)
        if side is not Side.MACHINE:
            words = ["env", f"{_VARIABLE}={secret}", *words]
        done = guest.run(
            Command(*in_folder(words, workspace)),
            stdin=_with_plan(plan, "layer_probe.py"),
            timeout_s=_PROBES_S,
            max_bytes=MAX_ANSWER_BYTES,
        )
    return read_reply(done.stdout, what="the probes")


class _OnHost:
    """Places canaries on this computer."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def run(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        words = [sys.executable, "-I", "-", str(plan["token"])]
        home = {"HOME": str(Path.home())}
        done = self._runner.run(words, stdin=_with_plan(plan, "layer_canary.py"), timeout_s=_CANARY_S, env=home)
        return read_reply(done.stdout, what="the canary")


class _InGuest:
    """Places canaries in the guest, outside the layer."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def run(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        words = Command("python3", "-I", "-", str(plan["token"]))
        done = self._guest.run(
            words, stdin=_with_plan(plan, "layer_canary.py"), timeout_s=_CANARY_S, max_bytes=MAX_ANSWER_BYTES
        )
        return read_reply(done.stdout, what="the canary")


@contextlib.contextmanager
def _canary(outside: _OnHost | _InGuest, about: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    try:
        yield outside.run({**about, "do": "start"})
    finally:
        outside.run({**about, "do": "stop"})


def _program(name: str) -> str:
    return read_bounded(data_folder("network") / name, max_bytes=_MAX_PROGRAM).decode()


def _with_plan(plan: Mapping[str, Any], name: str) -> bytes:
    return f"PLAN = {json.dumps(plan)!r}\n{_program(name)}".encode()
