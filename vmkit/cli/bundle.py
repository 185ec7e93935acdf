"""`vmkit bundle render` and `vmkit bundle check`."""

from pathlib import Path
from typing import Annotated

import typer

from vmkit.cli.create import (
    ByHand,
    Cpus,
    Disk,
    Driver,
    Egress,
    Image,
    Installer,
    Ipsw,
    Memory,
    Options,
    Recipes,
    Template,
)
from vmkit.cli.render import say, show_json, show_text
from vmkit.cli.tools import Tools
from vmkit.host.text import printable

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Bundles.")


@app.command("render")
def render(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the machine in the bundle.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write NAME.utm into.")],
    *,
    template: Template = None,
    cpus: Cpus = None,
    memory: Memory = None,
    disk: Disk = None,
    image: Image = None,
    driver: Driver = None,
    recipe: Recipes = None,
    options: Options = None,
    egress: Egress = None,
    ipsw: Ipsw = None,
    installer: Installer = None,
    install_by_hand: ByHand = False,
) -> None:
    """Write a bundle and nothing else: no machine is made, and its disk is not filled."""
    tools: Tools = ctx.obj
    from vmkit.workflows.create import write_bundle_only  # noqa: PLC0415
    from vmkit.workflows.plan import Wishes, make_plan  # noqa: PLC0415

    wishes = Wishes(
        name=name,
        template=template,
        cpus=cpus,
        memory=memory,
        disk=disk,
        image=image,
        driver=driver,
        recipes=recipe,
        options=options or (),
        egress=egress,
        ipsw=ipsw,
        installer=installer,
        by_hand=install_by_hand,
    )
    plan = make_plan(wishes, settings=tools.settings, machines=tools.machines, images=tools.images, new=False)
    path = write_bundle_only(plan, tools.images.find(plan.image) if plan.image else None, output=output)
    if tools.flags.json:
        show_json({"bundle": str(path)})
    else:
        show_text(str(path))


@app.command("check")
def check(ctx: typer.Context, path: Annotated[Path, typer.Argument(help="A config.plist or a .utm folder.")]) -> None:
    """Judge a bundle as UTM would: exit 0 when it loads, 6 when it does not, with the key path."""
    tools: Tools = ctx.obj
    from vmkit.bundle.check import check as judge  # noqa: PLC0415

    verdict = judge(path)
    if tools.flags.json:
        show_json(verdict.to_json())
    else:
        for problem in verdict.problems:
            show_text(printable(f"{problem.path}: {problem.problem}" if problem.path else problem.problem))
        for key in verdict.ignored_keys:
            show_text(printable(f"ignored: {key}"))
        for key in verdict.defaults:
            show_text(printable(f"default: {key}"))
        say("UTM would load it" if verdict.loads else "UTM would not load it", tools.flags)
    raise typer.Exit(0 if verdict.loads else 6)
