"""Marks only rise, outlive the process, and are never forgotten because a file is damaged."""

import multiprocessing

import pytest

from vmkit.errors import Refused
from vmkit.images.signing.highwater import Marks
from vmkit.images.signing.statement import MAX_SEQUENCE


@pytest.fixture
def marks(tmp_path):
    return Marks(tmp_path / "image-marks.json")


def test_an_unknown_line_has_no_mark_and_asking_writes_nothing(marks):
    assert marks.get("kiro") == 0
    assert not marks.path.exists()


def test_a_mark_rises_and_says_what_it_was(marks):
    assert marks.rise("kiro", 5) == 0
    assert marks.rise("kiro", 7) == 5
    assert Marks(marks.path).get("kiro") == 7


def test_a_mark_never_falls(marks):
    marks.rise("kiro", 7)

    assert marks.rise("kiro", 6) == 7
    assert marks.get("kiro") == 7


def test_lines_have_marks_of_their_own(marks):
    marks.rise("kiro", 7)
    marks.rise("debian-13", 3)

    assert (marks.get("kiro"), marks.get("debian-13")) == (7, 3)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"schema": 2, "lines": {}}',
        '{"schema": 1, "lines": []}',
        '{"schema": 1, "lines": {"kiro": "7"}}',
        '{"schema": 1, "lines": {"kiro": true}}',
        '{"schema": 1, "lines": {"kiro": -1}}',
        '{"schema": 1, "lines": {"kiro": 7, "kiro": 1}}',
        f'{{"schema": 1, "lines": {{"kiro": {MAX_SEQUENCE + 1}}}}}',
    ],
)
def test_a_damaged_file_is_refused_and_left_alone(marks, content):
    marks.path.write_text(content)

    with pytest.raises(Refused):
        marks.get("kiro")
    with pytest.raises(Refused):
        marks.rise("kiro", 9)
    assert marks.path.read_text() == content


def _rise(path, line, sequences):
    for sequence in sequences:
        Marks(path).rise(line, sequence)


def test_marks_raised_at_once_are_all_kept(marks):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_rise, args=(marks.path, line, range(start, 40, 2)))
        for line, start in (("a", 1), ("b", 2))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert (marks.get("a"), marks.get("b")) == (39, 38)
