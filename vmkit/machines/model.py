"""A machine: what vmkit recorded when it made it. Whether it runs is asked of its driver, never stored here."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vmkit.drivers.base import Vm
from vmkit.errors import UsageError

_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")

Option = str | int | bool


def checked_name(name: str) -> str:
    """Return `name` when it may name a machine. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f'"{name[:60]}" cannot name a machine',
            hint="a lower-case letter, then up to 40 lower-case letters, digits or hyphens",
        )
    return name


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine, as `machine.json` holds it, and the folder that it lives in."""

    name: str
    uuid: str
    driver: str
    template: str
    image: str
    image_digest: str
    arch: str
    cpus: int
    memory_mib: int
    disk_bytes: int
    user: str
    recipes: tuple[str, ...]
    egress: str
    options: Mapping[str, Option]
    created: str
    folder: Path
    backend: str = "qemu"  # UTM's: qemu or apple
    system: str = "linux"  # what runs in it: linux or macos

    @property
    def bundle(self) -> Path:
        """The `.utm` folder."""
        return self.folder / f"{self.name}.utm"

    @property
    def keys(self) -> Path:
        """The folder with the user key and the host key."""
        return self.folder / "keys"

    @property
    def policy(self) -> Path:
        """What its guest may reach: beside its record, where no guest can write."""
        return self.folder / "policy.toml"

    @property
    def journal(self) -> Path:
        """Present while an operation is unfinished."""
        return self.folder / "journal.json"

    @property
    def instance_id(self) -> str:
        """What the seed calls this machine; the guest repeats it when the seed is applied."""
        return self.uuid.lower()

    @property
    def seeded(self) -> bool:
        """Whether it was made from an image, which reads our seed; an adopted machine and a macOS guest were not."""
        return bool(self.image)

    def vm(self, sockets: Path) -> Vm:
        """Return what a driver needs to know."""
        return Vm(
            name=self.name, uuid=self.uuid, bundle=self.bundle, home=self.folder, sockets=sockets, backend=self.backend
        )

    def to_json(self) -> str:
        """Return the content of `machine.json`."""
        recorded = {key: value for key, value in asdict(self).items() if key != "folder"}
        return json.dumps({"schema": 1, **recorded}, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, content: bytes, *, folder: Path) -> "Machine":
        """Read `machine.json`. Raises ValueError when it is not one."""
        data: Any = json.loads(content)
        if not isinstance(data, dict) or data.get("schema") != 1:
            raise ValueError("not a machine.json of schema 1")
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name == "folder":
                continue
            value = data.get(field.name, field.default)
            kind = _KINDS[field.name]
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise ValueError(f'"{field.name}" is missing or of the wrong type')
            values[field.name] = value
        if values["name"] != folder.name or not _NAME.fullmatch(values["name"]):
            raise ValueError(f'"name" is not "{folder.name}"')
        values["recipes"] = tuple(str(recipe) for recipe in values["recipes"])
        return cls(**values, folder=folder)


_KINDS: dict[str, type] = {
    **dict.fromkeys(
        (
            "name",
            "uuid",
            "driver",
            "template",
            "image",
            "image_digest",
            "arch",
            "user",
            "egress",
            "created",
            "backend",
            "system",
        ),
        str,
    ),
    **dict.fromkeys(("cpus", "memory_mib", "disk_bytes"), int),
    "recipes": list,
    "options": dict,
}
