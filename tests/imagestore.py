"""A vmkit installation with images and machines that are only records: what looks at images needs no more."""

import json
import uuid
from pathlib import Path

from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.images.layout import Boot, Image, ImageMeta
from vmkit.images.store import ImageStore
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.trust import Guard

MIB = 1 << 20


class Installation:
    """Everything lies in `home`, as with VMKIT_HOME."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.paths = Paths(config=home, data=home, cache=home / "cache")
        self.machines, self.images = MachineStore(self.paths), ImageStore(self.paths.images)

    @property
    def guard(self) -> Guard:
        return Guard.of(self.paths, images=self.images, runner=Runner())

    def image(self, name: str, *chunks: bytes, created: str = "2026-01-02T03:04:05Z", **meta: object) -> Image:
        """Add an image with one chunk of 4 MiB for each of `chunks`, which it begins with."""
        disk = self.home.parent / "disk.raw"
        with disk.open("wb") as file:
            for number, chunk in enumerate(chunks or (b"data",)):
                file.seek(number * 4 * MIB)
                file.write(chunk.ljust(4096, b"."))
            file.truncate(max(len(chunks), 1) * 4 * MIB)
        said = ImageMeta(**{"arch": "x86_64", "boot": Boot.UEFI, "user": "agent", "created": created, **meta})
        return self.images.add(name, disk=disk, meta=said, report=Silent())

    def machine(self, name: str, image: Image) -> Machine:
        """Record a machine that was made from an image."""
        machine = Machine(
            name=name,
            uuid=str(uuid.uuid4()).upper(),
            driver="qemu",
            template="kiro",
            image=image.name,
            image_digest=image.digest,
            arch=image.arch,
            cpus=1,
            memory_mib=512,
            disk_bytes=image.virtual_bytes,
            user="agent",
            recipes=(),
            egress="strict",
            options={},
            created="2026-01-02T03:04:05+00:00",
            folder=self.paths.machines / name,
        )
        machine.folder.mkdir(parents=True, mode=0o700)
        self.machines.save(machine)
        return machine

    def names(self) -> list[str]:
        return sorted(self.images.index().names)

    def has_disk(self, image: Image) -> bool:
        return self.images.assembled(image.digest).is_dir()

    def blobs(self) -> set[str]:
        return {path.name for path in (self.paths.images / "blobs/sha256").iterdir()}

    def index(self) -> object:
        return json.loads((self.paths.images / "index.json").read_text())
