"""Make QEMU's command line from a machine's bundle and what this computer has.

Apart from `qemu`, so that `list` does not pay for reading bundles.
"""

from dataclasses import replace
from pathlib import Path

from vmkit.bundle.config import QemuConfig
from vmkit.bundle.layout import Bundle
from vmkit.drivers.accelerator import choose_accelerator
from vmkit.drivers.base import Address, Vm
from vmkit.drivers.firmware import prepare_firmware
from vmkit.drivers.qemu_args import Accelerator, qemu_arguments
from vmkit.drivers.qemu_drives import has_own_boot_code
from vmkit.drivers.qemu_ready import throwaway
from vmkit.errors import WrongState
from vmkit.host.computer import has_seccomp
from vmkit.host.privileges import find_account
from vmkit.host.process import Runner
from vmkit.host.programs import find_qemu, qemu_version

SSH_PORT = 22


def launch_line(vm: Vm, *, runner: Runner, cache: Path, console_log: Path, disposable: bool) -> tuple[list[str], bool]:
    """Return the argv that starts the machine, and whether it goes on from its ready state.

    Its UEFI variables are made when it has none; for a disposable start so are the disks that it writes to.
    Raises HostLacks, NotFound and Refused (the bundle), ToolFailed.
    """
    bundle = Bundle(vm.bundle)
    config = bundle.read()
    arch = config.system.architecture
    binary = find_qemu(arch, runner=runner)
    firmware = None
    if config.qemu.uefi_boot and not has_own_boot_code(config):
        firmware = prepare_firmware(arch, bundle.data, binary=binary, runner=runner)
    instead = throwaway(vm, config, has_firmware=firmware is not None) if disposable else None
    arguments = qemu_arguments(
        config,
        bundle=vm.bundle,
        accelerator=_accelerator(config, binary, runner=runner, cache=cache),
        sockets=vm.sockets,
        console_log=console_log,
        firmware=firmware,
        disposable=disposable,
        throwaway=instead.files if instead else None,
        sandbox=has_seccomp(),
        run_as=find_account("qemu", vm.uuid),
        version=qemu_version(binary, runner=runner),
    )
    argv = [str(binary), *arguments]
    resume = instead.prepare(config, argv, runner=runner) if instead else []
    return [*argv, *resume], bool(resume)


def accelerator_for(vm: Vm, *, runner: Runner, cache: Path) -> Accelerator:
    """Return what a machine runs with, and why; asked once per boot of this computer. Raises HostLacks."""
    config = Bundle(vm.bundle).read()
    return _accelerator(config, find_qemu(config.system.architecture, runner=runner), runner=runner, cache=cache)


def read_config(vm: Vm) -> QemuConfig:
    """Return what the bundle says. Raises NotFound, Refused."""
    return Bundle(vm.bundle).read()


def ssh_address(vm: Vm) -> Address:
    """Return where the bundle forwards the guest's sshd to. Raises WrongState when it forwards it nowhere."""
    for network in Bundle(vm.bundle).read().network:
        for forward in network.port_forward:
            if forward.guest_port == SSH_PORT:
                return Address(host=forward.host_address or "127.0.0.1", port=forward.host_port)
    raise WrongState(f'the bundle of machine "{vm.name}" forwards no port to its sshd')


def _accelerator(config: QemuConfig, binary: Path, *, runner: Runner, cache: Path) -> Accelerator:
    return choose_accelerator(
        config.system.architecture,
        hypervisor_wanted=config.qemu.hypervisor,
        binary=binary,
        runner=runner,
        cache=cache,
    )


def forward_port(vm: Vm, port: int) -> None:
    """Forward another host port to whatever the bundle forwards."""
    bundle = Bundle(vm.bundle)
    config = bundle.read()
    networks = tuple(
        replace(network, port_forward=tuple(replace(forward, host_port=port) for forward in network.port_forward))
        for network in config.network
    )
    bundle.write(replace(config, network=networks))
