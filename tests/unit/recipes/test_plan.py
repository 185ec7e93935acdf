import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.recipes.here import FileAsset
from vmkit.errors import Refused, UsageError
from vmkit.recipes.assets import AssetIdentity
from vmkit.recipes.facts import Facts, FileFact, parse_facts
from vmkit.recipes.load import load_recipes
from vmkit.recipes.model import Account, File, Recipe, Script, digest_of, step_key
from vmkit.recipes.plan import plan, wanted_assets

CASES = Path(__file__).parents[2] / "cases"
PLANS = sorted((CASES / "plans").glob("*/*.toml"))
ASSETS = {"kiro-cli": AssetIdentity(version="2.24.1", sha256="ab" * 32, size_bytes=500 << 20)}


def shipped(name: str) -> tuple[Recipe, ...]:
    return load_recipes([name], user_folder=Path("absent"))


def facts_of(given: dict[str, Any], recipes: tuple[Recipe, ...]) -> Facts:
    """Read the facts of a case: over a bare Debian 13, where `current` stands for what the recipe wants."""
    bare = parse_facts(tomllib.loads((CASES / "facts" / "debian-13-bare.toml").read_text())["output"])
    steps = {step_key(recipe.name, step.id): step for recipe in recipes for step in recipe.steps}
    files: dict[str, FileFact] = {}
    for key, how in given.get("files", {}).items():
        step = steps[key]
        assert isinstance(step, File)
        owner = bare.user if step.owner is Account.USER else "root"
        right = FileFact(sha256=step.sha256, mode=step.mode, owner=owner)
        changes = {"current": {}, "content": {"sha256": "0" * 64}, "mode": {"mode": 0o600}, "owner": {"owner": "agent"}}
        files[key] = replace(right, **changes[how])
    stamps: dict[str, str] = {}
    for key, how in given.get("stamps", {}).items():
        step = steps[key]
        asset = ASSETS[step.uses].sha256 if isinstance(step, Script) and step.uses else None
        stamps[key] = digest_of(step, asset) if how == "current" else how
    packages = frozenset(given.get("packages", bare.packages))
    return replace(bare, files=files, stamps=stamps, packages=packages, checks=given.get("checks", {}))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_plan_is_what_the_case_says(path: Path) -> None:
    case = tomllib.loads(path.read_text())
    recipes = shipped(path.parent.name)

    made = plan(recipes, facts_of(case.get("facts", {}), recipes), ASSETS)

    assert {action.key: action.reason for action in made.needed} == case["needed"]


def test_every_shipped_recipe_has_a_case() -> None:
    assert {path.parent.name for path in PLANS} == {recipe.name for recipe in shipped("kiro-hooks")}


def test_plan_keeps_the_order_of_recipes_and_steps() -> None:
    recipes = shipped("kiro-cli")

    made = plan(recipes, facts_of({}, recipes), ASSETS)

    expected = [step_key(recipe.name, step.id) for recipe in recipes for step in recipe.steps]
    assert [action.key for action in made.actions] == expected


def test_asset_that_nobody_supplies_is_refused_before_anything_is_done() -> None:
    recipes = shipped("kiro-cli")

    with pytest.raises(UsageError, match='the recipe "kiro-cli" needs the asset "kiro-cli"'):
        wanted_assets(recipes, facts_of({}, recipes), {})


def test_providers_are_asked_only_for_what_is_needed(tmp_path: Path) -> None:
    provider = FileAsset(tmp_path, ASSETS["kiro-cli"])

    wanted = wanted_assets(shipped("base"), facts_of({}, ()), {"kiro-cli": provider})

    assert wanted == {}
    assert provider.asked == 0


@pytest.mark.parametrize(
    ("version", "sha256"),
    [("2.24.1", "../../../etc/passwd"), ("2.24.1", "AB" * 32), ("2\x1b[2J", "ab" * 32), ("", "ab" * 32)],
)
def test_identity_that_would_reach_a_path_or_a_terminal_is_refused(version: str, sha256: str) -> None:
    with pytest.raises(Refused):
        AssetIdentity(version=version, sha256=sha256, size_bytes=1)
