"""`vmkit auth status` and `vmkit auth logout`."""

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.render import say, show_json, show_pairs
from vmkit.cli.tools import Tools

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Kiro logins of machines.")


@app.command("status")
def status(ctx: typer.Context, name: Name = None) -> None:
    """Show who a machine is logged in as. Exit 0 when it is, 1 when it is not."""
    tools: Tools = ctx.obj
    from vmkit.workflows.auth import auth_status  # noqa: PLC0415  # paramiko

    machine = tools.machine(name)
    found = auth_status(machine, machines=tools.machines, driver=tools.driver(machine.driver))
    if tools.flags.json:
        show_json(found.to_json())
    else:
        shown = {"machine": machine.name, "logged in": found.identity.text if found.identity else "no"}
        show_pairs(shown | ({"since": found.since} if found.since else {}))
    raise typer.Exit(0 if found.identity else 1)


@app.command("logout")
def logout(ctx: typer.Context, name: Name = None) -> None:
    """Log a machine out of Kiro and make it forget its token."""
    tools: Tools = ctx.obj
    from vmkit.workflows.auth import logout as log_out  # noqa: PLC0415

    machine = tools.machine(name)
    before = log_out(machine, machines=tools.machines, driver=tools.driver(machine.driver))
    if tools.flags.json:
        show_json({"machine": machine.name, "logged_in": False, "was": before.to_json() if before else None})
        return
    say(f"{machine.name} {'is logged out' if before else 'was not logged in'}", tools.flags)
    if before:
        say("hint: a session that was stolen before lives on until you revoke it with the provider", tools.flags)
