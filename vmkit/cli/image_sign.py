"""`vmkit image sign|verify`, and who has signed an image."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vmkit.cli.render import say, show_json, show_text
from vmkit.cli.tools import Tools
from vmkit.errors import Refused
from vmkit.host.durations import parse_moment
from vmkit.images.layout import Image

Reference = Annotated[str, typer.Argument(help="NAME[:TAG].")]


def sign(
    ctx: typer.Context,
    reference: Reference,
    *,
    key: Annotated[
        Path, typer.Option("--key", help="Private key, or the .pub of one that ssh-agent or a hardware key holds.")
    ],
    expires: Annotated[
        str, typer.Option("--expires", metavar="WHEN", help="12h, 30d, 2027-01-31 or 2027-01-31T12:00:00Z.")
    ] = "365d",
    newest: Annotated[
        bool, typer.Option("--newest", help="Make an image that is signed already the newest of its name again.")
    ] = False,
) -> None:
    """Sign an image with an SSH key: its digest, its place among the images of its name, and an end."""
    tools: Tools = ctx.obj
    from vmkit.workflows.trust import Guard, sign_image  # noqa: PLC0415  # for these commands only

    now = dt.datetime.now(dt.UTC)
    until = parse_moment(expires, what="--expires", now=now)
    guard = Guard.of(tools.paths, images=tools.images, runner=tools.runner)
    done = sign_image(
        find_image(reference, tools), key=key.expanduser(), guard=guard, now=now, expires=until, newest=newest
    )
    if tools.flags.json:
        show_json({"signature": done.to_json()})
        return
    name = done.image.name
    show_text(f"{name} is signed by {done.signer or done.fingerprint} until {done.to_json()['expires']}")
    if done.signer is None:
        say("this computer does not trust that key; hint: vmkit trust add SIGNER PUBLIC_KEY_FILE", tools.flags)


def verify(ctx: typer.Context, reference: Reference) -> None:
    """Check that somebody you trust has signed an image, that it is not an old one, and every byte of it and its disk.

    Exit code 6, with the reason, when it is not so.
    """
    tools: Tools = ctx.obj
    from vmkit.workflows.trust import Guard, verify_image  # noqa: PLC0415  # as above

    guard = Guard.of(tools.paths, images=tools.images, runner=tools.runner)
    image = find_image(reference, tools)
    done = verify_image(image, guard=guard, now=dt.datetime.now(dt.UTC), report=tools.report)
    if tools.flags.json:
        show_json(done.to_json())
        return
    show_text(f"{image.name} is signed by {', '.join(done.signers)}", image.digest)


def signed_by(images: Sequence[Image], tools: Tools) -> dict[str, tuple[str, ...]]:
    """Return by name who has signed each image, of those who are trusted; no image is looked at when nobody is."""
    from vmkit.images.signing.trust import Trust, TrustStore  # noqa: PLC0415  # as above
    from vmkit.workflows.trust import Guard, signers_of  # noqa: PLC0415  # as above

    try:
        trust = TrustStore(tools.paths.trust).load()
    except Refused:
        trust = Trust()
    if not trust.allowed:
        return {image.name: () for image in images}
    guard = Guard.of(tools.paths, images=tools.images, runner=tools.runner)
    now = dt.datetime.now(dt.UTC)
    return {image.name: signers_of(image, guard=guard, trust=trust, now=now) for image in images}


def find_image(reference: str, tools: Tools) -> Image:
    """Return the image without putting its disk together. Raises NotFound."""
    return tools.images.find(reference) or tools.images.get(reference)
