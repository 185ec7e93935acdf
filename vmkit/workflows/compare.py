"""Compare the walls that a program can be put behind, by what they do on this computer: every cell is measured."""

import contextlib
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import Refused, VmkitError
from vmkit.guest.base import Command, CommandFailed, Guest
from vmkit.host.files import read_bounded
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.network.layer_probes import QUESTIONS, Dimension, Seen, Side
from vmkit.workflows.layer import Layer
from vmkit.workflows.layers import in_folder, in_layer, require_layer
from vmkit.workflows.reach import reach
from vmkit.workflows.start import start
from vmkit.workflows.verify_layer import SideVerdict, layer_of, scratch, verify_side

_RUNS = 3
_COST_S = 300.0
_KIB = re.compile(r"\d{1,12}", re.ASCII)
_FOLDERS = {
    Layer.SRT: ("/usr/local/lib/vmkit/srt",),
    Layer.CONTAINER: ("/usr/local/lib/vmkit/container", "~/.local/share/vmkit-container", "~/.local/share/containers"),
}
_LAID = (Side.SRT, Side.CONTAINER)  # what can fail to be laid: the table is made without them
_YES_NO = {Seen.OPEN: "yes", Seen.CLOSED: "no"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One wall's answer to one row. `value`: True and False are yes and no; None: not measured, `text` says why."""

    text: str
    value: bool | float | None
    evidence: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table."""

    dimension: str
    text: str
    cells: Mapping[Side, Cell]

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "dimension": self.dimension,
            "text": self.text,
            "cells": {
                side.value: {"text": cell.text, "value": cell.value, "evidence": cell.evidence}
                for side, cell in self.cells.items()
            },
        }


@dataclass(frozen=True, kw_only=True)
class Column:
    """What one wall showed and cost. Without a verdict it could not be tried, and `why_not` says why."""

    verdict: SideVerdict | None = None
    costs: Mapping[str, Cell] = field(default_factory=dict)
    why_not: str = ""

    @property
    def missing(self) -> Cell:
        """What stands in every row of a wall that could not be tried."""
        return Cell(text=f"not measured: {self.why_not}", value=None)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The whole table."""

    machine: str
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "machine": self.machine,
            "walls": [side.value for side in Side],
            "rows": [r.to_json() for r in self.rows],
        }


def compare(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    runner: Runner,
    report: Report,
    clock: Callable[[], float] = time.monotonic,
) -> Comparison:
    """Put the same program behind every wall. A machine that is stopped is started, and its start is timed.

    What cannot be measured says why, a layer that cannot be laid too. Raises WrongState, TransportFailed.
    """
    booted = _boot(machine, machines=machines, driver=driver, report=report, clock=clock)
    columns: dict[Side, Column] = {}
    for side in _LAID:
        try:
            require_layer(layer_of(side), machine, machines=machines, driver=driver, report=report)
        except VmkitError as error:
            columns[side] = _left_out(side, error, report)
    with reach(machine, machines=machines, driver=driver) as guest:
        for side in (side for side in Side if side not in columns):
            try:
                verdict = verify_side(side, machine, guest=guest, runner=runner, report=report)
                with report.phase(f"{side} cost", f"Measuring what it costs: {side}"):
                    if side is Side.MACHINE:
                        costs = _machine_costs(machine, booted, machines=machines, driver=driver, runner=runner)
                    else:
                        costs = _layer_costs(side, machine, guest=guest, clock=clock)
                columns[side] = Column(verdict=verdict, costs=costs)
            except (CommandFailed, Refused) as error:
                if side not in _LAID:
                    raise
                columns[side] = _left_out(side, error, report)
    columns = {side: columns[side] for side in Side}
    return Comparison(machine=machine.name, rows=(boundary_row(columns), *answer_rows(columns), *cost_rows(columns)))


def _left_out(side: Side, error: VmkitError, report: Report) -> Column:
    report.note(f"{side} is left out: {error.message}")
    return Column(why_not=error.message)


def _boot(
    machine: Machine, *, machines: MachineStore, driver: Driver, report: Report, clock: Callable[[], float]
) -> float | None:
    if driver.state(machines.vm(machine)) is not MachineState.STOPPED:
        return None
    begun = clock()
    start(machine, machines=machines, driver=driver, report=report)
    return clock() - begun


def boundary_row(columns: Mapping[Side, Column]) -> Row:
    """Say where the boundary is, from what was seen: a kernel of its own, or which of the kernel's walls hold."""
    cells = {side: _boundary(column.verdict) if column.verdict else column.missing for side, column in columns.items()}
    return Row(dimension="isolation boundary", text="where it is", cells=cells)


