"""Show an image: the same facts as text and as JSON."""

from vmkit.cli.render import show_json, show_pairs
from vmkit.cli.tools import Tools
from vmkit.images.layout import Image


def image_json(image: Image) -> dict[str, object]:
    """Return an image as JSON shows it."""
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
        "signed_by": [],
        "sealed": image.sealed,
    }


def show_image(image: Image, tools: Tools) -> None:
    """Write an image to standard output, as the flags say."""
    if tools.flags.json:
        show_json({"image": image_json(image)})
    else:
        show_pairs({key: str(value) for key, value in image_json(image).items()})
