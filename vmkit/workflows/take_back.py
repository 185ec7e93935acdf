"""Take recipes out of a running guest again."""

from collections.abc import Sequence

from vmkit.drivers.base import Driver
from vmkit.errors import UsageError
from vmkit.host.report import Report
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.recipes.load import load_recipes
from vmkit.recipes.remove import remove
from vmkit.workflows.keep import Keeper
from vmkit.workflows.reach import reach


def take_back(
    machine: Machine, names: Sequence[str], *, machines: MachineStore, driver: Driver, report: Report
) -> None:
    """Take recipes out, each with what it alone brought; those that they need stay.

    Raises UsageError (a recipe of the machine's own, or without a way back), NotFound, WrongState, ProvisionFailed.
    """
    own = [name for name in names if name in machine.recipes]
    if own:
        raise UsageError(
            f'"{own[0]}" is one of the recipes that "{machine.name}" was made with, and would come back',
            hint="vmkit create --recipe makes a machine without it",
        )
    recipes = {recipe.name: recipe for recipe in load_recipes(names, user_folder=machines.paths.recipes)}
    with machines.lock(machine.name, "provision"):
        with reach(machine, machines=machines, driver=driver) as guest:
            for name in dict.fromkeys(names):
                remove(recipes[name], guest=guest, report=report)
        Keeper(machine, machines=machines).renew()
