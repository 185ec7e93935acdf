"""`vmkit start`, `stop`, `restart`, `list`, `info`, `delete`."""

import sys
from typing import Annotated, NoReturn

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.listing import show_list
from vmkit.cli.render import say, show_json, show_pairs
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError
from vmkit.host.sizes import show_size
from vmkit.machines.model import Machine
from vmkit.workflows.status import status

app = typer.Typer(rich_markup_mode=None, add_completion=False)

Names = Annotated[list[str] | None, typer.Argument(help="Machines; default VMKIT_MACHINE, or the only one.")]


Exposed = Annotated[bool, typer.Option("--exposed", help="Also one whose bundle lets other computers connect to it.")]


@app.command("start")
def start(
    ctx: typer.Context,
    names: Names = None,
    *,
    disposable: Annotated[bool, typer.Option("--disposable", help="Keep no disk change.")] = False,
    recovery: Annotated[
        bool, typer.Option("--recovery", help="Start macOS's recovery system; implies --no-wait.")
    ] = False,
    exposed: Exposed = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return before the guest is ready.")] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, for a supervisor: this process is the machine's keeper.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the guest.")] = 600.0,
) -> None:
    """Start machines and wait until their guests are ready."""
    tools: Tools = ctx.obj
    if foreground:
        _start_in_foreground(tools, names, timeout_s=timeout, disposable=disposable)
    from vmkit.workflows.start import start as start_machine  # noqa: PLC0415

    for machine in _machines(tools, names):
        start_machine(
            machine,
            machines=tools.machines,
            driver=tools.driver(machine.driver),
            report=tools.report,
            timeout_s=timeout,
            disposable=disposable,
            recovery=recovery,
            exposed=exposed,
            wait=not (no_wait or recovery),
        )
        say(f"{machine.name} is running", tools.flags)


@app.command("stop")
def stop(
    ctx: typer.Context,
    names: Names = None,
    *,
    force: Annotated[bool, typer.Option("--force", "-f", help="Pull the plug at once.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds until it is forced.")] = 60.0,
) -> None:
    """Stop machines: ask the guest to shut down, force at the deadline."""
    tools: Tools = ctx.obj
    from vmkit.workflows.stop import stop as stop_machine  # noqa: PLC0415

    for machine in _machines(tools, names):
        stop_machine(
            machine,
            machines=tools.machines,
            driver=tools.driver(machine.driver),
            report=tools.report,
            timeout_s=timeout,
            force=force,
        )
        say(f"{machine.name} is stopped", tools.flags)


@app.command("restart")
def restart(
    ctx: typer.Context,
    names: Names = None,
    *,
    force: Annotated[bool, typer.Option("--force", "-f", help="Pull the plug at once.")] = False,
    exposed: Exposed = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the guest.")] = 600.0,
) -> None:
    """Stop machines and start them again; a stopped one is started."""
    tools: Tools = ctx.obj
    from vmkit.workflows.restart import restart as restart_machine  # noqa: PLC0415

    for machine in _machines(tools, names):
        restart_machine(
            machine,
            machines=tools.machines,
            driver=tools.driver(machine.driver),
            report=tools.report,
            timeout_s=timeout,
            force=force,
            exposed=exposed,
        )
        say(f"{machine.name} is running", tools.flags)


@app.command("suspend")
def suspend(ctx: typer.Context, names: Names = None) -> None:
    """Pause machines: they keep their memory and do nothing until `vmkit start`."""
    tools: Tools = ctx.obj
    from vmkit.workflows.suspend import suspend as suspend_machine  # noqa: PLC0415

    for machine in _machines(tools, names):
        suspend_machine(machine, machines=tools.machines, driver=tools.driver(machine.driver))
        say(f"{machine.name} is paused", tools.flags)


@app.command("list")
def list_machines(ctx: typer.Context) -> None:
    """List the machines and what they are doing."""
    show_list(ctx.obj)


@app.command("info")
def info(ctx: typer.Context, name: Name = None) -> None:
    """Show one machine."""
    tools: Tools = ctx.obj
    machine = tools.machine(name)
    shown = status(machine, machines=tools.machines, driver=tools.driver(machine.driver), in_full=True)
    if tools.flags.json:
        show_json({"machine": shown.to_json()})
        return
    pairs = {
        "name": machine.name,
        "state": str(shown.state),
        **({"note": shown.note} if shown.note else {}),
        "uuid": machine.uuid,
        "driver": machine.driver,
        **(shown.facts or {}),
        "template": machine.template or "-",
        "image": f"{machine.image} ({machine.image_digest[:19]})" if machine.image else "-",
        "architecture": machine.arch,
        "CPUs": str(machine.cpus),
        "memory": show_size(machine.memory_mib << 20),
        "disk": show_size(machine.disk_bytes),
        "address": f"{shown.address[0]}:{shown.address[1]}" if shown.address else "-",
        "user": machine.user,
        "egress": machine.egress,
        "recipes": ", ".join(machine.recipes) or "none",
        "created": machine.created,
        "bundle": str(machine.bundle),
    }
    show_pairs(pairs)


@app.command("delete")
def delete(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Machines.")],
    *,
    force: Annotated[bool, typer.Option("--force", "-f", help="Also a running or broken one.")] = False,
    forget_login: Annotated[
        bool, typer.Option("--forget-login", help="Also the Kiro login, which else stays for a machine of that name.")
    ] = False,
) -> None:
    """Delete machines and everything vmkit made for them; a Kiro login stays for the next machine of that name."""
    tools: Tools = ctx.obj
    from vmkit.workflows.delete import delete as delete_machine  # noqa: PLC0415

    if sys.stdin.isatty() and not (force or tools.flags.yes or tools.flags.no_input):
        typer.confirm(f"Delete {', '.join(names)}?", abort=True, err=True)
    for name in names:
        delete_machine(
            name,
            machines=tools.machines,
            driver_for=tools.driver,
            report=tools.report,
            force=force,
            forget_login=forget_login,
        )
        say(f"{name} is deleted", tools.flags)


def _machines(tools: Tools, names: list[str] | None) -> list[Machine]:
    if not names:
        return [tools.machine(None)]
    if len(set(names)) != len(names):
        raise UsageError("a machine is named twice")
    return [tools.machine(name) for name in names]


def _start_in_foreground(tools: Tools, names: list[str] | None, *, timeout_s: float, disposable: bool) -> NoReturn:
    machines = _machines(tools, names)
    if len(machines) > 1:
        raise UsageError("--foreground keeps one machine", hint="one command for each")
    from vmkit.workflows.keeping import start_in_foreground  # noqa: PLC0415  # the keeper, in this process

    code = start_in_foreground(
        machines[0],
        machines=tools.machines,
        driver=tools.driver(machines[0].driver),
        report=tools.report,
        timeout_s=timeout_s,
        disposable=disposable,
    )
    raise typer.Exit(code)
