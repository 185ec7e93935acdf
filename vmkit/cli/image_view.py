"""Show an image: the same facts as text and as JSON."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vmkit.cli.image_sign import Reference, find_image, signed_by
from vmkit.cli.render import show_json, show_pairs
from vmkit.cli.tools import Tools
from vmkit.images.layout import Image


def image_json(image: Image, signers: Sequence[str]) -> dict[str, object]:
    """Return an image as JSON shows it, with who has signed it."""
    return {
        "name": image.name,
        "digest": image.digest,
        "release": image.release,
        "arch": image.arch,
        "boot": str(image.boot),
        "kernel_arguments": image.kernel_arguments,
        "virtual_bytes": image.virtual_bytes,
        "stored_bytes": image.stored_bytes,
        "created": image.created,
        "signed_by": list(signers),
        "sealed": image.sealed,
    }


def show_image(image: Image, tools: Tools, **more: object) -> None:
    """Write an image to standard output, as the flags say; `more` goes into the JSON."""
    signers = signed_by((image,), tools)[image.name]
    said = image_json(image, signers)
    if tools.flags.json:
        show_json({"image": said} | more)
    else:
        said["signed_by"] = ", ".join(signers) or "nobody you trust"
        show_pairs({key: str(value) for key, value in said.items()})


def show(
    ctx: typer.Context,
    reference: Reference,
    *,
    vulnerabilities: Annotated[
        bool,
        typer.Option("--vulnerabilities", help="Also ask debsecan, which fetches Debian's data, about its packages."),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option("--vulnerability-data", metavar="DIR", help="Debian's data in a folder, instead of the network."),
    ] = None,
) -> None:
    """Show one image: what it was made from, who signed it, how old it is, what it shares with others."""
    tools: Tools = ctx.obj
    from vmkit.cli.image_details import show_facts, show_vulnerabilities  # noqa: PLC0415  # for this command only
    from vmkit.workflows.image_facts import image_facts  # noqa: PLC0415  # as above
    from vmkit.workflows.image_vulnerabilities import Vulnerabilities, find_vulnerabilities  # noqa: PLC0415  # as above
    from vmkit.workflows.trust import Guard  # noqa: PLC0415  # as above

    image = find_image(reference, tools)
    guard = Guard.of(tools.paths, images=tools.images, runner=tools.runner)
    facts = image_facts(image, machines=tools.machines, guard=guard, now=dt.datetime.now(dt.UTC))
    known = Vulnerabilities(reason="nobody asked: --vulnerabilities")
    if vulnerabilities or data is not None:
        with tools.report.phase("vulnerabilities", "Asking debsecan"):
            known = find_vulnerabilities(facts.manifest.meta, runner=tools.runner, data=data)
    if tools.flags.json:
        show_json({"image": image_json(image, facts.signers) | facts.to_json() | known.to_json()})
        return
    show_facts(facts, tools)
    if vulnerabilities or data is not None:
        show_vulnerabilities(known, tools)
