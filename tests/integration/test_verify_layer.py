"""The probes of `vmkit verify --layer`, behind no wall and behind the real srt, on this computer in place of a guest."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.machines.test_model import MACHINE
from tests.unit.recipes.here import HereGuest, make_guest
from vmkit.errors import Refused, WrongState
from vmkit.guest.base import Command, Outcome
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.machines.model import Machine
from vmkit.network.layer_probes import Seen, Side
from vmkit.workflows.verify_layer import SideVerdict, verify_side

SETTINGS = "/run/vmkit/srt/settings.json"
NEEDED = ("srt", "bwrap", "socat", "rg")


class Here:
    """A guest that finds srt where it is on this computer, and keeps its settings in a folder of its own."""

    def __init__(self, guest: HereGuest) -> None:
        self.guest = guest

    def run(self, command: Command, **options: object) -> Outcome:
        places = {"/usr/local/bin/srt": shutil.which("srt") or "srt", SETTINGS: f"{self.guest.root}/settings.json"}
        words = [places.get(str(word), str(word)) for word in command.words]
        done: Outcome = self.guest.run(Command(*words), **options)  # type: ignore[arg-type]
        return done


@pytest.fixture
def guest() -> Iterator[HereGuest]:
    if missing := [tool for tool in ("setpriv", "git", "sha256sum") if not shutil.which(tool)]:
        pytest.skip(f"a guest's own tools are missing here: {', '.join(missing)}")
    made = make_guest()
    yield made
    shutil.rmtree(made.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return dataclasses.replace(MACHINE, folder=tmp_path, egress="open")


def tried(side: Side, guest: HereGuest, machine: Machine) -> dict[str, Seen]:
    verdict: SideVerdict = verify_side(side, machine, guest=Here(guest), runner=Runner(), report=Silent())  # type: ignore[arg-type]
    return {answer.question.id: answer.seen for answer in verdict.answers}


def test_behind_no_wall_the_probes_see_open_doors_and_leave_nothing(guest: HereGuest, machine: Machine) -> None:
    seen = tried(Side.NONE, guest, machine)

    for name in (
        "write-workspace", "write-outside", "read-key", "read-other", "see-process", "signal-process", "same-kernel",
        "root", "net-direct", "variable", "works-cache", "works-unix-socket",
    ):  # fmt: skip
        assert seen[name] is Seen.OPEN, name
    left = [path for path in guest.home.rglob("*") if path.is_file() and path.suffix != ".log"]
    assert left == []
    token = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(guest.root).encode() in path.read_bytes()]
    assert token == []


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)} (npm, apt)")
def test_behind_srt_they_are_closed(guest: HereGuest, machine: Machine) -> None:
    (guest.root / "bin" / "sudo").write_text('#!/bin/sh\nshift\ntouch "$HOME/.sudo" && exec "$@"\n')
    (guest.root / "bin" / "sudo").chmod(0o755)

    seen = tried(Side.SRT, guest, machine)

    for name in (
        "write-outside", "read-key", "see-process", "signal-process", "root", "kernel-module",
        "kernel-namespace", "net-direct", "net-proxy", "net-unlisted", "variable", "works-unix-socket",
    ):  # fmt: skip
        assert seen[name] is Seen.CLOSED, name
    assert seen["write-workspace"] is Seen.OPEN
    assert seen["read-other"] is Seen.OPEN  # srt's reading is a list of what not to read
    assert seen["same-kernel"] is Seen.OPEN


def test_a_guest_without_layers_is_a_wrong_state_and_no_answer_is_refused(guest: HereGuest, machine: Machine) -> None:
    with pytest.raises(WrongState):
        verify_side(
            Side.NONE, dataclasses.replace(machine, system="macos"), guest=guest, runner=Runner(), report=Silent()
        )

    (guest.root / "bin" / "python3").write_text("#!/bin/sh\necho hello\n")
    (guest.root / "bin" / "python3").chmod(0o755)
    with pytest.raises(Refused, match="canary"):
        tried(Side.NONE, guest, machine)
