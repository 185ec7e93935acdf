"""`vmkit compare`: the rows that answers come to, and the table as text, Markdown and a picture."""

import dataclasses
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.unit.machines.test_model import MACHINE
from vmkit.cli import main
from vmkit.cli.compare_view import header, lines, markdown, svg
from vmkit.host.paths import Paths
from vmkit.machines.store import MachineStore
from vmkit.network.layer_probes import QUESTIONS, Answer, Seen, Side
from vmkit.workflows.compare import Cell, Column, Comparison, answer_rows, boundary_row, cost_rows
from vmkit.workflows.verify_layer import SideVerdict


def column(side: Side, seen: Seen, **others: Seen) -> Column:
    answers = tuple(
        Answer(question=one, side=side, seen=others.get(one.id.replace("-", "_"), seen), evidence="<so> | it is")
        for one in QUESTIONS
    )
    costs = dict.fromkeys(("start-up time", "memory", "disk"), Cell(text="1", value=1.0))
    return Column(verdict=SideVerdict(machine="kiro-vm", side=side, answers=answers), costs=costs)


def table(columns: dict[Side, Column]) -> Comparison:
    return Comparison(machine="kiro-vm", rows=(boundary_row(columns), *answer_rows(columns), *cost_rows(columns)))


COLUMNS = {
    Side.NONE: column(Side.NONE, Seen.OPEN),
    Side.SRT: column(Side.SRT, Seen.CLOSED, same_kernel=Seen.OPEN),
    Side.CONTAINER: column(Side.CONTAINER, Seen.UNKNOWN, same_kernel=Seen.OPEN),
    Side.MACHINE: column(Side.MACHINE, Seen.CLOSED),
}
TABLE = table(COLUMNS)


def test_the_boundary_is_told_from_what_was_seen() -> None:
    cells = boundary_row(COLUMNS).cells

    assert [cells[side].text for side in Side] == [
        "none", "inside the kernel, around one program", "not shown: see-process, write-outside gave no answer",
        "around a computer of its own",
    ]  # fmt: skip


def test_a_wall_that_could_not_be_laid_says_so_in_every_row() -> None:
    rows = table({**COLUMNS, Side.SRT: Column(why_not="npm does not answer")}).rows

    assert {row.cells[Side.SRT] for row in rows} == {Cell(text="not measured: npm does not answer", value=None)}
    assert rows[1].cells[Side.NONE].text == "yes"


def test_every_cell_is_a_measurement_or_says_why_not() -> None:
    for row in TABLE.rows:
        for cell in row.cells.values():
            assert cell.text
            assert cell.value is not None or cell.text.startswith("not ")


def test_a_dimension_is_named_once_and_every_row_has_every_wall() -> None:
    found = lines(TABLE)

    named = [row[0] for row in found if row[0]]
    assert len(named) == len(set(named))
    assert {len(row) for row in found} == {len(header())}


def test_markdown_and_picture_hold_what_a_guest_says_as_text() -> None:
    text, picture = markdown(TABLE), svg(TABLE)

    assert all(line.count(" | ") == len(header()) - 1 for line in text.splitlines())
    texts = [found.text for found in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]  # ours
    assert "dimension" in texts
    assert "yes" in texts


def test_json_has_evidence_for_every_cell() -> None:
    data = TABLE.to_json()

    assert data["walls"] == ["none", "srt", "container", "machine"]
    assert '"<so> | it is"' in repr(data).replace("'", '"')


@pytest.mark.parametrize(("words", "code"), [(("compare", "nobody"), 3), (("compare", "--svg", "{there}"), 2)])
def test_exit_codes(words: tuple[str, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMKIT_HOME", str(tmp_path))
    machine = dataclasses.replace(MACHINE, name="kiro-vm", folder=tmp_path / "machines" / "kiro-vm")
    machine.folder.mkdir(parents=True)
    MachineStore(Paths(config=tmp_path, data=tmp_path, cache=tmp_path / "cache")).save(machine)
    (tmp_path / "there.svg").touch()

    with pytest.raises(SystemExit) as ended:
        main([word.replace("{there}", str(tmp_path / "there.svg")) for word in words])

    assert ended.value.code == code
