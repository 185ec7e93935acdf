"""Decide what a guest still needs: recipes and facts in, actions out; nothing is asked or done here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vmkit.errors import UsageError
from vmkit.recipes.assets import AssetIdentity, AssetProvider
from vmkit.recipes.facts import Facts
from vmkit.recipes.model import Account, File, Packages, PutAsset, Recipe, Script, Step, digest_of, step_key


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One step, and whether it has to be done, with the reason."""

    recipe: str
    step: Step
    digest: str
    is_needed: bool
    reason: str

    @property
    def key(self) -> str:
        """The name of the step's stamp."""
        return step_key(self.recipe, self.step.id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All steps of all recipes, in order."""

    actions: tuple[Action, ...]
    facts: Facts
    assets: Mapping[str, AssetIdentity]

    @property
    def needed(self) -> tuple[Action, ...]:
        """The actions that have to be done."""
        return tuple(action for action in self.actions if action.is_needed)


def wanted_assets(
    recipes: Iterable[Recipe], facts: Facts, providers: Mapping[str, AssetProvider]
) -> dict[str, AssetIdentity]:
    """Ask the providers which files this guest should have. Raises UsageError when nobody supplies one."""
    wanted: dict[str, AssetIdentity] = {}
    for recipe in recipes:
        for asset in sorted(recipe.assets - wanted.keys()):
            if asset not in providers:
                raise UsageError(f'the recipe "{recipe.name}" needs the asset "{asset}", which vmkit does not supply')
            wanted[asset] = providers[asset].wanted(facts)
    return wanted


def plan(recipes: Iterable[Recipe], facts: Facts, assets: Mapping[str, AssetIdentity]) -> Plan:
    """Compare what the guest should be with what it is. `assets` come from `wanted_assets`."""
    actions: list[Action] = []
    for recipe in recipes:
        # Scripts first: whether an asset has to come depends on the scripts after it.
        scripts = {step.id: _script(recipe, step, facts, assets) for step in recipe.steps if isinstance(step, Script)}
        used = {step.uses for step in recipe.steps if isinstance(step, Script) and scripts[step.id].is_needed}
        for step in recipe.steps:
            match step:
                case Packages():
                    actions.append(_packages(recipe, step, facts))
                case File():
                    actions.append(_file(recipe, step, facts))
                case Script():
                    actions.append(scripts[step.id])
                case PutAsset():
                    asset = assets[step.asset]
                    judge = _needed if step.asset in used else _in_place
                    wording = "is wanted" if step.asset in used else "is in place"
                    actions.append(judge(recipe, step, f"version {asset.version} {wording}", asset))
    return Plan(actions=tuple(actions), facts=facts, assets=assets)


def missing_packages(step: Packages, facts: Facts) -> tuple[str, ...]:
    """Return the names of which no alternative is installed."""
    return tuple(names for names in step.names if not facts.packages & set(names.split("|")))


def _packages(recipe: Recipe, step: Packages, facts: Facts) -> Action:
    missing = missing_packages(step, facts)
    if missing:
        return _needed(recipe, step, f"missing: {', '.join(missing)}")
    return _in_place(recipe, step, "all are installed")


def _file(recipe: Recipe, step: File, facts: Facts) -> Action:
    fact = facts.files.get(step_key(recipe.name, step.id))
    wanted_owner = "root" if step.owner is Account.ROOT else facts.user
    if fact is None:
        return _needed(recipe, step, f"{step.target} is missing")
    if fact.sha256 != step.sha256:
        return _needed(recipe, step, f"{step.target} has another content")
    if (fact.mode, fact.owner) != (step.mode, wanted_owner):
        return _needed(recipe, step, f"{step.target} has another mode or owner")
    return _in_place(recipe, step, f"{step.target} is as it should be")


def _script(recipe: Recipe, step: Script, facts: Facts, assets: Mapping[str, AssetIdentity]) -> Action:
    asset = assets[step.uses] if step.uses else None
    key = step_key(recipe.name, step.id)
    stamp, holds = facts.stamps.get(key), facts.checks.get(key, False)
    if step.check and not holds:
        return _needed(recipe, step, "its check fails", asset)
    if stamp == digest_of(step, asset.sha256 if asset else None):
        return _in_place(recipe, step, "done before", asset)
    if stamp is not None:
        return _needed(recipe, step, "it was done in another version", asset)
    # A check says that something is there, not which: only a stamp tells the version of an asset.
    if holds and asset is None:
        return _in_place(recipe, step, "its check holds", asset)
    return _needed(recipe, step, "never done", asset)


def _needed(recipe: Recipe, step: Step, reason: str, asset: AssetIdentity | None = None) -> Action:
    digest = digest_of(step, asset.sha256 if asset else None)
    return Action(recipe=recipe.name, step=step, digest=digest, is_needed=True, reason=reason)


def _in_place(recipe: Recipe, step: Step, reason: str, asset: AssetIdentity | None = None) -> Action:
    return replace(_needed(recipe, step, reason, asset), is_needed=False)
