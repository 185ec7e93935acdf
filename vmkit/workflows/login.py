"""Log in to Kiro in a machine. For now Kiro's own device flow runs in the user's terminal."""

import os

from vmkit.drivers.base import Driver
from vmkit.errors import NotFound, UsageError
from vmkit.guest.base import Command
from vmkit.guest.pty import Terminal, shell
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.reach import reach

# sshd sets SSH_CONNECTION, which makes Kiro print its URL; the two variables say the same to builds that ask them.
_KIRO = (
    "env",
    "KIRO_FAKE_IS_REMOTE=1",
    "Q_FAKE_IS_REMOTE=1",
    "sh",
    "-c",
    'exec "$HOME/.local/bin/kiro-cli" "$@"',
    "sh",
)


def login(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    license_: str = "free",
    identity_provider: str | None = None,
    region: str | None = None,
) -> int:
    """Run `kiro-cli login --use-device-flow` in the guest, in this terminal; return its exit code.

    Raises NotFound when Kiro CLI is not installed, WrongState, UsageError.
    """
    if license_ not in ("free", "pro"):
        raise UsageError(f'--license "{license_[:20]}" is unknown', hint="free or pro")
    if license_ == "pro" and not (identity_provider and region):
        raise UsageError("--license pro needs --identity-provider URL and --region R")
    words = ["login", "--use-device-flow", "--license", license_]
    if identity_provider:
        words += ["--identity-provider", identity_provider]
    if region:
        words += ["--region", region]

    with reach(machine, machines=machines, driver=driver) as guest:
        present = guest.run(Command("sh", "-c", 'test -x "$HOME/.local/bin/kiro-cli"'), check=False)
        if not present.ok:
            raise NotFound(
                f'Kiro CLI is not installed in "{machine.name}"',
                hint=f"vmkit provision {machine.name} --recipe kiro-cli",
            )
        return shell(guest, [*_KIRO, *words], terminal=Terminal.from_environment(os.environ))
