"""Do what a plan says, step by step; each done step is stamped in the guest, so that the next run goes on there."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmkit.errors import ProvisionFailed, TimedOut
from vmkit.guest.base import Command, CommandFailed, Guest, Outcome
from vmkit.host.report import Report
from vmkit.host.sizes import show_size
from vmkit.host.text import printable_lines
from vmkit.recipes.assets import AssetIdentity, AssetProvider
from vmkit.recipes.facts import STAMPS_FOLDER, WORK_FOLDER, gather, records_of
from vmkit.recipes.model import Account, File, Packages, PutAsset, Recipe, Script
from vmkit.recipes.plan import Action, Plan, missing_packages, plan, wanted_assets

_QUICK_S = 60.0
_GRACE_S = 60.0  # what the guest needs, past a step's own limit, to end it, write to the disk and answer
_LAST_LINES = 12
_TIMED_OUT = 124  # timeout(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What provisioning did. `assets`: what the guest now has of the files that came from the host."""

    changed: int
    unchanged: int
    failed: int
    assets: Mapping[str, AssetIdentity]


class StepFailed(ProvisionFailed):
    """A step failed; `applied` counts what was done before it."""

    def __init__(self, action: Action, problem: str, *, said: Iterable[str], applied: Applied) -> None:
        before = f"before it: {applied.changed} changed, {applied.unchanged} unchanged"
        super().__init__(
            f'the step "{action.step.id}" of the recipe "{action.recipe}" {problem}', detail="\n".join([*said, before])
        )
        self.recipe = action.recipe
        self.step = action.step.id
        self.applied = applied


def provision(
    recipes: Iterable[Recipe],
    *,
    guest: Guest,
    assets: Mapping[str, AssetProvider],
    report: Report,
    stamps: str = STAMPS_FOLDER,
) -> Applied:
    """Bring the guest to what the recipes say: ask, plan, apply. Raises what `gather` and `apply` raise."""
    recipes = tuple(recipes)
    with report.phase("facts", "Looking at the guest"):
        facts = gather(guest, recipes, stamps=stamps)
        wanted = wanted_assets(recipes, facts, assets)
    return apply(plan(recipes, facts, wanted), guest=guest, assets=assets, report=report, stamps=stamps)


def apply(
    todo: Plan, *, guest: Guest, assets: Mapping[str, AssetProvider], report: Report, stamps: str = STAMPS_FOLDER
) -> Applied:
    """Do the needed actions, in order.

    Raises StepFailed or ProvisionFailed (the caller adds the hint that resumes); what a provider raises and
    TransportFailed pass.
    """
    work = _Work(todo, guest=guest, assets=assets, report=report, stamps=stamps)
    if todo.needed:
        work.prepare()
    for action in todo.actions:
        work.do(action)
    if todo.needed or todo.facts.has_leftovers:
        # What stays after all, the next run sees and removes.
        guest.run(Command("rm", "-rf", "--", work.folder), timeout_s=_QUICK_S, check=False)
    return work.applied(failed=0)


