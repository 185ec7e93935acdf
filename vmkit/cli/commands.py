"""The commands by name: a command's module is imported when it runs, so that help and errors cost only the parser."""

import difflib
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from vmkit import __version__
from vmkit.cli.flags import Flags
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError

# The public name of a base class that typer keeps private: every parse error is one.
ClickError: Any = typer.BadParameter.__mro__[2]

# name → module of vmkit.cli, help. A command's module is imported when the command runs.
COMMANDS: dict[str, tuple[str, str]] = {
    "create": ("create", "Make a machine: bundle, disk, keys; start it and provision it."),
    "adopt": ("adopt", "Take over a machine that exists: UTM's, tart's, lume's."),
    "start": ("machine", "Start machines and wait until their guests are ready."),
    "stop": ("machine", "Stop machines: ask the guest, then force."),
    "restart": ("machine", "Stop and start machines."),
    "suspend": ("machine", "Pause machines; start lets them go on."),
    "list": ("machine", "List the machines and what they are doing."),
    "info": ("machine", "Show one machine."),
    "delete": ("machine", "Delete machines."),
    "run": ("session", "Bring a folder into a machine and run Kiro there; make, start and log in as needed."),
    "shell": ("guest", "Open a terminal in a machine."),
    "exec": ("guest", "Run a command in a machine; its streams and exit code pass through."),
    "copy": ("guest", "Copy files and trees into and out of a machine."),
    "login": ("login", "Log in to Kiro in a machine."),
    "auth": ("auth", "Show a machine's Kiro login; log it out."),
    "provision": ("provision", "Apply a machine's recipes; resume where it stopped."),
    "net": ("net", "See and change what a machine's guest may reach."),
    "policy": ("policy", "Turn srt's settings into a policy, and a policy into files for this computer."),
    "verify": ("verify", "Have a machine prove its walls, from inside as root."),
    "drift": ("drift", "Show what changed in a machine against its image, ranked by risk."),
    "compare": ("compare", "Compare the walls a program can be put behind, measured on this computer."),
    "logs": ("console", "Show what a machine wrote to its console."),
    "console": ("console", "Attach to a machine's serial console."),
    "image": (
        "image",
        "Build, fetch, save, clone, refresh, show, compare, sign, verify, push, pull, tag, delete and prune images.",
    ),
    "trust": ("trust", "Say whose signatures of images count."),
    "template": ("template", "List, show and check templates."),
    "recipe": ("recipe", "List and show recipes."),
    "bundle": ("bundle", "Render a bundle; judge one as UTM would."),
    "config": ("config", "Read and write settings."),
    "doctor": ("doctor", "Check this computer, with a fix for each finding."),
}
_HIDDEN = {"keeper": "keeper"}  # what vmkit starts itself
ALIASES = {"ls": "list", "rm": "delete", "cp": "copy"}

_EPILOG = (
    "Anywhere on the line: --json, -q/--quiet, -v/--verbose (-vv: every foreign command), --debug, --yes, --no-input."
)


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and imports the one that runs."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> Any:  # noqa: ARG002
        """Import and return one command."""
        import importlib  # noqa: PLC0415

        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS and name not in _HIDDEN:
            return None
        module = importlib.import_module(f"vmkit.cli.{_HIDDEN.get(name) or COMMANDS[name][0]}")
        command: Any = get_command(module.app)
        found = command.commands.get(name) if name in getattr(command, "commands", {}) else command
        found.name = name
        return found

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command. Raises UsageError with the nearest names."""
        if args and ALIASES.get(args[0], args[0]) not in {*COMMANDS, *_HIDDEN} and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], [*COMMANDS, *ALIASES], n=2)
            raise UsageError(
                f'there is no command "{args[0][:40]}"',
                hint=f"did you mean {' or '.join(near)}?" if near else "vmkit --help",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


root = typer.Typer(
    cls=LazyGroup,
    name="vmkit",
    help="A virtual machine of its own for an AI coding agent.",
    epilog=_EPILOG,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@root.callback()
def _root(*, version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:  # noqa: FBT003
    if version:
        typer.echo(f"vmkit {__version__}")
        raise typer.Exit


def dispatch(words: Sequence[str], flags: Flags) -> int:
    """Parse a command line and run its command; return the exit code. Raises UsageError, KeyboardInterrupt."""
    try:
        return (
            get_command(root).main(args=list(words), prog_name="vmkit", standalone_mode=False, obj=Tools(flags=flags))
            or 0
        )
    except ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer keeps its class private too
            sys.stderr.write(error.format_message() + "\n")
            return 2
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context is not None else "vmkit --help"
        raise UsageError(error.format_message(), hint=hint) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
