"""Recognise a machine that another program made: a `.utm` bundle, a machine of tart's, a machine of lume's."""

from pathlib import Path

from vmkit.bundle.foreign_json import CONFIG_JSON, read_json_machine
from vmkit.bundle.foreign_machine import ForeignDisk, ForeignMachine, LookAtDisk, refuse
from vmkit.bundle.foreign_utm import read_utm_machine
from vmkit.bundle.layout import CONFIG_NAME
from vmkit.errors import NotFound
from vmkit.host.text import printable

__all__ = ["ForeignDisk", "ForeignMachine", "LookAtDisk", "read_foreign"]


def read_foreign(path: Path, *, look: LookAtDisk) -> ForeignMachine:
    """Return the machine in the folder `path`, which is only read. `look` judges a disk file by its header.

    Raises NotFound (nothing there), Refused with the reason.
    """
    if not path.exists():
        raise NotFound(f'there is no "{printable(str(path), max_chars=200)}"')
    folder = path.resolve()
    try:
        return _read(folder, look)
    except OSError as error:  # a right is missing, or it changes under our eyes
        raise refuse(folder, f"it cannot be read: {error.strerror}") from error


def _read(folder: Path, look: LookAtDisk) -> ForeignMachine:
    if not folder.is_dir():
        raise refuse(folder, "it is not a folder", hint="name a .utm bundle, or a machine's folder of tart or lume")
    if (folder / CONFIG_NAME).exists() or folder.suffix == ".utm":
        return read_utm_machine(folder, look=look)
    if (folder / CONFIG_JSON).exists():
        return read_json_machine(folder, look=look)
    raise refuse(
        folder,
        f"it holds neither {CONFIG_NAME} nor {CONFIG_JSON}",
        hint="name a .utm bundle, or a machine's folder of tart or lume",
    )