def _boundary(verdict: SideVerdict) -> Cell:
    seen = {answer.question.id: answer.seen for answer in verdict.answers}
    asked = {name: seen[name] for name in ("same-kernel", "see-process", "write-outside")}
    closed = {
        answer.question.dimension.value
        for answer in verdict.answers
        if answer.seen is Seen.CLOSED and answer.question.dimension is not Dimension.FRICTION
    }
    if asked["same-kernel"] is Seen.CLOSED:
        text, value = "around a computer of its own", True
    elif unknown := [name for name, one in asked.items() if one is Seen.UNKNOWN]:
        return Cell(text=f"not shown: {', '.join(unknown)} gave no answer", value=None)
    elif asked["see-process"] is asked["write-outside"] is Seen.CLOSED:
        text, value = "inside the kernel, around one program", True
    else:
        text, value = "none", False
    return Cell(text=text, value=value, evidence=f"something is closed in: {', '.join(sorted(closed)) or 'nothing'}")


def answer_rows(columns: Mapping[Side, Column]) -> list[Row]:
    """Return a row of yes and no for each question."""
    rows = []
    for at, question in enumerate(QUESTIONS):
        cells = {}
        for side, column in columns.items():
            if not column.verdict:
                cells[side] = column.missing
                continue
            one = column.verdict.answers[at]
            value = None if one.seen is Seen.UNKNOWN else one.seen is Seen.OPEN
            text = _YES_NO.get(one.seen, f"not shown: {one.evidence}")
            cells[side] = Cell(text=text, value=value, evidence=one.evidence)
        rows.append(Row(dimension=question.dimension.value, text=question.text, cells=cells))
    return rows


def cost_rows(columns: Mapping[Side, Column]) -> list[Row]:
    """Return a row for each thing that a wall costs."""
    texts = {"start-up time": "of a program that does nothing", "memory": "of all that runs for it", "disk": "taken"}
    return [
        Row(
            dimension=name,
            text=text,
            cells={side: column.costs.get(name, column.missing) for side, column in columns.items()},
        )
        for name, text in texts.items()
    ]


def _layer_costs(side: Side, machine: Machine, *, guest: Guest, clock: Callable[[], float]) -> dict[str, Cell]:
    layer = layer_of(side)
    with scratch(guest, "compare") as workspace:

        def laid(*words: str) -> Sequence[str]:
            return in_layer(layer, words, machine=machine, guest=guest, workspace=workspace)

        seconds = []
        nothing = Command(*in_folder(laid("true"), workspace))
        for _ in range(_RUNS):
            begun = clock()
            guest.run(nothing, timeout_s=_COST_S)
            seconds.append(clock() - begun)
        memory = _kib(guest, "memory", str(workspace), *laid("sleep", "86399"))
    middle = statistics.median(seconds)
    home = guest.run(Command("sh", "-c", 'printf %s "$HOME"')).text
    folders = [folder.replace("~", home) for folder in _FOLDERS.get(layer, ())]
    disk = Cell(text="0", value=0.0) if layer is Layer.NONE else _kib(guest, "disk", layer.value, *folders)
    runs = f"median of {_RUNS} from {min(seconds):.2f} to {max(seconds):.2f} s, over vmkit's connection"
    return {
        "start-up time": Cell(text=f"{middle:.2f} s", value=round(middle, 3), evidence=runs),
        "memory": memory,
        "disk": disk,
    }


def _kib(guest: Guest, *words: str) -> Cell:
    """Return what the script measures in the guest, in MiB."""
    program = read_bounded(data_folder("network") / "layer_cost.sh", max_bytes=64 << 10)
    try:
        done = guest.run(Command("sh", "-s", "--", *words), stdin=program, timeout_s=_COST_S)
    except VmkitError as error:
        return Cell(text=f"not measured: {error.message}", value=None)
    found = _KIB.fullmatch(done.text.strip())
    if not found:
        return Cell(text="not measured: the guest gave no number", value=None)
    mib = int(found[0]) / 1024
    return Cell(text=f"{mib:.0f} MiB", value=round(mib, 1))


def _machine_costs(
    machine: Machine, booted: float | None, *, machines: MachineStore, driver: Driver, runner: Runner
) -> dict[str, Cell]:
    vm = machines.vm(machine)
    begun = Cell(text="not measured: it was running; stop it first, and it is started and timed", value=None)
    if booted is not None:
        begun = Cell(text=f"{booted:.1f} s", value=round(booted, 1), evidence="vmkit start, until SSH answers; one run")
    memory = Cell(text="not measured: its driver does not name its process", value=None)
    process = driver.facts(vm).get("process", "")
    if process.isdecimal():
        with contextlib.suppress(VmkitError):
            said = runner.run(["ps", "-o", "rss=", "-p", process]).stdout.strip()
            mib = int(said) / 1024
            memory = Cell(
                text=f"{mib:.0f} MiB", value=round(mib, 1), evidence=f"of {machine.memory_mib} MiB it may take"
            )
    blocks = sum(path.lstat().st_blocks for path in _files(machine.folder))
    disk = Cell(
        text=f"{blocks / 2048:.0f} MiB", value=round(blocks / 2048, 1), evidence="its own files, without the image's"
    )
    return {"start-up time": begun, "memory": memory, "disk": disk}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
