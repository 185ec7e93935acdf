"""`vmkit image prune`."""

import sys
from typing import Annotated

import typer

from vmkit.cli.render import say, show_json, show_table
from vmkit.cli.tools import Tools
from vmkit.errors import UsageError
from vmkit.host.sizes import show_size
from vmkit.host.text import printable


def prune(
    ctx: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be freed, and free nothing.")] = False,
    keep: Annotated[
        int | None,
        typer.Option("--keep", metavar="N", min=1, help="Also delete images: all but the newest N tags of each name."),
    ] = None,
) -> None:
    """Free what no machine and no image needs: disks that can be put together again, what killed commands left.

    Images are deleted with --keep only, and never a channel (stable and the like), nor what a machine uses.
    """
    tools: Tools = ctx.obj
    from vmkit.workflows.prune import plan_prune  # noqa: PLC0415  # for this command only
    from vmkit.workflows.prune import prune as free  # noqa: PLC0415  # as above

    plan = plan_prune(images=tools.images, machines=tools.machines, keep=keep)
    if not tools.flags.json:
        if plan.items:
            rows = [(str(item.kind), printable(item.what), show_size(item.size), item.why) for item in plan.items]
            show_table(("KIND", "WHAT", "SIZE", "WHY"), rows)
        for kept in plan.kept:
            say(f"kept: {kept}", tools.flags)
    freed = 0
    if plan.items and not dry_run:
        _ask(tools, size=plan.size)
        freed = free(plan, images=tools.images, machines=tools.machines)
    if tools.flags.json:
        show_json({"prune": plan.to_json() | {"dry_run": dry_run, "freed_bytes": freed}})
    elif not plan.items:
        say("there is nothing to free", tools.flags)
    else:
        say(f"{show_size(plan.size)} can be freed" if dry_run else f"freed {show_size(freed)}", tools.flags)


def _ask(tools: Tools, *, size: int) -> None:
    """Return when it may be done. Raises UsageError when nobody can be asked, KeyboardInterrupt for a no."""
    if tools.flags.yes:
        return
    if tools.flags.no_input or not sys.stdin.isatty():
        raise UsageError(
            "nobody can be asked whether to free this",
            hint="vmkit image prune --yes, or --dry-run to see it first",
        )
    typer.confirm(f"Free {show_size(size)}?", abort=True, err=True)
