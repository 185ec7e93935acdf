"""Log in to Kiro in a machine: the guest runs the device flow, vmkit reads it and shows one prompt of its own making.

The guest may be hostile, and whoever controls it gets the session that the user approves. So nothing that it prints
reaches the terminal, the URL is made anew, and a login is refused once a workspace has been brought in: before that,
the machine is as it was made, and nobody can have put his own code there.
"""

from dataclasses import dataclass
from typing import Protocol

from vmkit.drivers.base import Driver
from vmkit.errors import NotFound, Refused, TimedOut, ToolFailed, VmkitError, WrongState
from vmkit.guest.base import Command, Guest
from vmkit.guest.dialogue import Dialogue
from vmkit.guest.ssh import SshGuest
from vmkit.host.report import Report, Silent
from vmkit.host.wait import Deadline
from vmkit.kiro.identity import WHOAMI, WHOAMI_S, Identity, parse_whoami
from vmkit.kiro.login import LoginReader, Prompt
from vmkit.kiro.verification import Method, Wanted
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.login_disk import unlock_or_say
from vmkit.workflows.reach import reach
from vmkit.workflows.workspace import has_workspace

LOGIN_S = 900.0  # AWS's codes are said to live for ten minutes; nobody prints for how long

_TICK_S = 0.5
_QUIET_S = 2.0
# sshd sets SSH_CONNECTION, which makes Kiro print its URL; the two variables say the same to builds that ask them. An
# opener that fails makes the others print it too: one that exits 0 swallows the URL (Kiro issue 10975).
_KIRO = """
set -e
shims=$(mktemp -d); trap 'rm -rf -- "$shims"' EXIT
for opener in xdg-open wslview sensible-browser www-browser x-www-browser; do
  printf '#!/bin/sh\\nexit 1\\n' >"$shims/$opener"; chmod 755 "$shims/$opener"
done
export KIRO_FAKE_IS_REMOTE=1 Q_FAKE_IS_REMOTE=1 PATH="$shims:$PATH" BROWSER="$shims/xdg-open"
"$HOME/.local/bin/kiro-cli" "$@"
"""
_FAILURES: tuple[tuple[str, type[VmkitError], str], ...] = (  # what Kiro says, what it is, what helps
    ("expired", TimedOut, "nobody confirmed the code in time"),
    ("denied", Refused, "the login was denied in the browser"),
    ("dispatch failure", ToolFailed, "the guest could not reach Kiro's login service"),
    ("timed out", ToolFailed, "the guest could not reach Kiro's login service"),
    ("No profiles available", ToolFailed, "the organisation has no profile for this account"),
    ("keychain", ToolFailed, "the guest's keychain is locked"),
)


class LoginScreen(Protocol):
    """Where a login is shown."""

    def prompt(self, prompt: Prompt, *, wanted: Wanted) -> None:
        """Show the code and where to confirm it. Called once."""

    def waiting(self, *, left_s: float) -> None:
        """Show that the user has not confirmed yet. Called about twice a second."""


@dataclass(frozen=True, kw_only=True)
class LoggedIn:
    """Who is logged in now, and whether that was so before."""

    identity: Identity
    already: bool


def login(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    wanted: Wanted,
    screen: LoginScreen,
    report: Report | None = None,
    timeout_s: float = LOGIN_S,
    after_workspace: bool = False,
) -> LoggedIn:
    """Log in as `wanted`; return when Kiro says that it is.

    Raises Refused (hostile output, denied, a workspace is in), WrongState (another login is there), TimedOut, NotFound
    (no Kiro CLI), ToolFailed.
    """
    with reach(machine, machines=machines, driver=driver) as guest:
        # the disk is locked after --no-wait, a reboot from inside, a logout
        unlock_or_say(guest, machine, machines=machines, report=report or Silent())
        before = whoami(guest, machine)
        if before is not None:
            return _already(before, machine, wanted)
        if has_workspace(machine) and not after_workspace:
            raise Refused(
                f'a workspace was brought into "{machine.name}": what runs there may want a login of its own approved',
                hint=f"log in before the workspace, or accept that: vmkit login {machine.name} --after-workspace",
            )
        reader = _follow(guest, machine, wanted, screen, deadline=Deadline(timeout_s))
        after = whoami(guest, machine)
    if after is None:
        raise ToolFailed("Kiro CLI says that it logged in, and then that it is not", detail="\n".join(reader.said))
    if not after.is_wanted(wanted):
        raise Refused(
            f"the guest is logged in, but not as was asked: {after.text}", hint=f"vmkit auth logout {machine.name}"
        )
    return LoggedIn(identity=after, already=False)