class _Work:
    """One run through a plan."""

    def __init__(
        self, todo: Plan, *, guest: Guest, assets: Mapping[str, AssetProvider], report: Report, stamps: str
    ) -> None:
        self.todo, self.guest, self.assets, self.report, self.stamps = todo, guest, assets, report, stamps
        self.folder = f"{todo.facts.home}/{WORK_FOLDER}"
        self.changed = self.unchanged = 0

    def applied(self, *, failed: int) -> Applied:
        return Applied(changed=self.changed, unchanged=self.unchanged, failed=failed, assets=self.todo.assets)

    def prepare(self) -> None:
        """Put the step runner into a private folder; it stays, with the assets, until all is done."""
        script = 'umask 077; mkdir -p "$1/assets" && cat >"$1/new" && mv -f "$1/new" "$1/step.sh"'
        runner = Path(__file__).with_name("step.sh").read_bytes()
        try:
            self.guest.run(Command("sh", "-c", script, "sh", self.folder), stdin=runner, timeout_s=_QUICK_S)
        except CommandFailed as error:
            raise ProvisionFailed("the guest takes no files for provisioning", detail=error.detail) from error

    def do(self, action: Action) -> None:
        if not action.is_needed:
            self.unchanged += 1
            return
        with self.report.phase(action.key, f"{action.recipe}: {action.step.id} ({action.reason})"):
            match action.step:
                case Packages() as step:
                    self._packages(action, step)
                case File() as step:
                    target = f"{self.todo.facts.home}{step.target[1:]}" if step.target[0] == "~" else step.target
                    self._run(action, "file", step.owner, [target, f"{step.mode:04o}"], step.content)
                case Script() as step:
                    self._run(action, "script", step.account, self._environment(step), step.content)
                case PutAsset() as step:
                    self._put(action, step)
        self.changed += 1

    def _packages(self, action: Action, step: Packages) -> None:
        if not self.todo.facts.has_apt:
            raise self._failed(action, "needs apt, which this guest does not have")
        names = " ".join(missing_packages(step, self.todo.facts))
        payload = Path(__file__).with_name("packages.sh").read_bytes()
        known = [f"VMKIT_PACKAGES={names}", f"VMKIT_RECORD={records_of(self.stamps)}/{action.key}"]
        self._run(action, "script", Account.ROOT, known, payload)

    def _environment(self, step: Script) -> list[str]:
        facts = self.todo.facts
        known = {"VMKIT_USER": facts.user, "VMKIT_HOME": facts.home, "VMKIT_ARCH": facts.arch, "VMKIT_LIBC": facts.libc}
        if step.uses:
            asset = self.todo.assets[step.uses]
            known |= {
                "VMKIT_ASSET": self._asset_path(asset),
                "VMKIT_ASSET_VERSION": asset.version,
                "VMKIT_ASSET_SHA256": asset.sha256,
            }
        return [f"{name}={value}" for name, value in known.items()]

    def _put(self, action: Action, step: PutAsset) -> None:
        asset = self.todo.assets[step.asset]
        target = self._asset_path(asset)
        is_there = self._holds(target, asset.sha256, timeout_s=step.timeout_s)
        self._require_room(action, asset.size_bytes * (step.room - int(is_there)))
        if is_there:  # an earlier run brought it, and failed after that
            return
        source = self.assets[step.asset].fetch(self.todo.facts, self.report)
        try:
            self.guest.put(
                source, target, mode=0o600, on_bytes=lambda sent: self.report.progress(sent, asset.size_bytes, "bytes")
            )
        except CommandFailed as error:
            raise self._failed(action, "failed", printable_lines(error.detail or "")) from error

    def _holds(self, target: str, sha256: str, *, timeout_s: float) -> bool:
        script = '[ -f "$1" ] && echo "$2  $1" | sha256sum -c --status'
        asked = self.guest.run(Command("sh", "-c", script, "sh", target, sha256), timeout_s=timeout_s, check=False)
        return asked.ok

    def _require_room(self, action: Action, needed_bytes: int) -> None:
        free = self.todo.facts.free_bytes
        if free < needed_bytes:
            figures = f"{show_size(needed_bytes)} are needed, {show_size(free)} are free at {self.todo.facts.home}"
            raise self._failed(action, "needs more space than the guest has", [figures])

    def _asset_path(self, asset: AssetIdentity) -> str:
        return f"{self.folder}/assets/{asset.sha256}"

    def _run(self, action: Action, kind: str, account: Account, arguments: list[str], payload: bytes) -> None:
        seconds = action.step.timeout_s
        stamp = f"{self.stamps}/{action.key}"
        command = Command(
            "sh", f"{self.folder}/step.sh", kind, account, f"{seconds:g}", stamp, action.digest, *arguments
        )
        said: deque[str] = deque(maxlen=_LAST_LINES)
        try:
            outcome = self.guest.run(
                command, stdin=payload, timeout_s=seconds + _GRACE_S, check=False, on_line=said.append
            )
        except TimedOut as error:
            raise self._failed(action, f"did not end within {seconds:g} s", said) from error
        if outcome.code == _TIMED_OUT:
            raise self._failed(action, f"did not end within {seconds:g} s", said)
        if not outcome.ok:
            raise self._failed(action, f"exited with {outcome.code}", said or _last_lines(outcome))

    def _failed(self, action: Action, problem: str, said: Iterable[str] = ()) -> StepFailed:
        return StepFailed(action, problem, said=said, applied=self.applied(failed=1))


def _last_lines(outcome: Outcome) -> list[str]:
    return printable_lines(outcome.stderr or outcome.stdout, max_lines=_LAST_LINES)
