"""Take a recipe back: its script undoes what its scripts did, then its files, packages and stamps go."""

from pathlib import Path

from vmkit.errors import ProvisionFailed, UsageError
from vmkit.guest.base import Command, CommandFailed, Guest
from vmkit.host.report import Report
from vmkit.recipes.facts import STAMPS_FOLDER, gather, records_of
from vmkit.recipes.model import File, Recipe

_REMOVE_S = 1800.0
_AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec "$@"; else exec sudo -n -- "$@"; fi'


def remove(recipe: Recipe, *, guest: Guest, report: Report, stamps: str = STAMPS_FOLDER) -> None:
    """Take back what `recipe` alone did; what it needs stays. Once more changes nothing.

    Raises UsageError when the recipe has no way back, ProvisionFailed, TransportFailed.
    """
    if recipe.remove is None:
        raise UsageError(
            f'the recipe "{recipe.name}" cannot be taken back: it has no "remove"',
            hint="vmkit create makes a machine without it",
        )
    facts = gather(guest, (), stamps=stamps)
    known = [f"VMKIT_RECIPE={recipe.name}", f"VMKIT_USER={facts.user}", f"VMKIT_HOME={facts.home}"]
    known += [f"HOME={facts.home}", f"VMKIT_STAMPS={stamps}", f"VMKIT_RECORDS={records_of(stamps)}"]
    targets = [step.target for step in recipe.steps if isinstance(step, File)]
    files = [f"{facts.home}{target[1:]}" if target[0] == "~" else target for target in targets]
    rest = Path(__file__).with_name("remove.sh").read_bytes()
    with report.phase("remove", f"taking {recipe.name} back"):
        for script, arguments in ((recipe.remove, []), (rest, files)):
            words = ("sh", "-c", _AS_ROOT, "sh", "env", *known, "sh", "-s", "--", *arguments)
            try:
                guest.run(Command(*words), stdin=script, timeout_s=_REMOVE_S)
            except CommandFailed as error:
                raise ProvisionFailed(
                    f'the recipe "{recipe.name}" could not be taken back', detail=error.detail
                ) from error
