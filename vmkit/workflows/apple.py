"""What a machine of UTM's Apple backend needs that one of the QEMU backend does not: raw disks and a plain kernel."""

import uuid
from pathlib import Path

from vmkit.bundle.layout import Rendered
from vmkit.bundle.mac_platform import hardware_model, make_generic_identifier, make_machine_identifier
from vmkit.bundle.render_apple import AppleValues, render_apple
from vmkit.errors import Refused
from vmkit.host.computer import clone_file
from vmkit.host.files import require_space
from vmkit.images.layout import Image
from vmkit.workflows.plan import Plan

KERNEL, INITRD, SEED = "vmlinuz", "initrd.img", "seed.iso"

_NEWEST_MODEL = (13,)  # until a restore image says otherwise
_CONSOLE = "console=hvc0"  # the framework's serial port is a virtio console
_ARM64_MAGIC = b"ARM\x64"  # Linux, Documentation/arch/arm64/booting.rst: at offset 56 of an uncompressed Image
_ARM64_MAGIC_AT = 56


def render_apple_machine(
    plan: Plan, image: Image | None, *, identity: str, mac: str, model: bytes | None = None, mac_id: bytes | None = None
) -> Rendered:
    """Render the bundle of a `plan` for the Apple backend. `model` and `mac_id` are what a Mac's installer made.

    Raises UsageError, Refused (a platform that cannot be decoded).
    """
    disk_id = str(uuid.uuid4()).upper()
    if plan.system == "macos":
        restore = plan.mac_source.image if plan.mac_source else None
        return render_apple(
            plan.template,
            AppleValues(
                name=plan.name,
                uuid=identity,
                mac=mac,
                arch=plan.arch,
                cpus=plan.cpus,
                memory_mib=plan.memory_mib,
                boot="macos",
                disk_identifier=disk_id,
                disk_name=f"{disk_id}.img",
                hardware_model=model or (restore.hardware_model if restore else hardware_model(_NEWEST_MODEL)),
                machine_identifier=mac_id or make_machine_identifier(),
                options=plan.options,
            ),
        )
    direct = image is None or image.boot == "direct"
    return render_apple(
        plan.template,
        AppleValues(
            name=plan.name,
            uuid=identity,
            mac=mac,
            arch=image.arch if image else plan.arch,
            cpus=plan.cpus,
            memory_mib=plan.memory_mib,
            boot="direct" if direct else "uefi",
            disk_identifier=disk_id,
            disk_name=f"{disk_id}.img",
            machine_identifier=make_generic_identifier(),
            seed_name=SEED,
            kernel_name=KERNEL if direct else None,
            initrd_name=INITRD if direct else None,
            kernel_arguments=for_virtio_console(image.kernel_arguments) if direct and image else None,
            options=plan.options,
        ),
    )


def for_virtio_console(arguments: str) -> str:
    """Return a kernel's arguments with its console on the framework's serial port."""
    kept = [word for word in arguments.split() if not word.startswith("console=")]
    return " ".join([*kept, _CONSOLE])


def fill_apple(data: Path, image: Image, *, disk_name: str, size_bytes: int) -> None:
    """Put the image's disk, grown to `size_bytes`, into `data`.

    Raises HostLacks (space), Refused for a kernel that the framework cannot start.
    """
    if image.kernel is not None:
        require_plain_kernel(image.kernel, arch=image.arch)
    require_space(data, needed_bytes=image.disk.stat().st_blocks * 512, what="a copy of the image")
    clone_file(image.disk, data / disk_name)
    grow(data / disk_name, size_bytes)


def grow(disk: Path, size_bytes: int) -> None:
    """Make a raw disk, new or not, `size_bytes` long; what is added is a hole."""
    with disk.open("ab") as file:
        file.truncate(size_bytes)
    disk.chmod(0o600)


def require_plain_kernel(kernel: Path, *, arch: str) -> None:
    """Raise Refused for an arm64 kernel that is compressed: the framework unpacks none."""
    with kernel.open("rb") as file:
        head = file.read(_ARM64_MAGIC_AT + len(_ARM64_MAGIC))
    if arch == "aarch64" and head[_ARM64_MAGIC_AT:] != _ARM64_MAGIC:
        raise Refused(
            "the image's kernel is compressed, and Virtualization.framework starts only an uncompressed Image",
            hint="use an image that boots by UEFI, or --template kiro",
        )
