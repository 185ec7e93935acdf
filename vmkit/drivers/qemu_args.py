"""QEMU's command line from `config.plist` alone: UTM's devices in UTM's order, as stock QEMU has them (pure).

Not taken over, since they belong to UTM's own QEMU or to SPICE: `-L`, `-S` and its spice channels (QMP, terminals, the
agents, USB redirection, sound), vmnet networks (they become slirp), `virtio-ramfb`, the TPM, shared folders.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vmkit.bundle.config import Network, NetworkMode, QemuConfig, Serial, SerialMode, SerialTarget, System, UsbBus
from vmkit.drivers.firmware import Firmware
from vmkit.drivers.qemu_drives import drive_arguments, escaped, has_own_boot_code
from vmkit.errors import Refused
from vmkit.host.computer import cpu_count

_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
# The filter is there before root is given up, and would kill QEMU for it; afterwards there is no privilege to elevate.
_SANDBOX_FROM_ROOT = _SANDBOX.replace(",elevateprivileges=deny", "")
_RUN_WITH_SINCE = (9, 1)  # which deprecates -runas; the new spelling is read in QEMU's documentation, not tried
_VERSIONED = re.compile(r"(.*)-([0-9]+)\.([0-9]+)(?:\.[0-9]+)?")
_ALIASES = {"pc-q35": "q35", "pc-i440fx": "pc"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NO_AGENT = {"avr", "m68k", "microblaze", "microblazeel", "rx", "sparc", "sparc64", "tricore"}
_MANY_CPUS = 8  # more need the third version of ARM's interrupt controller
_DEFAULT_TB_MIB = 512
_ONLY_IN_UTM = {"virtio-ramfb": "virtio-gpu-pci", "virtio-ramfb-gl": "virtio-gpu-pci"}


@dataclass(frozen=True)
class Accelerator:
    """Who runs the guest's instructions, and why: a sentence for people."""

    name: Literal["kvm", "hvf", "tcg"]
    reason: str


# A Debian 13 guest under QEMU 7.2's emulation died of a double fault in __kmalloc, where Linux's allocator uses
# cmpxchg16b; without the flag it takes another way.
_TCG_CPU = {"x86_64": "max,-cx16"}
# QEMU 7.2 with a thread for each CPU crashed or hung in 2 of about 40 boots of Debian 13, with one thread in none of 9;
# which later version mends it is not known here.
_MULTICORE_SINCE = (8, 0)


def qemu_arguments(
    config: QemuConfig,
    *,
    bundle: Path,
    accelerator: Accelerator,
    sockets: Path,
    console_log: Path,
    firmware: Firmware | None = None,
    disposable: bool = False,
    throwaway: Mapping[str, Path] | None = None,
    sandbox: bool = True,
    run_as: int | None = None,
    version: tuple[int, int] = (7, 2),
) -> list[str]:
    """Return what follows the name of the binary. `version` is the local QEMU's: newer machine types fall back.

    `throwaway`: for a disposable start, the disks to write to instead, by drive; without, QEMU makes nameless ones.
    `sandbox`: off where there is no seccomp; a QEMU built without it would not start.
    `run_as`: the number, user and group, to become when all is open; for a QEMU that root starts.
    Sockets made: `qmp.sock`, `qga.sock`, `console.sock` (the first serial port, copied to `console_log`).
    Raises Refused for a configuration that stock QEMU cannot run, or that would write into the command line.
    """
    data = bundle / "Data"
    tcg = accelerator.name == "tcg"
    # fmt: off
    return [
        "-no-user-config", "-nodefaults", "-vga", "none", "-display", "none",
        *(["-sandbox", _SANDBOX if run_as is None else _SANDBOX_FROM_ROOT] if sandbox else []),
        *_run_as(run_as, version),
        "-qmp", f"unix:{escaped(sockets / 'qmp.sock')},server=on,wait=off",
        *_networks(config.network),
        *_displays(config),
        *_serials(config.serial, sockets=sockets, console_log=console_log),
        *_cpu(config.system, tcg=tcg),
        *_machine(config, tcg=tcg, version=version),
        *_accelerator(config.system, accelerator, version),
        *_architecture(config, firmware),
        *_sound(config),
        *_usb(config),
        *drive_arguments(config, data=data, instead=throwaway),
        *_agent(config, sockets),
        *_misc(config, disposable=disposable and throwaway is None),
        *(_generation(config.system) if throwaway is not None else []),
        *config.qemu.extra_arguments,
    ]
    # fmt: on


