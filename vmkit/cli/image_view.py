"""Show an image: the same facts as text and as JSON."""

from collections.abc import Sequence

from vmkit.cli.image_sign import signed_by
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
