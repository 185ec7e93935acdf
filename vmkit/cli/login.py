"""`vmkit login`, and how a login is shown."""

import sys
from typing import Annotated

import typer

from vmkit.cli.arguments import Name
from vmkit.cli.render import say, show_json
from vmkit.cli.tools import Tools
from vmkit.kiro.login import Prompt
from vmkit.kiro.verification import Wanted, checked_wish
from vmkit.machines.model import Machine

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command("login")
def login(
    ctx: typer.Context,
    name: Name = None,
    *,
    license_: Annotated[str, typer.Option("--license", help="free (Builder ID) or pro (your organisation).")] = "free",
    identity_provider: Annotated[str | None, typer.Option(help="Start URL of your organisation (pro).")] = None,
    region: Annotated[str | None, typer.Option(help="Region of your organisation (pro), such as us-east-1.")] = None,
    social: Annotated[str | None, typer.Option(help="google or github.")] = None,
    qr: Annotated[bool, typer.Option("--qr", help="Show the URL as a QR code too.")] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open the URL in this computer's browser.")] = False,
    after_workspace: Annotated[
        bool, typer.Option("--after-workspace", help="Log in although a workspace was brought in.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for you to confirm the code.")] = 900.0,
) -> None:
    """Log in to Kiro in a machine: confirm the code shown here in your browser; the rest goes by itself."""
    tools: Tools = ctx.obj
    wanted = checked_wish(license_, social=social, identity_provider=identity_provider, region=region)
    machine = tools.machine(name)
    log_in(tools, machine, wanted, qr=qr, open_=open_, after_workspace=after_workspace, timeout_s=timeout)


def log_in(
    tools: Tools,
    machine: Machine,
    wanted: Wanted,
    *,
    qr: bool = False,
    open_: bool = False,
    after_workspace: bool = False,
    timeout_s: float = 900.0,
) -> None:
    """Run the login and show it. Also what `create` and `run` end in."""
    from vmkit.workflows.login import login as follow  # noqa: PLC0415  # paramiko
    from vmkit.workflows.login_store import record_login  # noqa: PLC0415

    screen = Screen(tools, machine, qr=qr, open_=open_)
    try:
        done = follow(
            machine,
            machines=tools.machines,
            driver=tools.driver(machine.driver),
            wanted=wanted,
            screen=screen,
            report=tools.report,
            timeout_s=timeout_s,
            after_workspace=after_workspace,
        )
    finally:
        screen.close()
    if not done.already:
        record_login(machine, paths=tools.paths)
    if tools.flags.json:
        show_json({"machine": machine.name, "already": done.already, "logged_in": True, **done.identity.to_json()})
        return
    say(f"{machine.name} {'was' if done.already else 'is'} logged in with {done.identity.text}", tools.flags)


class Screen:
    """Draws the prompt on stderr: a frame of ours, in which nothing is a guest's but the checked code."""

    def __init__(self, tools: Tools, machine: Machine, *, qr: bool, open_: bool) -> None:
        self._tools, self._machine, self._qr, self._open = tools, machine, qr, open_
        self._drawn = False

    def prompt(self, prompt: Prompt, *, wanted: Wanted) -> None:
        """Draw the frame, and open the browser if the user asked for that."""
        self._end_line()
        sys.stderr.write(frame(prompt, machine=self._machine.name, host=wanted.host) + "\n")
        if self._qr:
            sys.stderr.write(qr_code(prompt.url) + "\n")
        sys.stderr.flush()
        if self._open:
            from vmkit.host.browser import open_in_browser  # noqa: PLC0415  # on request only

            open_in_browser(prompt.url, runner=self._tools.runner)

    def waiting(self, *, left_s: float) -> None:
        """Count down, on a terminal only."""
        if sys.stderr.isatty() and not self._tools.flags.quiet:
            sys.stderr.write(f"\rwaiting for you to confirm it: {left_s // 60:.0f}:{left_s % 60:02.0f} left ")
            sys.stderr.flush()
            self._drawn = True

    def close(self) -> None:
        """Leave the cursor on a line of its own."""
        self._end_line()

    def _end_line(self) -> None:
        if self._drawn:
            sys.stderr.write("\n")
            self._drawn = False


def frame(prompt: Prompt, *, machine: str, host: str) -> str:
    """Return the frame, plain text: 76 columns unless the URL needs more."""
    large = "  ".join(prompt.code.replace("-", "\u2013"))
    lines = [
        f'Machine "{machine}" asks to sign in to Kiro. You started this just now.',
        "",
        f"        {large}",
        "",
        "Open this page on any device:",
        f"  {prompt.url}",
        "",
        f"Check that the address is {host}, and that the page says Kiro CLI",
        f"and shows this code: {prompt.code}. Otherwise close it.",
        f"Approving gives the session to {machine}, and to whatever runs in it.",
    ]
    width = max(72, *(len(line) for line in lines))
    body = [f"\u2502 {line.ljust(width)} \u2502" for line in lines]
    bar = "\u2500" * (width + 2)
    return "\n".join([f"\u256d{bar}\u256e", *body, f"\u2570{bar}\u256f"])


def qr_code(url: str) -> str:
    """Return a QR code drawn in half blocks."""
    import io  # noqa: PLC0415  # on request only

    import segno  # noqa: PLC0415

    drawn = io.StringIO()
    segno.make(url, error="l", micro=False).terminal(drawn, compact=True)
    return drawn.getvalue()
