"""Taking a recipe back: its files, its stamps and the packages that came with it go; what was there before stays."""

from pathlib import Path

import pytest

from tests.unit.recipes.here import HereGuest
from vmkit.errors import ProvisionFailed, UsageError
from vmkit.host.report import Silent
from vmkit.recipes.apply import provision
from vmkit.recipes.load import load_recipes, read_recipe
from vmkit.recipes.model import Recipe
from vmkit.recipes.remove import remove

TOML = """
summary = "a recipe with a way back"
remove = "remove.sh"
[[step]]
id = "tool"
packages = ["new"]
[[step]]
id = "note"
file = "note"
to = "~/.config/demo/note"
owner = "user"
[[step]]
id = "work"
script = "work.sh"
as = "user"
"""


@pytest.fixture
def recipe(guest: HereGuest, tmp_path: Path) -> Recipe:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "recipe.toml").write_text(TOML)
    (folder / "note").write_text("a note\n")
    (folder / "work.sh").write_text('echo done >"$HOME/work"\n')
    (folder / "remove.sh").write_text('rm -f "$VMKIT_HOME/work"\n')
    for name, text in (("archive", "new\n"), ("unneeded", "library\nnew\nold-orphan\n")):
        (guest.home / name).write_text(text)
    return read_recipe(folder)


def apply(guest: HereGuest, recipe: Recipe) -> None:
    provision([recipe], guest=guest, assets={}, report=Silent(), stamps=str(guest.stamps))


def left(guest: HereGuest) -> set[str]:
    return {
        str(path.relative_to(guest.root))
        for path in guest.root.rglob("*")
        if path.is_file() and path.parent.name != "bin" and path.suffix != ".log"
    }


def test_nothing_of_the_recipe_is_left(guest: HereGuest, recipe: Recipe) -> None:
    before = left(guest)
    apply(guest, recipe)
    assert left(guest) - before

    remove(recipe, guest=guest, report=Silent(), stamps=str(guest.stamps))

    assert left(guest) - before == {"home/installed"}  # what the stand-in for apt keeps
    assert not (guest.home / ".config" / "demo").exists()


def test_only_packages_that_came_with_it_and_that_nothing_needs_are_purged(guest: HereGuest, recipe: Recipe) -> None:
    apply(guest, recipe)
    (guest.home / "apt.log").unlink()

    remove(recipe, guest=guest, report=Silent(), stamps=str(guest.stamps))

    said = (guest.home / "apt.log").read_text()
    assert "apt-mark -q auto library new\n" in said
    assert "purge -- library new\n" in said
    assert "old-orphan" not in said


def test_once_more_changes_nothing_and_applying_it_again_works(guest: HereGuest, recipe: Recipe) -> None:
    apply(guest, recipe)
    for _ in range(2):
        remove(recipe, guest=guest, report=Silent(), stamps=str(guest.stamps))
    (guest.home / "installed").unlink()

    apply(guest, recipe)

    assert (guest.home / "work").exists()


def test_a_failing_script_keeps_the_stamps_so_that_it_can_be_tried_again(
    guest: HereGuest, recipe: Recipe, tmp_path: Path
) -> None:
    apply(guest, recipe)
    (tmp_path / "demo" / "remove.sh").write_text("echo no >&2; exit 3\n")

    with pytest.raises(ProvisionFailed, match="demo"):
        remove(read_recipe(tmp_path / "demo"), guest=guest, report=Silent(), stamps=str(guest.stamps))

    assert (guest.stamps / "demo.work").exists()


def test_a_recipe_without_a_way_back_is_a_usage_error(guest: HereGuest, tmp_path: Path) -> None:
    [base] = load_recipes(["base"], user_folder=tmp_path)

    with pytest.raises(UsageError, match="base"):
        remove(base, guest=guest, report=Silent())


@pytest.mark.parametrize("name", ["srt", "container"])
def test_the_shipped_layers_know_their_way_back(name: str, tmp_path: Path) -> None:
    *_, recipe = load_recipes([name], user_folder=tmp_path)

    assert recipe.name == name
    assert recipe.remove
