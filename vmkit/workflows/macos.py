"""Make a macOS guest: a checked restore image, Apple's installer or UTM's, and the words for what is left to a person.

Nothing here has run on a Mac (unverified): it is tested with stand-ins for swiftc, codesign, the installer and UTM.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from vmkit.bundle.ipsw import RestoreImage, check_ipsw
from vmkit.bundle.layout import Rendered, write_bundle
from vmkit.bundle.mac_platform import MAX_BYTES, read_hardware_model, read_machine_identifier
from vmkit.bundle.render_apple import AUXILIARY_STORAGE
from vmkit.bundle.shared_config import make_mac
from vmkit.drivers.base import Driver
from vmkit.drivers.mac_installer import (
    HARDWARE_MODEL,
    MACHINE_IDENTIFIER,
    build_installer,
    find_compiler,
    install,
    latest_image,
)
from vmkit.errors import ToolFailed
from vmkit.guest.keys import make_user_key
from vmkit.host.files import Lock, own_directory, read_bounded, require_space, staging
from vmkit.host.process import Runner
from vmkit.host.report import Report
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore, Unfinished, close_journal, write_journal
from vmkit.workflows.apple import grow, render_apple_machine
from vmkit.workflows.mac_source import MacSource, cached_ipsw
from vmkit.workflows.macos_guide import first_boot_steps, install_steps
from vmkit.workflows.plan import Plan
from vmkit.workflows.record import new_machine
from vmkit.workflows.start import boot

_MAX_IPSW_BYTES = 64 << 30
_INSTALLED_BYTES = 30 << 30  # what an installed macOS takes of its sparse disk, at least (an estimate)


@dataclass(frozen=True, kw_only=True)
class PreparedMac:
    """What a macOS guest is installed with: the restore image when there is a file, the installer unless by hand."""

    plan: Plan
    ipsw: Path | None
    installer: Path | None


def make_mac_guest(
    plan: Plan, *, machines: MachineStore, driver: Driver, runner: Runner, report: Report, start: bool
) -> tuple[Machine, tuple[str, ...]]:
    """Make the macOS guest of `plan` and let UTM know it; return it, and what is left to the user. The lock is held.

    Killed before UTM knows it, nothing is left but the restore image in the cache.

    Raises Refused (restore image), HostLacks (space), ToolFailed (compiler, installer, UTM), TimedOut.
    """
    prepared = prepare_macos(plan, cache=machines.paths.cache, runner=runner, report=report)
    machine = new_machine(plan, None, machines=machines)
    paths = machines.paths
    with staging(paths.staging) as folder:
        public_key = make_user_key(folder / "keys")
        _fill(folder, machine, prepared, runner=runner, report=report)
        (folder / "machine.json").write_text(machine.to_json())
        write_journal(folder, Unfinished(operation="create", phase="made"))
        machines.publish(folder, plan.name)
    driver.add(machines.vm(machine))
    close_journal(machine)
    steps = first_boot_steps(machine, public_key)
    if prepared.installer is None:
        return machine, (*install_steps(machine, prepared.ipsw), *steps)
    if start:
        boot(machine, machines=machines, driver=driver, report=report)
    return machine, steps


def prepare_macos(plan: Plan, *, cache: Path, runner: Runner, report: Report) -> PreparedMac:
    """Find or make the installer, and bring the restore image here. The plan that comes back knows what it holds.

    Raises Refused (no such restore image), HostLacks (space, the network), ToolFailed, TimedOut.
    """
    source = plan.mac_source or MacSource()
    installer = None
    if not source.by_hand:
        compiler = find_compiler(runner)
        if compiler is not None:
            installer = build_installer(compiler, runner=runner, cache=cache, report=report)
        else:
            report.note("no Swift compiler (xcode-select --install): macOS is to be installed in UTM's window")
    if source.path is None and source.url is None and installer is not None:
        latest = latest_image(installer, runner=runner)
        report.note(f"Apple's newest restore image for this Mac is macOS {latest.version} ({latest.build})")
        source = replace(source, url=latest.url)
    ipsw, image = source.path, source.image
    if source.url is not None:
        ipsw, image = fetch_ipsw(source.url, cache=cache, report=report)
    source = replace(source, path=ipsw, image=image)
    return PreparedMac(plan=replace(plan, mac_source=source), ipsw=ipsw, installer=installer)


def fetch_ipsw(url: str, *, cache: Path, report: Report) -> tuple[Path, RestoreImage]:
    """Return the restore image from `url`, fetched the first time, resumed, and checked each time.

    Raises UsageError (no https address), Refused (not what it should be), HostLacks (space, the network).
    """
    from vmkit.host.download import check_source, download_judged  # noqa: PLC0415  # only for a URL

    url = check_source(url, what="restore image")
    target = cached_ipsw(url, cache=cache)
    own_directory(target.parent)
    with Lock(target.with_suffix(".lock")).acquire("download"):
        if target.exists():
            return target, check_ipsw(target)
        with report.phase("download", "fetching the restore image"):
            image = download_judged(url, target, judge=check_ipsw, max_bytes=_MAX_IPSW_BYTES, report=report)
    return target, image


def _fill(folder: Path, machine: Machine, prepared: PreparedMac, *, runner: Runner, report: Report) -> None:
    """Make the bundle with its disk; with an installer, macOS is on it and the platform is the installer's."""
    if prepared.installer is None or prepared.ipsw is None:
        bundle = write_bundle(folder / machine.bundle.name, _render(prepared.plan, machine))
        grow(bundle.data / _disk(bundle.read_any().drive[0].image_name), machine.disk_bytes)
        return
    require_space(folder, needed_bytes=min(_INSTALLED_BYTES, machine.disk_bytes), what="an installed macOS")
    made = own_directory(folder / "installed")
    grow(made / "disk.img", machine.disk_bytes)
    install(
        prepared.installer,
        ipsw=prepared.ipsw,
        folder=made,
        disk=made / "disk.img",
        cpus=machine.cpus,
        memory_mib=machine.memory_mib,
        runner=runner,
        report=report,
    )
    model, identifier = (_made(made / name) for name in (HARDWARE_MODEL, MACHINE_IDENTIFIER))
    read_hardware_model(model)
    read_machine_identifier(identifier)
    rendered = _render(prepared.plan, machine, model=model, mac_id=identifier)
    bundle = write_bundle(folder / machine.bundle.name, rendered)
    _require(made / AUXILIARY_STORAGE).rename(bundle.data / AUXILIARY_STORAGE)
    (made / "disk.img").rename(bundle.data / _disk(rendered.config.drive[0].image_name))
    for name in (HARDWARE_MODEL, MACHINE_IDENTIFIER):
        (made / name).unlink()
    made.rmdir()


def _render(plan: Plan, machine: Machine, *, model: bytes | None = None, mac_id: bytes | None = None) -> Rendered:
    return render_apple_machine(plan, None, identity=machine.uuid, mac=make_mac(), model=model, mac_id=mac_id)


def _disk(name: str | None) -> str:
    if name is None:
        raise AssertionError("unreachable: what we render names its disk")
    return name


def _made(path: Path) -> bytes:
    return read_bounded(_require(path), max_bytes=MAX_BYTES)


def _require(path: Path) -> Path:
    if not path.is_file() or path.is_symlink():
        raise ToolFailed(f'the macOS installer did not make "{path.name}"')
    return path
