"""Turn what the user asked for into what will be made, checked before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vmkit.bundle.template import Template, load_template, resolve_options
from vmkit.drivers.choice import checked_driver_name, default_driver_name
from vmkit.errors import HostLacks, Refused, UsageError, WrongState
from vmkit.host.computer import cpu_count, is_macos, machine_arch
from vmkit.host.settings import Settings
from vmkit.host.sizes import gib, parse_size, show_size
from vmkit.images.layout import parse_reference
from vmkit.images.store import ImageStore
from vmkit.machines.model import Option, checked_name
from vmkit.machines.store import MachineStore, read_journal
from vmkit.recipes.load import load_recipes
from vmkit.workflows.images import require_obtainable
from vmkit.workflows.mac_source import MacSource, choose_mac_source

_SETTABLE = ("cpus", "memory", "disk", "image", "egress")  # defaults of a template that --set changes too
_EGRESS = ("strict", "open", "airgap")
_MAX_CPUS = 255
_MIN_MEMORY_MIB, _MAX_MEMORY_MIB = 128, 4 << 20
_MAX_DISK_BYTES = 2 << 40
_MACOS_MIN_CPUS, _MACOS_MIN_MEMORY_MIB = 2, 4096  # what restore images ask for (unverified); the installer knows


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The flags of `create` and `bundle render`, as typed; None where the user left the choice to us."""

    name: str
    template: str | None = None
    cpus: int | None = None
    memory: str | None = None
    disk: str | None = None
    image: str | None = None
    driver: str | None = None
    recipes: Sequence[str] | None = None
    options: Sequence[str] = ()
    egress: str | None = None
    ipsw: str | None = None
    installer: str | None = None
    by_hand: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A machine that could be made: every value known and in range."""

    name: str
    template: Template
    driver: str
    image: str
    arch: str
    cpus: int
    memory_mib: int
    disk_bytes: int
    user: str
    recipes: tuple[str, ...]
    egress: str
    options: Mapping[str, Option]
    backend: str = "qemu"
    system: str = "linux"
    require_signature: bool = False
    mac_source: MacSource | None = None  # for a macOS guest; such a machine has no image

    def to_json(self) -> dict[str, object]:
        """Return what `--dry-run --json` prints."""
        mac = self.mac_source.to_json() if self.mac_source else {}
        return mac | {
            "name": self.name,
            "template": self.template.name,
            "driver": self.driver,
            "backend": self.backend,
            "system": self.system,
            "image": self.image or None,
            "arch": self.arch,
            "cpus": self.cpus,
            "memory_mib": self.memory_mib,
            "disk_gib": gib(self.disk_bytes),
            "user": self.user,
            "recipes": list(self.recipes),
            "egress": self.egress,
            "options": dict(self.options),
        }


def make_plan(
    wishes: Wishes,
    *,
    settings: Settings,
    machines: MachineStore,
    images: ImageStore,
    new: bool = True,
    host_arch: str | None = None,
) -> Plan:
    """Check every wish and fill in the rest: flags, then the user's settings, then the template.

    Raises UsageError, NotFound (template, recipe, image), Refused (a closed network where there is none, a restore
    image), HostLacks (UTM), WrongState when the machine exists. With `new` off, a bundle is rendered and no machine is
    made: then nobody asks what this computer has. Writes nothing.
    """
    name = checked_name(wishes.name)
    paths = machines.paths
    template = load_template(wishes.template or _set(settings, "template") or "kiro", user_folder=paths.templates)
    wishes = _with_defaults_set(wishes, template)
    options = resolve_options(template, wishes.options)
    recipes = tuple(wishes.recipes) if wishes.recipes is not None else template.recipes
    load_recipes(recipes, user_folder=paths.recipes)
    macos = template.system == "macos"
    if macos and wishes.image:
        raise UsageError("a macOS guest is installed, not copied from an image", hint="--ipsw FILE, or vmkit adopt")
    plan = Plan(
        name=name,
        template=template,
        driver=_driver(wishes.driver, settings, template),
        image="" if macos else parse_reference(wishes.image or template.image),
        arch="aarch64" if macos else host_arch or machine_arch(),
        cpus=_cpus(
            wishes.cpus if wishes.cpus is not None else settings.default("cpus"),
            template.cpus,
            least=_MACOS_MIN_CPUS if macos else 1,
        ),
        memory_mib=_memory(
            wishes.memory or _set(settings, "memory"),
            template.memory_mib,
            least_mib=_MACOS_MIN_MEMORY_MIB if macos else _MIN_MEMORY_MIB,
        ),
        disk_bytes=_disk(wishes.disk or _set(settings, "disk"), template.disk_bytes),
        user=template.user,
        recipes=recipes,
        egress=_egress(wishes.egress or _set(settings, "egress") or template.egress, template),
        options=options,
        backend=template.backend,
        system=template.system,
        require_signature=settings.policy.get("require_signature") is True,
        mac_source=choose_mac_source(template, ipsw=wishes.ipsw, installer=wishes.installer, by_hand=wishes.by_hand),
    )
    if options.get("rosetta") is True and plan.arch != "aarch64":
        raise UsageError("Rosetta is of Macs with Apple silicon", hint="--set rosetta=false")
    if not macos:
        image = images.find(plan.image)
        if image is None:
            require_obtainable(plan.image, images=images)
        else:
            require_disk_fits(plan, image.virtual_bytes)
    if new:
        _require_host(plan, host_arch or machine_arch())
        if machines.exists(name):
            refuse_existing(name, machines)
    return plan


def _driver(asked: str | None, settings: Settings, template: Template) -> str:
    """Return the driver's name; the Apple backend has only one."""
    if template.backend == "apple":
        if asked not in (None, "utm"):
            raise UsageError(f'template "{template.name}" is of UTM\'s Apple backend', hint="--driver utm")
        return "utm"
    return checked_driver_name(asked or _set(settings, "driver") or default_driver_name())