def _run_as(number: int | None, version: tuple[int, int]) -> list[str]:
    if number is None:
        return []
    account = f"{number}:{number}"
    return ["-run-with", f"user={account}"] if version >= _RUN_WITH_SINCE else ["-runas", account]


def _networks(networks: tuple[Network, ...]) -> list[str]:
    if not networks:
        return ["-nic", "none"]
    arguments: list[str] = []
    for i, network in enumerate(networks):
        device = f"{_word(network.hardware)},mac={_value(network.mac_address)},netdev=net{i}"
        arguments += ["-device", device, "-netdev", f"user,id=net{i}{_user_network(network)}"]
    return arguments


def _user_network(network: Network) -> str:
    options = {
        "net": network.vlan_guest_address,
        "host": network.vlan_host_address,
        "ipv6-net": network.vlan_guest_address_ipv6,
        "ipv6-host": network.vlan_host_address_ipv6,
        "dhcpstart": network.vlan_dhcp_start_address,
        "dns": network.vlan_dns_server_address,
        "ipv6-dns": network.vlan_dns_server_address_ipv6,
        "dnssearch": network.vlan_dns_search_domain,
        "domainname": network.vlan_dhcp_domain,
    }
    # vmnet is macOS's: elsewhere its modes become slirp, which exposes less; a host-only network leads nowhere.
    restricted = network.isolate_from_host or network.mode is NetworkMode.HOST
    text = ",restrict=on" if restricted else ""
    text += "".join(f",{name}={_value(value)}" for name, value in options.items() if value is not None)
    for forward in network.port_forward:
        host = f"{_value(forward.host_address or '')}:{forward.host_port}"
        guest = f"{_value(forward.guest_address or '')}:{forward.guest_port}"
        text += f",hostfwd={forward.protocol.lower()}:{host}-{guest}"
    return text


def _displays(config: QemuConfig) -> list[str]:
    arguments: list[str] = []
    for display in config.display:
        hardware = _ONLY_IN_UTM.get(display.hardware, _word(display.hardware))
        # UTM gives a card without VGA memory this property too, and its QEMU takes it.
        memory = f",vgamem_mb={display.vga_ram_mib}" if display.vga_ram_mib and "vga" in hardware.lower() else ""
        arguments += ["-device", hardware + memory]
    return arguments


def _serials(serials: tuple[Serial, ...], *, sockets: Path, console_log: Path) -> list[str]:
    arguments: list[str] = []
    for i, serial in enumerate(serials):
        if i == 0:
            log = f"logfile={escaped(console_log)},logappend=off"
            chardev = f"socket,id=term0,path={escaped(sockets / 'console.sock')},server=on,wait=off,{log}"
        else:
            chardev = _chardev(i, serial, sockets)
        arguments += ["-chardev", chardev, *_serial_target(i, serial)]
    return arguments


