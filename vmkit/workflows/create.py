"""Make a machine: image, bundle, disk and keys in staging, one rename, then start, wait and provision.

Killed before the rename, nothing is left; after it, the machine has a journal that `vmkit provision` finishes.
"""

import datetime as dt
import tempfile
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from vmkit.bundle.layout import LOGIN_NAME, write_bundle
from vmkit.bundle.render import BundleValues, Rendered, render
from vmkit.bundle.seed import SeedValues, make_seed
from vmkit.bundle.shared_config import make_mac
from vmkit.drivers.base import Driver
from vmkit.errors import Refused, WrongState
from vmkit.guest.keys import Keys, make_keys
from vmkit.host.computer import clone_file
from vmkit.host.files import require_space, staging
from vmkit.host.ports import choose_port
from vmkit.host.process import Runner
from vmkit.host.report import Report, Timed
from vmkit.images.disk import create_overlay, create_standalone
from vmkit.images.layout import Image
from vmkit.images.provenance import ImagePolicy
from vmkit.images.store import ImageStore
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore, Unfinished, close_journal, write_journal
from vmkit.network.narrow import narrow
from vmkit.network.policy import Mode, Policy, save_policy
from vmkit.workflows.apple import INITRD, KERNEL, SEED, fill_apple, render_apple_machine
from vmkit.workflows.closed_network import seed_files
from vmkit.workflows.images import ensure_image
from vmkit.workflows.login_store import attach, make_login_disk
from vmkit.workflows.net import policy_for
from vmkit.workflows.plan import Plan, refuse_existing, require_disk_fits
from vmkit.workflows.provision import Provisioned, bring_up
from vmkit.workflows.record import new_machine
from vmkit.workflows.status import Status, status
from vmkit.workflows.trust import Guard, require_signed

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Created:
    """A machine that was made."""

    status: Status
    provision: Provisioned
    seconds: dict[str, float]
    guide: tuple[str, ...] = ()  # what the user does next, by hand: a macOS guest is set up in its window

    def to_json(self) -> dict[str, object]:
        """Return the JSON of `create`."""
        guide = {"guide": list(self.guide)} if self.guide else {}
        return {
            "machine": self.status.to_json(),
            "provision": self.provision.to_json(),
            "seconds": self.seconds,
        } | guide


def create(
    plan: Plan,
    *,
    machines: MachineStore,
    images: ImageStore,
    driver: Driver,
    runner: Runner,
    report: Report,
    timeout_s: float,
    start: bool = True,
    provision: bool = True,
    image: Image | None = None,
) -> Created:
    """Make the machine of `plan`, and start and provision it unless told not to. `image`: instead of the plan's.

    Raises WrongState (exists, busy), HostLacks (space, a program), TimedOut (boot), ProvisionFailed (it stays), Refused
    (an image whose signature the user's policy asks for and that has none which counts).
    """
    timed = Timed(report)
    with machines.lock(plan.name, "create"):
        if machines.exists(plan.name):
            refuse_existing(plan.name, machines, held=True)
        if plan.mac_source is not None:
            from vmkit.workflows.macos import make_mac_guest  # noqa: PLC0415  # on a Mac, and seldom

            machine, guide = make_mac_guest(
                plan, machines=machines, driver=driver, runner=runner, report=timed, start=start
            )
            made = status(machine, machines=machines, driver=driver)
            return Created(status=made, provision=Provisioned(), seconds=timed.seconds, guide=guide)
        with timed.phase("image", f"image {plan.image}"):
            guard = Guard.of(machines.paths, images=images, runner=runner) if plan.require_signature else None
            if image is None:
                image = ensure_image(plan.image, images=images, runner=runner, report=timed, guard=guard)
            elif guard is not None:
                require_signed(image, guard=guard, now=dt.datetime.now(dt.UTC))
        require_disk_fits(plan, image.virtual_bytes)
        plan, policy = _narrowed(plan, images.manifest(image.digest).meta.policy, report)
        with timed.phase("bundle", "rendering the bundle, making disk and keys"):
            machine = _publish(plan, image, policy, machines=machines, driver=driver, runner=runner)
        provisioned = Provisioned()
        if start:
            provisioned = bring_up(
                machine,
                machines=machines,
                driver=driver,
                report=timed,
                timeout_s=timeout_s,
                recipes=machine.recipes if provision else (),
            )
        else:
            attach(machine, paths=machines.paths)
            driver.add(machines.vm(machine))
            close_journal(machine)
    made = status(machine, machines=machines, driver=driver)
    return Created(status=made, provision=provisioned, seconds=timed.seconds)


