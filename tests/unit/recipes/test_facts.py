import tomllib
from pathlib import Path

import pytest

from tests.unit.recipes.here import HereGuest
from vmkit.errors import VmkitError
from vmkit.recipes.facts import FileFact, gather, parse_facts, question
from vmkit.recipes.load import read_recipe

CASES = sorted((Path(__file__).parents[2] / "cases" / "facts").glob("*.toml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_answer_is_read_or_refused_as_the_case_says(path: Path) -> None:
    case = tomllib.loads(path.read_text())
    complaints = case.get("complaints", "").encode()

    if "error" in case:
        with pytest.raises(VmkitError) as caught:
            parse_facts(case["output"], complaints=complaints)

        said = {"kind": caught.value.kind, "message": caught.value.message, "detail": caught.value.detail}
        assert {key: said[key] for key in case["error"]} == case["error"]
        return
    facts = parse_facts(case["output"], complaints=complaints)

    for name, expected in case["facts"].items():
        told = getattr(facts, name)
        assert (sorted(told) if isinstance(told, frozenset) else told) == _plain(expected, told), name
    for key, digest in case.get("stamps", {}).items():
        assert facts.stamps[key] == digest
    for key, fact in case.get("files", {}).items():
        assert facts.files[key] == FileFact(**fact)


def _plain(expected: object, told: object) -> object:
    return tuple(expected) if isinstance(told, tuple) and isinstance(expected, list) else expected


def test_there_are_cases() -> None:
    assert len(CASES) > 10


def test_question_is_answered_in_one_round_trip_by_a_real_shell(guest: HereGuest, tmp_path: Path) -> None:
    recipe = tmp_path / "tools"
    recipe.mkdir()
    (recipe / "note").write_text("hello\n")
    (recipe / "say.sh").write_text("echo hello\n")
    (recipe / "recipe.toml").write_text(
        """
        summary = "a test"
        [[step]]
        id = "note"
        file = "note"
        to = "~/note"
        owner = "user"
        mode = "0640"
        [[step]]
        id = "say"
        script = "say.sh"
        as = "user"
        check = "test -f \\"$HOME/note\\""
        [[step]]
        id = "shout"
        script = "say.sh"
        as = "root"
        check = "cat && false"
        [[step]]
        id = "tool"
        packages = ["there", "absent"]
        """
    )
    (guest.home / "note").write_text("hello\n")
    (guest.home / "note").chmod(0o640)
    (guest.home / "installed").write_text("there\n")
    guest.give("note", "installed")
    stamp = guest.stamps / "tools.say"
    stamp.parent.mkdir()
    stamp.write_text("5e1f\n")

    facts = gather(guest, [read_recipe(recipe)], stamps=str(guest.stamps))

    assert len(guest.commands) == 1
    assert facts.home == str(guest.home)
    assert facts.files["tools.note"].mode == 0o640
    assert facts.files["tools.note"].sha256.startswith("5891b5b522d5df08")
    assert facts.checks == {"tools.say": True, "tools.shout": False}
    assert facts.stamps == {"tools.say": "5e1f"}
    assert facts.packages == {"there"}
    assert not facts.has_leftovers


def test_question_quotes_what_a_check_says(tmp_path: Path) -> None:
    recipe = tmp_path / "quote"
    recipe.mkdir()
    (recipe / "a.sh").write_text("")
    (recipe / "recipe.toml").write_text(
        'summary = "x"\n[[step]]\nid = "a"\nscript = "a.sh"\nas = "user"\ncheck = "echo \'; touch owned; \'"\n'
    )

    asked = question([read_recipe(recipe)])

    assert """check quote.a 'echo '"'"'; touch owned; '"'"''""" in asked