def _chardev(i: int, serial: Serial, sockets: Path) -> str:
    port = 1234 if serial.tcp_port is None else serial.tcp_port
    if serial.mode is SerialMode.TCP_CLIENT:
        host = _value(serial.tcp_host_address or "example.com")
        return f"socket,id=term{i},port={port},host={host},server=off"
    if serial.mode is SerialMode.TCP_SERVER:
        host = "0.0.0.0" if serial.remote_connection_allowed else "127.0.0.1"  # noqa: S104  # as config.plist says
        wait = "on" if serial.wait_for_connection else "off"
        return f"socket,id=term{i},port={port},host={host},server=on,wait={wait}"
    if serial.mode is SerialMode.PTTY:
        return f"pty,id=term{i}"
    return f"socket,id=term{i},path={escaped(sockets / f'term{i}.sock')},server=on,wait=off"


def _serial_target(i: int, serial: Serial) -> list[str]:
    if serial.target is SerialTarget.AUTO:
        return ["-serial", f"chardev:term{i}"]
    if serial.target is SerialTarget.MONITOR:
        return ["-mon", f"chardev=term{i},mode=readline"]
    if serial.target is SerialTarget.GDB:
        return ["-gdb", f"chardev:term{i}"]
    return ["-device", f"{_word(serial.hardware or 'invalid')},chardev=term{i}"]


def _cpu(system: System, *, tcg: bool) -> list[str]:
    if system.cpu == "default":
        model = _TCG_CPU.get(system.architecture, "max") if tcg else "host"
    else:
        flags = [f"+{_word(flag)}" for flag in system.cpu_flags_add]
        flags += [f"-{_word(flag)}" for flag in system.cpu_flags_remove]
        model = ",".join([_word(system.cpu), *flags])
    count = _cpus(system)
    return ["-cpu", model, "-smp", f"cpus={count},sockets=1,cores={count},threads=1"]


def _cpus(system: System) -> int:
    return system.cpu_count if system.cpu_count > 0 else cpu_count()


def _machine(config: QemuConfig, *, tcg: bool, version: tuple[int, int]) -> list[str]:
    target = _target(config.system.target, version)
    # The override is a list of properties by itself: its commas count.
    properties = config.qemu.machine_property_override or ""
    for name, value in _machine_defaults(config, tcg=tcg):
        if f"{name}=" not in properties:
            properties += f",{name}={value}" if properties else f"{name}={value}"
    return ["-machine", f"{target},{properties}" if properties else target]


def _machine_defaults(config: QemuConfig, *, tcg: bool) -> list[tuple[str, str]]:
    target = config.system.target
    if is_pc(config.system):
        quiet = [("i8042", "off")] if _uses_usb(config) and not config.qemu.ps2_controller else []
        return [("vmport", "off"), *quiet, ("hpet", "off")]
    if config.system.architecture != "aarch64" or not (target == "virt" or target.startswith("virt-")):
        return []
    defaults = [("virtualization", "on")] if tcg else []
    return [*defaults, ("gic-version", "3")] if _cpus(config.system) > _MANY_CPUS else defaults


def _target(target: str, version: tuple[int, int]) -> str:
    """Return the machine type, or its unversioned alias when the local QEMU is older than it."""
    match = _VERSIONED.fullmatch(target)
    if not match or (int(match[2]), int(match[3])) <= version:
        return target
    return _ALIASES.get(match[1], match[1])


def is_pc(system: System) -> bool:
    """Tell whether the machine is a PC with a chipset."""
    return system.architecture in ("x86_64", "i386") and system.target.startswith(("pc", "q35", "isapc"))


