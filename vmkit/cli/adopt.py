"""`vmkit adopt`."""

import getpass
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vmkit.cli.render import say, show_json, show_pairs, show_text
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError, WrongState
from vmkit.host.sizes import show_size
from vmkit.host.text import printable
from vmkit.machines.model import Machine

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


@app.command("adopt")
def adopt(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(help="A machine of UTM's by name or UUID, or the path of a .utm, tart or lume folder.")
    ],
    *,
    as_name: Annotated[str | None, typer.Option("--as", help="Its name in vmkit; default: after its own.")] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="The guest's user; default: yours, tart's admin, lume's lume.")
    ] = None,
    host_key: Annotated[
        str | None, typer.Option("--host-key", help="Fingerprint of the guest's Ed25519 host key: SHA256:…")
    ] = None,
    driver: Annotated[str | None, typer.Option("--driver", help="utm or qemu, for a copied machine.")] = None,
    no_start: Annotated[bool, typer.Option("--no-start", help="Make it only; adopt NAME again to finish.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the guest.")] = 600.0,
) -> None:
    """Take over a machine that exists: one of UTM's stays there, a folder is copied and left as it was.

    Again on an adopted machine whose host key or login is still missing: finish it.
    """
    tools: Tools = ctx.obj
    if host_key is not None and not _FINGERPRINT.fullmatch(host_key):
        raise UsageError("--host-key is no fingerprint", hint="SHA256: and 43 characters, as ssh-keygen -lf prints it")
    from vmkit.workflows.adopt_plan import checked_user  # noqa: PLC0415  # the heavy half

    machine = None if "/" in what or as_name else _unfinished(what, tools)
    if machine is None:
        machine = _adopt(what, tools, as_name=as_name, user=user, driver=driver, dry_run=dry_run)
        if machine is None:
            return
    elif driver or dry_run:
        raise UsageError(f'"{machine.name}" is made already: --host-key, --user and --timeout finish it')
    elif user:
        machine = replace(machine, user=checked_user(user))
        tools.machines.save(machine)
    if no_start:
        _show(machine, tools, vouched=None)
        say(f"hint: vmkit adopt {machine.name}", tools.flags)
        return
    _finish(machine, tools, host_key=host_key, timeout_s=timeout)


def _unfinished(name: str, tools: Tools) -> Machine | None:
    """Return the machine of vmkit's by that name, None when there is none. Raises WrongState when it is adopted."""
    from vmkit.workflows.adopt import needs_adoption  # noqa: PLC0415  # the heavy half

    if not tools.machines.exists(name):
        return None
    machine = tools.machines.open(name)
    if not needs_adoption(machine):
        raise WrongState(f'machine "{name}" is vmkit\'s already', hint=f"vmkit shell {name}, or adopt WHAT --as NAME")
    return machine


def _adopt(
    what: str, tools: Tools, *, as_name: str | None, user: str | None, driver: str | None, dry_run: bool
) -> Machine | None:
    from vmkit.workflows.adopt import adopt as take_over  # noqa: PLC0415  # the heavy half
    from vmkit.workflows.adopt_plan import plan_adoption  # noqa: PLC0415
    from vmkit.workflows.adopt_utm import find_held  # noqa: PLC0415

    plan = plan_adoption(
        what,
        as_name=as_name,
        user=user,
        driver=driver,
        machines=tools.machines,
        find_held=lambda name: find_held(name, runner=tools.runner, home=Path.home()),
        login_name=getpass.getuser(),
    )
    if dry_run and tools.flags.json:
        show_json({"plan": plan.to_json()})
        return None
    if dry_run:
        shown = plan.to_json() | {"memory": show_size(plan.source.memory_mib << 20)}
        show_pairs({key: _words(value) for key, value in shown.items() if key != "memory_mib"})
        return None
    chosen = tools.driver(plan.driver)
    for left_out in plan.foreign.dropped if plan.foreign else ():
        say(f"left out: {left_out}", tools.flags)
    return take_over(plan, machines=tools.machines, driver=chosen, runner=tools.runner, report=tools.report)


def _finish(machine: Machine, tools: Tools, *, host_key: str | None, timeout_s: float) -> None:
    from vmkit.drivers.guest_agent import guest_agent  # noqa: PLC0415  # the heavy half
    from vmkit.workflows.adopt import HOST_KEY_FILE, finish  # noqa: PLC0415

    on_terminal = sys.stdin.isatty() and sys.stderr.isatty() and not tools.flags.no_input

    def confirm(fingerprint: str) -> bool:
        say(f"{machine.name} shows the host key {fingerprint}", tools.flags)
        say(f"in the guest's own window: ssh-keygen -lf {HOST_KEY_FILE}", tools.flags)
        return typer.confirm("Is it the same?", err=True)

    vouched = finish(
        machine,
        machines=tools.machines,
        driver=tools.driver(machine.driver),
        agent=guest_agent(tools.machines.vm(machine), driver=machine.driver, runner=tools.runner),
        report=tools.report,
        timeout_s=timeout_s,
        host_key=host_key,
        confirm=confirm if on_terminal else None,
        patient=on_terminal,
    )
    _show(machine, tools, vouched={"fingerprint": vouched.fingerprint, "vouched_by": vouched.by})
    say(f"hint: vmkit shell {machine.name}", tools.flags)


def _show(machine: Machine, tools: Tools, *, vouched: dict[str, str] | None) -> None:
    from vmkit.workflows.status import status  # noqa: PLC0415

    found = status(machine, machines=tools.machines, driver=tools.driver(machine.driver))
    if tools.flags.json:
        show_json({"machine": found.to_json(), "host_key": vouched})
        return
    by = f"; host key {vouched['fingerprint']}, vouched for by {vouched['vouched_by']}" if vouched else ""
    show_text(f"{machine.name} is adopted and {found.state}{by}")


def _words(value: object) -> str:
    if isinstance(value, list):
        return printable("; ".join(map(str, value))) or "nothing"
    return "-" if value is None else printable(str(value))
