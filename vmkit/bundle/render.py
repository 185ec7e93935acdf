"""Render a template into `config.plist`, parse it back, and compare it with what was meant, before anything is written.

Jinja is a text tool and XML is not text: only the comparison makes sure that a name, a path or a template says one
thing to us and the same to UTM.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmkit.bundle.arguments import quote_argument
from vmkit.bundle.check import judge
from vmkit.bundle.config import (
    ConfigError,
    Drive,
    ImageType,
    Interface,
    Network,
    NetworkMode,
    PortForward,
    Protocol,
    QemuConfig,
    SerialMode,
    SerialTarget,
    ShareMode,
    decode,
)
from vmkit.bundle.layout import Rendered
from vmkit.bundle.plist import parse_plist
from vmkit.bundle.template import Template
from vmkit.errors import Refused, UsageError
from vmkit.host.files import read_bounded
from vmkit.host.text import printable

__all__ = ["BundleValues", "Rendered", "example_values", "render"]

TARGETS: Mapping[str, str] = {"x86_64": "q35", "aarch64": "virt"}
SSH_PORT = 22

_MAX_BYTES = 256 << 10
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


@dataclass(frozen=True, kw_only=True)
class BundleValues:
    """What a bundle is made of. File names are names in `Data/`; `boot` is direct, uefi or bios."""

    name: str
    uuid: str
    mac: str
    arch: str
    cpus: int
    memory_mib: int
    boot: str
    disk_identifier: str
    disk_name: str
    seed_name: str
    host_port: int
    isolated: bool
    hypervisor: bool
    kernel_arguments: str | None = None
    kernel_name: str | None = None
    initrd_name: str | None = None
    options: Mapping[str, str | int | bool] = field(default_factory=dict)

    @property
    def drives(self) -> tuple[Drive, ...]:
        """The drives, in boot order: the disk, the seed, and for a direct boot kernel and initrd."""
        found = [
            _drive(self.disk_identifier, self.disk_name, ImageType.DISK, Interface.VIRTIO),
            _drive("seed", self.seed_name, ImageType.CD, Interface.VIRTIO),
        ]
        if self.boot == "direct" and self.kernel_name:
            found.append(_drive("kernel", self.kernel_name, ImageType.KERNEL, Interface.NONE))
            if self.initrd_name:
                found.append(_drive("initrd", self.initrd_name, ImageType.INITRD, Interface.NONE))
        return tuple(found)

    @property
    def network(self) -> Network:
        """The one network card: emulated, and reachable from this computer's loopback only."""
        forward = PortForward(
            protocol=Protocol.TCP, host_address="127.0.0.1", host_port=self.host_port, guest_port=SSH_PORT
        )
        return Network(
            mode=NetworkMode.EMULATED,
            hardware="virtio-net-pci",
            mac_address=self.mac,
            isolate_from_host=self.isolated,
            port_forward=(forward,),
        )

    @property
    def arguments(self) -> list[str]:
        """What QEMU is told of the kernel's command line."""
        return ["-append", self.kernel_arguments] if self.boot == "direct" and self.kernel_arguments else []


def example_values(template: Template, *, arch: str, boot: str) -> BundleValues:
    """Return made-up values with the template's defaults: what `template check` renders."""
    direct = boot == "direct"
    return BundleValues(
        name="example",
        uuid="6F9619FF-8B86-4D01-B42D-00CF4FC964FF",
        mac="52:54:00:12:34:56",
        arch=arch,
        cpus=template.cpus,
        memory_mib=template.memory_mib,
        boot=boot,
        kernel_arguments="root=LABEL=root console=ttyS0 quiet" if direct else None,
        disk_identifier="11111111-2222-3333-4444-555555555555",
        disk_name="11111111-2222-3333-4444-555555555555.qcow2",
        kernel_name="vmlinuz" if direct else None,
        initrd_name="initrd.img" if direct else None,
        seed_name="seed.iso",
        host_port=2222,
        isolated=False,
        hypervisor=True,
        options={name: option.default for name, option in template.options.items()},
    )


def render(template: Template, values: BundleValues) -> Rendered:
    """Render `template` with `values`, and make sure that the result says just that to UTM.

    Raises UsageError with the template's file and the reason.
    """
    file = template.config_file
    _check_values(values)
    content = _rendered(template, values)
    verdict = judge(content)
    if not verdict.loads:
        problem = verdict.problems[0]
        raise _unfit(template, f"UTM would not load it: {problem.problem} {problem.path}".rstrip())
    for what, keys in (("ignore", verdict.ignored_keys), ("miss", verdict.defaults)):
        if keys:
            raise _unfit(template, f'UTM would {what} the key "{next(iter(keys))}"')
    if verdict.changed:
        raise _unfit(template, f'UTM would change the key "{verdict.changed[0].path}"')
    try:
        config = decode(parse_plist(content))
    except ConfigError as error:  # judged to load just before
        raise _unfit(template, error.problem) from error
    if not isinstance(config, QemuConfig):
        raise _unfit(template, f"{file} is of UTM's Apple backend")
    for what, wanted, found in _intended(config, values):
        if wanted != found:
            raise _unfit(template, f"{what} should be {wanted!r} and is {found!r}")
    return Rendered(config=config, content=content)


