"""Bring a guest to the state its recipes describe; start it first when need be, and finish what was interrupted."""

from collections.abc import Sequence
from dataclasses import dataclass

from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import VmkitError
from vmkit.guest.ssh import SshGuest
from vmkit.host.report import Report, Timed
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore, Unfinished, close_journal, read_journal, write_journal
from vmkit.workflows.keep import Keeper
from vmkit.workflows.login_disk import unlock, unlock_or_say
from vmkit.workflows.login_store import attach
from vmkit.workflows.start import READY_S, await_guest, boot


@dataclass(frozen=True, kw_only=True)
class Provisioned:
    """How many steps were changed, found in place, or failed."""

    changed: int = 0
    unchanged: int = 0
    failed: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the `provision` object of `create`."""
        return {"changed": self.changed, "unchanged": self.unchanged, "failed": self.failed}


def provision(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    report: Report,
    recipes: Sequence[str] | None = None,
    timeout_s: float = READY_S,
    upgrade: bool = False,
) -> tuple[Provisioned, dict[str, float]]:
    """Apply the machine's recipes, or `recipes`; a stopped machine is started. Resumes an interrupted create.

    `upgrade`: take the newest Kiro CLI although the machine is locked to one.
    Raises ProvisionFailed, NotFound (recipe), Busy, TimedOut.
    """
    timed = Timed(report)
    with machines.lock(machine.name, "provision"):
        wanted = tuple(recipes) if recipes is not None else machine.recipes
        done = bring_up(
            machine,
            machines=machines,
            driver=driver,
            report=timed,
            timeout_s=timeout_s,
            recipes=wanted,
            upgrade=upgrade,
        )
    return done, timed.seconds


def bring_up(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    report: Report,
    timeout_s: float,
    recipes: Sequence[str],
    upgrade: bool = False,
) -> Provisioned:
    """Start the machine when it is stopped, wait for its guest, apply `recipes`; then its journal is closed.

    The caller holds the machine's lock.
    """
    unfinished = read_journal(machine)
    vm = machines.vm(machine)
    if unfinished:
        attach(machine, paths=machines.paths)
        driver.add(vm)
    _mark(machine, unfinished, "boot")
    if driver.state(vm) in (MachineState.STOPPED, MachineState.BROKEN, MachineState.PAUSED):
        boot(machine, machines=machines, driver=driver, report=report)
    with await_guest(machine, machines=machines, driver=driver, report=report, timeout_s=timeout_s) as guest:
        _mark(machine, unfinished, "provision")
        unlocked = unlock(guest, machine, machines=machines, report=report)
        done = Provisioned()
        if recipes:
            done = _apply(guest, machine, recipes, machines=machines, report=report, upgrade=upgrade)
        if not unlocked:  # the recipes may have brought what it takes
            unlock_or_say(guest, machine, machines=machines, report=report)
    if done.changed:  # sshd reads the environment, which a recipe may have changed, when a connection is made
        Keeper(machine, machines=machines).renew()
    close_journal(machine)
    return done


def _mark(machine: Machine, unfinished: Unfinished | None, phase: str) -> None:
    if unfinished:
        write_journal(machine.folder, Unfinished(operation=unfinished.operation, phase=phase))


def _apply(
    guest: SshGuest, machine: Machine, names: Sequence[str], *, machines: MachineStore, report: Report, upgrade: bool
) -> Provisioned:
    from vmkit.recipes.apply import provision as apply_recipes  # noqa: PLC0415  # not needed by a machine without recipes
    from vmkit.recipes.load import load_recipes  # noqa: PLC0415
    from vmkit.workflows.assets import asset_providers  # noqa: PLC0415

    recipes = load_recipes(names, user_folder=machines.paths.recipes)
    with report.phase("provision", f"provisioning {machine.name}"):
        try:
            applied = apply_recipes(
                recipes,
                guest=guest,
                assets=asset_providers(machine, paths=machines.paths, report=report, upgrade=upgrade),
                report=report,
            )
        except VmkitError as error:  # whatever it was, the machine stays and this resumes
            error.detail = "\n".join(filter(None, (error.detail, error.hint))) or None
            error.hint = f"vmkit provision {machine.name}"
            raise
    return Provisioned(changed=applied.changed, unchanged=applied.unchanged, failed=0)
