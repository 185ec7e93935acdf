"""`vmkit create`."""

import sys
from typing import Annotated

import typer

from vmkit.cli.render import say, show_json, show_pairs, show_text
from vmkit.cli.tools import Tools
from vmkit.host.sizes import show_size
from vmkit.workflows.plan import Plan, Wishes, make_plan

app = typer.Typer(rich_markup_mode=None, add_completion=False)

Template = Annotated[str | None, typer.Option("--template", "-t", help="Template: kiro, debian, or one of yours.")]
Cpus = Annotated[int | None, typer.Option("--cpus", "--cpu", help="Number of CPUs.")]
Memory = Annotated[str | None, typer.Option("--memory", "--mem", help="Memory: 4, 4G, 4GiB, 4096M.")]
Disk = Annotated[str | None, typer.Option("--disk", help="Disk size; the guest's root file system grows to it.")]
Image = Annotated[str | None, typer.Option("--image", help="Image NAME[:TAG].")]
Driver = Annotated[str | None, typer.Option("--driver", help="utm or qemu.")]
Recipes = Annotated[list[str] | None, typer.Option("--recipe", help="Recipe, instead of the template's; repeat.")]
Options = Annotated[list[str] | None, typer.Option("--set", help="Template option KEY=VALUE; repeat.")]
Egress = Annotated[str | None, typer.Option("--egress", help="open or airgap (strict is to come).")]


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
        say(f"hint: vmkit {'start' if no_start else 'shell'} {name}", tools.flags)
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not tools.flags.no_input
    if on_terminal and "kiro-cli" in plan.recipes and not (no_start or no_provision or no_login):
        from vmkit.workflows.login import login  # noqa: PLC0415

        machine = tools.machine(name)
        raise typer.Exit(login(machine, machines=tools.machines, driver=tools.driver(machine.driver)))


def _show_plan(plan: Plan, tools: Tools) -> None:
    if tools.flags.json:
        show_json({"plan": plan.to_json()})
        return
    show_pairs(
        {
            "name": plan.name,
            "template": f"{plan.template.name} ({plan.template.summary})",
            "driver": plan.driver,
            "image": plan.image if tools.images.find(plan.image) else f"{plan.image} (will be built)",
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
