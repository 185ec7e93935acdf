"""`vmkit image build|fetch|import|save|clone|refresh|list|show|delete|sign|verify|push|pull|tag|diff|prune`."""

import re
from pathlib import Path
from typing import Annotated

import typer

from vmkit.cli.image_clone import clone
from vmkit.cli.image_diff import diff
from vmkit.cli.image_prune import prune
from vmkit.cli.image_refresh import refresh
from vmkit.cli.image_save import save
from vmkit.cli.image_sign import sign, signed_by, verify
from vmkit.cli.image_tag import tag
from vmkit.cli.image_transfer import pull, push
from vmkit.cli.image_view import image_json, show, show_image
from vmkit.cli.render import say, show_json, show_table
from vmkit.cli.tools import Tools
from vmkit.host.computer import machine_arch
from vmkit.host.sizes import show_size
from vmkit.images.catalog import find_cloud_image

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True, help="Images.")


@app.command("build")
def build(
    ctx: typer.Context,
    release: Annotated[str, typer.Argument(help="debian-13 or debian-12.")],
    *,
    mirror: Annotated[str | None, typer.Option(help="Debian mirror.")] = None,
    tag: Annotated[str, typer.Option(help="Tag of the new image.")] = "latest",
) -> None:
    """Build a Debian image with mmdebstrap (Linux hosts)."""
    tools: Tools = ctx.obj
    from vmkit.images.build import build_image  # noqa: PLC0415

    image = build_image(
        release, store=tools.images, runner=tools.runner, report=tools.report, mirror=mirror, tag=tag, again=True
    )
    show_image(image, tools)


@app.command("fetch")
def fetch(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="debian-13, debian-12 or ubuntu-24.04.")],
    *,
    arch: Annotated[str | None, typer.Option(help="x86_64 or aarch64; default: this computer's.")] = None,
    tag: Annotated[
        str, typer.Option(help="Tag of the image; default: latest, or the architecture when it is another.")
    ] = "",
) -> None:
    """Fetch a publisher's cloud image: digest and signature are checked, a broken download goes on where it was."""
    tools: Tools = ctx.obj
    from vmkit.images.fetch import fetch_image  # noqa: PLC0415

    wanted = find_cloud_image(name, arch=arch or machine_arch())
    image = fetch_image(wanted, store=tools.images, runner=tools.runner, report=tools.report, tag=tag)
    show_image(image, tools)


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A qcow2 or raw disk.")],
    reference: Annotated[str | None, typer.Argument(help="NAME[:TAG]; default: the file's name.")] = None,
    *,
    boot: Annotated[str, typer.Option(help="uefi or bios.")] = "uefi",
    user: Annotated[str, typer.Option(help="The user to log in as.")] = "agent",
) -> None:
    """Import a disk: its header is checked first, then it is flattened."""
    tools: Tools = ctx.obj
    from vmkit.images.importer import import_image  # noqa: PLC0415

    image = import_image(
        file,
        reference or _named_after(file),
        store=tools.images,
        runner=tools.runner,
        report=tools.report,
        boot=boot,
        user=user,
    )
    show_image(image, tools)


@app.command("list")
def list_images(ctx: typer.Context) -> None:
    """List the images."""
    tools: Tools = ctx.obj
    images = tools.images.list()
    signers = signed_by(images, tools)
    if tools.flags.json:
        show_json({"images": [image_json(image, signers[image.name]) for image in images]})
    elif images:
        show_table(
            ("NAME", "ARCH", "BOOT", "SIZE", "STORED", "CREATED", "DIGEST", "SIGNED BY"),
            [
                (
                    image.name,
                    image.arch,
                    image.boot,
                    show_size(image.virtual_bytes),
                    show_size(image.stored_bytes),
                    image.created,
                    image.digest[7:19],
                    ", ".join(signers[image.name]),
                )
                for image in images
            ],
        )
    else:
        say("no images yet; hint: vmkit image build debian-13, or vmkit image fetch debian-13", tools.flags)


@app.command("delete")
def delete(ctx: typer.Context, reference: Annotated[str, typer.Argument(help="NAME[:TAG].")]) -> None:
    """Delete an image. Refused while a machine stands on it and it has no other name."""
    tools: Tools = ctx.obj
    from vmkit.workflows.prune import delete_image  # noqa: PLC0415  # for this command only

    name = delete_image(reference, images=tools.images, machines=tools.machines)
    say(f"{name} is deleted", tools.flags)


app.command("show")(show)
app.command("save")(save)
app.command("clone")(clone)
app.command("refresh")(refresh)
app.command("sign")(sign)
app.command("verify")(verify)
app.command("push")(push)
app.command("pull")(pull)
app.command("tag")(tag)
app.command("diff")(diff)
app.command("prune")(prune)


def _named_after(file: Path) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._") or "imported"
