"""Find the data folders (`vm-templates`, `provision`, `network`): in the wheel, or beside the package in a checkout."""

from pathlib import Path

from vmkit.errors import HostLacks

_PACKAGE = Path(__file__).resolve().parent.parent


def data_folder(name: str) -> Path:
    """Return the shipped folder `name`.

    The wheel's copy comes first. The checkout's counts only when a pyproject.toml lies beside it, lest the folder of
    another distribution in site-packages be taken for ours. Raises HostLacks when the installation is broken.
    """
    packaged = _PACKAGE / "_data" / name
    if packaged.is_dir():
        return packaged
    checkout = _PACKAGE.parent / name
    if checkout.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file():
        return checkout
    raise HostLacks(f'vmkit\'s own "{name}" folder is missing', hint="pip install --force-reinstall vmkit")
