"""The page about the command line says what the command line is."""

import importlib.util
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "docs" / "reference"


def test_the_page_is_what_the_commands_say() -> None:
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)

    assert (FOLDER / "cli.md").read_text() == generate.page(), "run: python docs/reference/generate.py"