def _require_host(plan: Plan, host_arch: str) -> None:
    if plan.backend != "apple":
        return
    if plan.system == "macos" and host_arch != "aarch64":
        raise HostLacks(
            "a macOS guest needs a Mac with Apple silicon",
            detail=f"this computer is of {host_arch}",
            hint=f"vmkit bundle render {plan.name} --template {plan.template.name} --output . works here too",
        )
    try:
        checked_driver_name(plan.driver)
    except HostLacks as error:
        error.detail = f'template "{plan.template.name}" is of UTM\'s Apple backend, which only UTM on a Mac runs'
        error.hint = error.hint if is_macos() else "--template kiro runs here too"
        raise


def _with_defaults_set(wishes: Wishes, template: Template) -> Wishes:
    """Let `--set memory=2G` say what `--memory 2G` says; the flag of that name goes first."""
    said, options = dict[str, Any](), list[str]()
    for setting in wishes.options:
        name, equals, text = setting.partition("=")
        if not equals or name not in _SETTABLE or name in template.options:
            options.append(setting)
        elif getattr(wishes, name) is None:
            said[name] = int(text) if name == "cpus" and text.isdecimal() and text.isascii() else text
    return replace(wishes, options=options, **said)


def require_disk_fits(plan: Plan, image_bytes: int) -> None:
    """Raise UsageError when the disk asked for is smaller than the image."""
    if plan.disk_bytes < image_bytes:
        raise UsageError(
            f'a disk of {show_size(plan.disk_bytes)} is smaller than the image "{plan.image}"',
            hint=f"--disk {-(-image_bytes // 2**30)}G",
        )


def refuse_existing(name: str, machines: MachineStore, *, held: bool = False) -> None:
    """Raise WrongState for a name that is taken, with the way on. `held`: the caller has the machine's lock."""
    busy = None if held else machines.changing(name)
    if busy:
        raise WrongState(f'machine "{name}" exists, and a vmkit is at work on it ({busy})', hint="vmkit list")
    machine = machines.open(name)
    unfinished = read_journal(machine)
    if unfinished:
        raise WrongState(
            f'machine "{name}" exists; its {unfinished.operation} was interrupted ({unfinished.phase})',
            hint=f"vmkit provision {name} finishes it, vmkit delete {name} removes it",
        )
    raise WrongState(f'machine "{name}" exists', hint=f"vmkit shell {name}, or vmkit delete {name}")


def _set(settings: Settings, key: str) -> str | None:
    value = settings.default(key)
    return None if value is None else str(value)


def _cpus(asked: object, default: int, *, least: int) -> int:
    cpus = default if asked is None else asked
    if not isinstance(cpus, int) or not least <= cpus <= _MAX_CPUS:
        hint = f"{least} to {_MAX_CPUS}; this computer has {cpu_count()}"
        raise UsageError(f"--cpus {cpus} is out of range", hint=hint)
    return cpus


def _memory(asked: str | None, default_mib: int, *, least_mib: int) -> int:
    mib = default_mib if asked is None else parse_size(asked, what="memory") >> 20
    if not least_mib <= mib <= _MAX_MEMORY_MIB:
        raise UsageError(f"--memory {show_size(mib << 20)} is out of range", hint=f"at least {least_mib} MiB")
    return mib


def _disk(asked: str | None, default: int) -> int:
    size = default if asked is None else parse_size(asked, what="disk")
    if not size <= _MAX_DISK_BYTES:
        raise UsageError(f"--disk {show_size(size)} is out of range", hint=f"at most {show_size(_MAX_DISK_BYTES)}")
    return size & ~0xFFF  # whole 4 KiB blocks


def _egress(asked: str, template: Template) -> str:
    if template.backend == "apple" and asked in ("strict", "airgap"):
        raise Refused(
            f'egress {asked} cannot be had with template "{template.name}"',
            detail="Virtualization.framework gives a guest the network of the Mac, and UTM has no switch to close it",
            hint="--egress open, or --template kiro: the QEMU backend can be closed",
        )
    if asked not in _EGRESS:
        raise UsageError(f'--egress "{asked[:20]}" is unknown', hint=f"one of: {', '.join(_EGRESS)}")
    return asked