def _accelerator(system: System, accelerator: Accelerator, version: tuple[int, int]) -> list[str]:
    if accelerator.name != "tcg":
        return ["-accel", accelerator.name]
    size = system.jit_cache_mib if system.jit_cache_mib > 0 else min(_DEFAULT_TB_MIB, max(32, system.memory_mib // 4))
    thread = "multi" if system.force_multicore or version >= _MULTICORE_SINCE else "single"
    return ["-accel", f"tcg,thread={thread},tb-size={size}"]


def _architecture(config: QemuConfig, firmware: Firmware | None) -> list[str]:
    arguments: list[str] = []
    if config.system.architecture in ("x86_64", "i386"):
        arguments += ["-global", "PIIX4_PM.disable_s3=1", "-global", "ICH9-LPC.disable_s3=1"]
    if config.qemu.uefi_boot and not has_own_boot_code(config):
        if firmware is None:
            raise Refused("the bundle boots by UEFI, and no firmware was given")
        code = f"if=pflash,format=raw,unit=0,file.filename={escaped(firmware.code)},file.locking=off,readonly=on"
        variables = f"if=pflash,format=qcow2,unit=1,file.filename={escaped(firmware.variables)}"
        arguments += ["-drive", code, "-drive", variables]
    return [*arguments, "-m", str(config.system.memory_mib)]


def _sound(config: QemuConfig) -> list[str]:
    # UTM says `-audio none` without a sound card; QEMU 7.2 wants a model with it, and -nodefaults says the same.
    arguments = ["-audiodev", "none,id=audio0"] if config.sound else []
    for sound in config.sound:
        hardware = _word(sound.hardware)
        if "hda" in hardware:
            arguments += ["-device", hardware, "-device", "hda-duplex,audiodev=audio0"]
        else:
            arguments += ["-device", f"{hardware},audiodev=audio0"]
    return arguments


def _uses_usb(config: QemuConfig) -> bool:
    system = config.system
    able = system.architecture not in ("s390x", "sparc", "sparc64") and system.target != "isapc"
    return able and config.input.usb_bus_support is not UsbBus.DISABLED


def _usb(config: QemuConfig) -> list[str]:
    if not _uses_usb(config):
        return []
    virt = config.system.target.startswith("virt")
    bus = ["-device", "nec-usb-xhci,id=usb-bus"] if virt else ["-usb"]
    devices = ["usb-tablet"] if config.qemu.ps2_controller else ["usb-tablet", "usb-mouse", "usb-kbd"]
    return [*bus, *(word for device in devices for word in ("-device", f"{device},bus=usb-bus.0"))]


def _agent(config: QemuConfig, sockets: Path) -> list[str]:
    if config.system.architecture in _NO_AGENT or config.system.target == "isapc":
        return []
    name = "org.qemu.guest_agent"
    # fmt: off
    return [
        "-device", "virtio-serial",
        "-device", f"virtserialport,chardev={name},name={name}.0",
        "-chardev", f"socket,path={escaped(sockets / 'qga.sock')},server=on,wait=off,id={name}",
    ]
    # fmt: on


def _misc(config: QemuConfig, *, disposable: bool) -> list[str]:
    if config.qemu.tpm_device:
        raise Refused("QEMU.TPMDevice needs UTM: vmkit starts no software TPM")
    name = "".join(character for character in config.information.name if character.isalnum() or character == " ")
    # fmt: off
    return [
        "-name", name or "vmkit",
        *(["-snapshot"] if disposable else []),
        "-uuid", config.information.uuid,
        *(["-rtc", "base=localtime"] if config.qemu.rtc_local_time else []),
        *(["-device", "virtio-rng-pci"] if config.qemu.rng_device else []),
        *(["-device", "virtio-balloon-pci"] if config.qemu.balloon_device else []),
    ]
    # fmt: on


def _generation(system: System) -> list[str]:
    """Tell a guest that goes on from a kept state that this is another life: Linux then reseeds its random numbers."""
    return ["-device", "vmgenid,guid=auto"] if system.architecture == "x86_64" else []


def _word(name: str) -> str:
    """Return the name of a device or a CPU, which has no room for options. Raises Refused."""
    if not _NAME.fullmatch(name):
        raise Refused(f'"{name[:60]}" is no name of a device or a CPU')
    return name


def _value(text: str) -> str:
    """Return an address or the like as the value of an option, its commas doubled. Raises Refused."""
    if not text.isprintable():
        raise Refused(f'"{text[:60]!r}" is no value for QEMU')
    return text.replace(",", ",,")
