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
from vmkit.workflows.compare import Cell, Comparison, Row, answer_rows, boundary_row
from vmkit.workflows.verify_layer import SideVerdict


def verdict(side: Side, seen: Seen, **others: Seen) -> SideVerdict:
    answers = tuple(
        Answer(question=one, side=side, seen=others.get(one.id.replace("-", "_"), seen), evidence="<so> | it is")
        for one in QUESTIONS
    )
    return SideVerdict(machine="kiro-vm", side=side, answers=answers)


VERDICTS = {
    Side.NONE: verdict(Side.NONE, Seen.OPEN),
    Side.SRT: verdict(Side.SRT, Seen.CLOSED, same_kernel=Seen.OPEN),
    Side.CONTAINER: verdict(Side.CONTAINER, Seen.UNKNOWN, same_kernel=Seen.OPEN),
    Side.MACHINE: verdict(Side.MACHINE, Seen.CLOSED),
}
COST = Row(dimension="memory", text="of all", cells=dict.fromkeys(Side, Cell(text="1 MiB", value=1.0)))
TABLE = Comparison(machine="kiro-vm", rows=(boundary_row(VERDICTS), *answer_rows(VERDICTS), COST))


def test_the_boundary_is_told_from_what_was_seen() -> None:
    cells = boundary_row(VERDICTS).cells

    assert [cells[side].text for side in Side] == [
        "none", "inside the kernel, around one program", "none", "around a computer of its own"
    ]  # fmt: skip


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
    table, picture = markdown(TABLE), svg(TABLE)

    assert all(line.count(" | ") == len(header()) - 1 for line in table.splitlines())
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