def whoami(guest: Guest, machine: Machine) -> Identity | None:
    """Return who is logged in, or None. Raises NotFound without Kiro CLI, TimedOut."""
    # 127 is the shell's word for a program that is not there
    outcome = guest.run(kiro(*WHOAMI), check=False, timeout_s=WHOAMI_S, max_bytes=64 << 10)
    if outcome.code in (126, 127):
        raise NotFound(
            f'Kiro CLI is not installed in "{machine.name}"', hint=f"vmkit provision {machine.name} --recipe kiro-cli"
        )
    return parse_whoami(outcome.text) if outcome.ok else None


def kiro(*words: str) -> Command:
    """Return the command that runs Kiro CLI where its recipe installs it."""
    return Command("sh", "-c", _KIRO, "kiro-cli", *words)


def _already(identity: Identity, machine: Machine, wanted: Wanted) -> LoggedIn:
    if identity.is_wanted(wanted):
        return LoggedIn(identity=identity, already=True)
    raise WrongState(
        f'"{machine.name}" is logged in as somebody else: {identity.text}', hint=f"vmkit auth logout {machine.name}"
    )


def _follow(
    guest: SshGuest, machine: Machine, wanted: Wanted, screen: LoginScreen, *, deadline: Deadline
) -> LoginReader:
    reader = LoginReader(wanted)
    shown = False
    quiet = Deadline(_QUIET_S)
    with Dialogue(guest, kiro(*_words(wanted))) as dialogue:
        while (output := dialogue.read(timeout_s=min(_TICK_S, deadline.left_s))) is not None:
            if output:
                reader.feed(output)
                quiet = Deadline(_QUIET_S)
            elif quiet.passed:
                reader.settle()
                _refuse_menu(reader, wanted)
            if keys := reader.take_keys():
                dialogue.press(keys)
            if reader.prompt and not shown:
                screen.prompt(reader.prompt, wanted=wanted)
                shown = True
            if shown:
                screen.waiting(left_s=deadline.left_s)
            if deadline.passed:
                raise TimedOut(
                    f"the login was not confirmed within {deadline.seconds:g} s", hint=f"vmkit login {machine.name}"
                )
        reader.end()
        code = dialogue.code()
    if code != 0:
        raise _failure(reader, machine, code)
    return reader


def _words(wanted: Wanted) -> list[str]:
    if wanted.is_social:
        return ["login", "--use-device-flow"]  # no flag chooses Google or GitHub: the menu does
    words = ["login", "--use-device-flow", "--license", wanted.method]
    if wanted.method is Method.PRO:
        words += ["--identity-provider", wanted.start_url or "", "--region", wanted.region or ""]
    return words


def _refuse_menu(reader: LoginReader, wanted: Wanted) -> None:
    if reader.offers is not None:
        raise Refused(
            f"this Kiro CLI offers no login with {wanted.method}",
            detail="\n".join(reader.offers),
            hint="log in with --license free or pro, or install another version of Kiro CLI",
        )


def _failure(reader: LoginReader, machine: Machine, code: int) -> VmkitError:
    """Return what Kiro's last words mean. They are a guest's, and shown as such."""
    said = "\n".join(reader.said)
    again = f"vmkit login {machine.name}"
    for words, error, meaning in _FAILURES:
        if words.lower() in said.lower():
            return error(meaning, detail=said, hint=again)
    hint = "unlock it in the guest: security unlock-keychain" if machine.system == "macos" else again
    return ToolFailed(f"Kiro's login ended with {code}", detail=said, hint=hint)