def _intended(config: QemuConfig, values: BundleValues) -> list[tuple[str, object, object]]:
    """Pair what was meant with what was rendered. What is not here is the template's to choose."""
    serial = config.serial[0] if config.serial else None
    arguments = config.qemu.extra_arguments
    at = arguments.index("-append") if "-append" in arguments else len(arguments)
    return [
        ("Information.Name", values.name, config.information.name),
        ("Information.UUID", values.uuid, config.information.uuid),
        ("System.Architecture", values.arch, config.system.architecture),
        ("System.Target", TARGETS[values.arch], config.system.target),
        ("System.CPUCount", values.cpus, config.system.cpu_count),
        ("System.MemorySize", values.memory_mib, config.system.memory_mib),
        ("QEMU.UEFIBoot", values.boot == "uefi", config.qemu.uefi_boot),
        ("QEMU.Hypervisor", values.hypervisor, config.qemu.hypervisor),
        ("QEMU.AdditionalArguments", values.arguments, arguments[at : at + 2]),
        ("Drive", values.drives, config.drive),
        ("Network", (values.network,), config.network),
        ("Sharing.DirectoryShareMode", ShareMode.NONE, config.sharing.directory_share_mode),
        ("Sharing.ClipboardSharing", False, config.sharing.clipboard_sharing),
        ("Input.UsbSharing", False, config.input.usb_sharing),
        ("Sound", (), config.sound),
        ("Serial", (SerialMode.PTTY, SerialTarget.AUTO), (serial.mode, serial.target) if serial else None),
    ]


def _check_values(values: BundleValues) -> None:
    if values.arch not in TARGETS:
        raise UsageError(f'no bundle can be made for "{values.arch}"', hint=f"one of: {', '.join(TARGETS)}")
    if values.boot not in ("direct", "uefi", "bios"):
        raise UsageError(f'"{values.boot}" is no way to boot')
    names = (values.disk_name, values.seed_name, values.kernel_name, values.initrd_name, values.disk_identifier)
    for name in names:
        if name is not None and not _FILE.fullmatch(name):
            raise UsageError(f'"{printable(name, max_chars=60)}" cannot name a file or a drive in a bundle')


def _drive(identifier: str, name: str, image_type: ImageType, interface: Interface) -> Drive:
    return Drive(
        identifier=identifier,
        image_name=name,
        image_type=image_type,
        interface=interface,
        interface_version=1,
        read_only=image_type is not ImageType.DISK,
    )


def _unfit(template: Template, reason: str) -> UsageError:
    layer, _, name = template.config_file.partition("/")
    return UsageError(
        f'template "{template.name}" does not render what was meant: {printable(reason)}',
        detail=str(template.chain[layer] / name),
        hint=f"vmkit template check {template.name}",
    )


def _rendered(template: Template, values: BundleValues) -> bytes:
    import jinja2  # noqa: PLC0415  # 30 ms
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    def load(name: str) -> tuple[str, None, None]:
        return _source(template, name), None, None

    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=_finalize,
        loader=jinja2.FunctionLoader(load),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.clear()
    environment.filters["argument"] = quote_argument
    try:
        text = environment.get_template(template.config_file).render(
            machine=values, target=TARGETS[values.arch], drives=values.drives, **values.options
        )
        return text.encode()
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        reason = error.message if isinstance(error, jinja2.TemplateError) else str(error)
        raise _unfit(template, f"{type(error).__name__}: {reason}") from error


def _source(template: Template, name: str) -> str:
    """Read a file of the template, of one that it extends, or of the shared blocks; nothing else."""
    layer, _, file = name.partition("/")
    if layer not in template.chain or not _FILE.fullmatch(file):
        raise UsageError(
            f'template "{template.name}" includes "{printable(name, max_chars=80)}"',
            hint=f"a file of one of: {', '.join(template.chain)}, written FOLDER/FILE",
        )
    path: Path = template.chain[layer] / file
    try:
        return read_bounded(path, max_bytes=_MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError, Refused) as error:
        raise UsageError(f'"{path}" cannot be read', detail=str(error)) from error


def _finalize(value: Any) -> Any:
    """Let text, whole numbers and booleans through, and what is undefined, which raises by itself."""
    import jinja2  # noqa: PLC0415

    if not isinstance(value, str | int | jinja2.Undefined):
        raise UsageError(f"a template prints a {type(value).__name__}; it may print text, whole numbers and booleans")
    return value
