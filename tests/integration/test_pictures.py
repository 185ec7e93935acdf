"""The pictures in the documentation are what vmkit shows."""

from pathlib import Path

import pytest

from docs.images.generate import FOLDER, PICTURES, draw
from tests.sshd import PROGRAM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="needs sshd"),
]


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_vmkit_shows(name: str) -> None:
    assert draw(PICTURES[name]) == (FOLDER / f"{name}.svg").read_text(), "run: python -m docs.images.generate"


def test_every_picture_is_shown_somewhere_and_holds_nothing_foreign() -> None:
    pages = "".join(page.read_text() for page in Path(FOLDER.parent).rglob("*.md"))

    for path in FOLDER.glob("*.svg"):
        assert path.name in pages
        assert "@font-face" not in path.read_text()
