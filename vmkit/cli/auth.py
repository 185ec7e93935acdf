"""`vmkit auth status` and `vmkit auth logout`."""

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.render import say, show_json, show_pairs
from vmkit.cli.tools import Tools
from vmkit.machines.model import checked_name

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
        logged_in = found.identity.text if found.identity else "no"
        shown = {"machine": machine.name, "logged in": logged_in, "login disk": str(found.disk)}
        show_pairs(shown | ({"since": found.since} if found.since else {}))
    raise typer.Exit(0 if found.identity else 1)


@app.command("logout")
def logout(ctx: typer.Context, name: Name = None) -> None:
    """Log a machine out of Kiro and destroy its token; of a stopped or deleted machine, destroy the kept login."""
    tools: Tools = ctx.obj
    from vmkit.workflows.auth import LoggedOut, forget_kept  # noqa: PLC0415  # paramiko
    from vmkit.workflows.auth import logout as log_out  # noqa: PLC0415

    if name is not None and not tools.machines.exists(checked_name(name)):
        forget_kept(name, machines=tools.machines)
        done, chosen = LoggedOut(was=None, revoked=False), name
    else:
        machine = tools.machine(name)
        driver, chosen = tools.driver(machine.driver), machine.name
        done = log_out(machine, machines=tools.machines, driver=driver, runner=tools.runner)
    if tools.flags.json:
        was = done.was.to_json() if done.was else None
        show_json({"machine": chosen, "logged_in": False, "was": was, "revoked": done.revoked})
        return
    say(f"{chosen} is logged out" if done.was else f"{chosen} holds no Kiro login any more", tools.flags)
    if not done.revoked:
        say("hint: Kiro was not asked to end the session: revoke it with the provider if it may be stolen", tools.flags)
        return
    say("hint: a session that was stolen before lives on until you revoke it with the provider", tools.flags)
