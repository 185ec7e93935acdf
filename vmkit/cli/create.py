"""`vmkit create`."""

import sys
from typing import Annotated

import typer

from vmkit.cli.render import say, show_json, show_pairs, show_text
from vmkit.cli.tools import Tools
from vmkit.host.sizes import show_size
from vmkit.host.text import printable
from vmkit.workflows.images import how_it_comes
from vmkit.workflows.plan import Plan, Wishes, make_plan

app = typer.Typer(rich_markup_mode=None, add_completion=False)

Template = Annotated[
    str | None,
    typer.Option("--template", "-t", help="Template: kiro, debian, kiro-apple, kiro-macos, or one of yours."),
]
Cpus = Annotated[int | None, typer.Option("--cpus", "--cpu", help="Number of CPUs.")]
Memory = Annotated[str | None, typer.Option("--memory", "--mem", help="Memory: 4, 4G, 4GiB, 4096M.")]
Disk = Annotated[str | None, typer.Option("--disk", help="Disk size; the guest's root file system grows to it.")]
Image = Annotated[str | None, typer.Option("--image", help="Image NAME[:TAG].")]
Driver = Annotated[str | None, typer.Option("--driver", help="utm or qemu.")]
Recipes = Annotated[list[str] | None, typer.Option("--recipe", help="Recipe, instead of the template's; repeat.")]
Options = Annotated[list[str] | None, typer.Option("--set", help="Template option KEY=VALUE; repeat.")]
Egress = Annotated[str | None, typer.Option("--egress", help="strict: what its policy names; open; airgap: nothing.")]
Ipsw = Annotated[
    str | None,
    typer.Option("--ipsw", metavar="PATH|URL", help="macOS guests: the restore image to install, checked first."),
]
Installer = Annotated[
    str | None,
    typer.Option(
        "--installer",
        metavar="latest|boot-partition",
        help="macOS guests: Apple's newest restore image (the default). boot-partition is another word for the same: "
        "neither UTM nor Virtualization.framework can install from this Mac's own boot or recovery partition.",
    ),
]
ByHand = Annotated[
    bool,
    typer.Option("--install-by-hand", help="macOS guests: register the machine, and install it in UTM's own window."),
]


@app.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A lower-case letter, then letters, digits, hyphens.")],
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
    no_start: Annotated[bool, typer.Option("--no-start", help="Make it only.")] = False,
    no_provision: Annotated[bool, typer.Option("--no-provision", help="Apply no recipe.")] = False,
    no_login: Annotated[bool, typer.Option("--no-login", help="Do not end in a Kiro login.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and write nothing.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the guest.")] = 600.0,
) -> None:
    """Make a machine: render its bundle, make disk and keys, start it, wait for SSH, provision it."""
    tools: Tools = ctx.obj
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
    plan = make_plan(wishes, settings=tools.settings, machines=tools.machines, images=tools.images)
    if dry_run:
        _show_plan(plan, tools)
        return
    from vmkit.workflows.create import create as make  # noqa: PLC0415  # the heavy half

    say(
        f"{name}: {plan.cpus} CPUs, {show_size(plan.memory_mib << 20)} memory, {show_size(plan.disk_bytes)} disk",
        tools.flags,
    )
    created = make(
        plan,
        machines=tools.machines,
        images=tools.images,
        driver=tools.driver(plan.driver),
        runner=tools.runner,
        report=tools.report,
        timeout_s=timeout,
        start=not no_start,
        provision=not no_provision,
    )
    if tools.flags.json:
        show_json(created.to_json())
    else:
        done = created.provision
        times = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in created.seconds.items())
        show_text(f"{name} is {created.status.state} ({done.changed} changed, {done.unchanged} unchanged; {times})")
        for line in created.guide:
            show_text(line)
        if not created.guide:
            say(f"hint: vmkit {'start' if no_start else 'shell'} {name}", tools.flags)
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not tools.flags.no_input
    if on_terminal and "kiro-cli" in plan.recipes and not (no_start or no_provision or no_login):
        from vmkit.cli.login import log_in  # noqa: PLC0415
        from vmkit.kiro.verification import Wanted  # noqa: PLC0415

        log_in(tools, tools.machine(name), Wanted())


def _show_plan(plan: Plan, tools: Tools) -> None:
    if tools.flags.json:
        show_json({"plan": plan.to_json()})
        return
    show_pairs(
        {
            "name": plan.name,
            "template": f"{plan.template.name} ({plan.template.summary})",
            "driver": plan.driver,
            **_source(plan, tools),
            "CPUs": str(plan.cpus),
            "memory": show_size(plan.memory_mib << 20),
            "disk": show_size(plan.disk_bytes),
            "user": plan.user,
            "recipes": ", ".join(plan.recipes) or "none",
            "egress": plan.egress,
            **{f"option {key}": str(value) for key, value in plan.options.items()},
            "bundle": str(tools.paths.machines / plan.name / f"{plan.name}.utm"),
        }
    )


def _source(plan: Plan, tools: Tools) -> dict[str, str]:
    if plan.mac_source is None:
        coming = how_it_comes(plan.image, images=tools.images, runner=tools.runner)
        return {"image": f"{plan.image} ({coming})" if coming else plan.image}
    how = "by hand, in UTM's window" if plan.mac_source.by_hand else "by vmkit's installer"
    return {"macOS": printable(str(plan.mac_source)), "installed": how}