def write_bundle_only(plan: Plan, image: Image | None, *, output: Path) -> Path:
    """Write the bundle of `plan` into `output` and nothing else: no machine, no disk contents. Return its path.

    Raises WrongState when there is a bundle of that name.
    """
    target = output / f"{plan.name}.utm"
    if target.exists():
        raise WrongState(f'"{target}" exists', hint="choose another --output")
    rendered = _render(plan, image, identity=str(uuid.uuid4()).upper(), port=choose_port())
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=f".{plan.name}.") as folder:
        write_bundle(Path(folder) / target.name, rendered)
        (Path(folder) / target.name).rename(target)
    return target


def _narrowed(plan: Plan, by: ImagePolicy | None, report: Report) -> tuple[Plan, Policy]:
    """Return the plan and the policy, with what the image does not allow taken away. Raises Refused."""
    policy = policy_for(plan.egress, plan.recipes)
    if by is None:
        return plan, policy
    narrowed = narrow(policy, mode=Mode(by.mode), allow=by.allow, deny=by.deny)
    egress = narrowed.policy.mode.value
    if egress != plan.egress:
        if plan.backend == "apple":
            raise Refused(f'the image "{plan.image}" wants a closed network ({egress})', hint="vmkit create -t kiro")
        report.note(f'the image "{plan.image}" narrows the network of "{plan.name}" from {plan.egress} to {egress}')
    if narrowed.lost:
        names = ", ".join(rule.target for rule in narrowed.lost[:_SHOWN])
        more = f" and {len(narrowed.lost) - _SHOWN} more" if len(narrowed.lost) > _SHOWN else ""
        report.note(f'the image "{plan.image}" does not allow {names}{more}; to allow it: vmkit net allow {plan.name}')
    return replace(plan, egress=egress), narrowed.policy


def _publish(
    plan: Plan, image: Image, policy: Policy, *, machines: MachineStore, driver: Driver, runner: Runner
) -> Machine:
    """Build the machine's folder out of sight and make it appear by one rename."""
    paths = machines.paths
    require_space(paths.data, needed_bytes=512 << 20, what=f'machine "{plan.name}"')
    machine = new_machine(plan, image, machines=machines)
    rendered = _render(plan, image, identity=machine.uuid, port=choose_port())
    with staging(paths.staging) as folder:
        # As deep as its final place, so that the disk's relative backing path holds in both.
        keys = make_keys(folder / "keys")
        bundle = write_bundle(folder / machine.bundle.name, rendered)
        _fill(bundle.data, machine, image, keys, rendered, standalone=driver.bundle_only, runner=runner)
        (folder / "machine.json").write_text(machine.to_json())
        if machine.egress != "open":
            save_policy(folder / machine.policy.name, policy)
        write_journal(folder, Unfinished(operation="create", phase="made"))
        machines.publish(folder, plan.name)
    return machine


def _fill(
    data: Path,
    machine: Machine,
    image: Image,
    keys: Keys,
    rendered: Rendered,
    *,
    standalone: bool,
    runner: Runner,
) -> None:
    disk, size = str(rendered.config.drive[0].image_name), machine.disk_bytes
    if machine.backend == "apple":
        fill_apple(data, image, disk_name=disk, size_bytes=size)
    elif standalone:
        create_standalone(image.disk, target=data / disk, size_bytes=size, runner=runner)
    else:
        create_overlay(image.disk, base_format="raw", target=data / disk, size_bytes=size, runner=runner)
    for source, name in ((image.kernel, KERNEL), (image.initrd, INITRD)):
        if source is not None:
            clone_file(source, data / name)
    if any(drive.image_name == LOGIN_NAME for drive in rendered.config.drive):
        make_login_disk(data, runner=runner)
    make_seed(
        data / SEED,
        SeedValues(
            instance_id=machine.instance_id,
            hostname=machine.name,
            user=machine.user,
            authorized_key=keys.user_public,
            host_key_private=keys.host_key.read_text(),
            host_key_public=keys.host_public,
            files=seed_files() if machine.egress == "strict" else {},
        ),
    )


def _render(plan: Plan, image: Image | None, *, identity: str, port: int) -> Rendered:
    if plan.backend == "apple":
        return render_apple_machine(plan, image, identity=identity, mac=make_mac())
    direct = image is None or image.boot == "direct"
    disk_id = str(uuid.uuid4()).upper()
    return render(
        plan.template,
        BundleValues(
            name=plan.name,
            uuid=identity,
            mac=make_mac(),
            arch=image.arch if image else plan.arch,
            cpus=plan.cpus,
            memory_mib=plan.memory_mib,
            boot="direct" if direct else image.boot if image else "direct",
            kernel_arguments=image.kernel_arguments if image else None,
            disk_identifier=disk_id,
            disk_name=f"{disk_id}.qcow2",
            kernel_name=KERNEL if direct else None,
            initrd_name=INITRD if direct else None,
            seed_name=SEED,
            login_name=LOGIN_NAME if "kiro-cli" in plan.recipes else None,
            host_port=port,
            isolated=plan.egress != "open",
            hypervisor=True,
            options=plan.options,
        ),
    )
