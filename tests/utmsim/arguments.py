"""QEMU's command line from a configuration: the simulator's own reading of reference section 6, not vmkit's.

Where stock QEMU lacks what UTM's has, a stand-in: KVM and HVF are TCG, vmnet is slirp without forwards, SPICE is nothing.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from tests.utmsim.faults import EventError

_CODE = {
    "x86_64": Path("/usr/share/OVMF/OVMF_CODE_4M.fd"),
    "aarch64": Path("/usr/share/AAVMF/AAVMF_CODE.fd"),
}
VARIABLES = {
    "x86_64": Path("/usr/share/OVMF/OVMF_VARS_4M.fd"),
    "aarch64": Path("/usr/share/AAVMF/AAVMF_VARS.fd"),
}
_WITHOUT_AGENT = {"avr", "m68k", "microblaze", "microblazeel", "rx", "sparc", "sparc64", "tricore"}


def needs_firmware(config: dict[str, Any]) -> bool:
    """Tell whether UEFI boots: not when a drive is a kernel or a BIOS, or a flash chip."""
    own = any(
        drive["ImageType"] in ("BIOS", "LinuxKernel") or drive["Interface"] == "PFlash" for drive in config["Drive"]
    )
    return config["QEMU"]["UEFIBoot"] and not own


def command_line(
    config: dict[str, Any],
    *,
    data: Path,
    sockets: Path,
    version: tuple[int, int],
    shares: list[str],
    disposable: bool,
) -> list[str]:
    """Return the whole argv. Raises EventError."""
    system, qemu = config["System"], config["QEMU"]
    architecture = system["Architecture"]
    pc = architecture in ("x86_64", "i386")
    argv = [f"qemu-system-{architecture}", "-S", "-qmp", f"unix:{_path(sockets / 'qmp')},server=on,wait=off"]
    argv += ["-nodefaults"] + ([] if architecture.startswith("sparc") else ["-vga", "none"])
    argv += _network(config["Network"]) + _display(config["Display"]) + _serial(config["Serial"])
    argv += _processor(system, version) + _machine(config, version)
    argv += [
        "-accel",
        f"tcg,thread={_threads(system, version)},tb-size={system['JITCacheSize'] or max(32, system['MemorySize'] // 4)}",
    ]
    if pc:
        argv += ["-global", "PIIX4_PM.disable_s3=1", "-global", "ICH9-LPC.disable_s3=1"]
    if needs_firmware(config):
        if architecture not in _CODE:
            raise EventError("UEFI is not supported with this architecture.")
        code = f"if=pflash,format=raw,unit=0,file.filename={_CODE[architecture]},file.locking=off,readonly=on"
        argv += ["-drive", code, "-drive", f"if=pflash,unit=1,file.filename={_path(data / 'efi_vars.fd')}"]
    argv += ["-m", str(system["MemorySize"])]
    for card in config["Sound"]:
        hda = "hda" in card["Hardware"]
        argv += ["-device", card["Hardware"]] if hda else ["-device", f"{card['Hardware']},audiodev=audio0"]
        argv += ["-device", "hda-duplex,audiodev=audio0"] if hda else []
    argv += ["-audiodev", "none,id=audio0"] if config["Sound"] else []
    argv += _usb(config) + _drives(config, data) + _sharing(config, shares)
    if architecture not in _WITHOUT_AGENT and system["Target"] != "isapc":
        argv += ["-device", "virtio-serial", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
        argv += ["-chardev", f"socket,id=agent,path={_path(sockets / 'qga')},server=on,wait=off"]
    argv += ["-name", "".join(c for c in config["Information"]["Name"] if c.isalnum() or c == " ") or "VM"]
    argv += ["-snapshot"] if disposable else []
    argv += ["-uuid", config["Information"]["UUID"]]
    argv += ["-rtc", "base=localtime"] if qemu["RTCLocalTime"] else []
    argv += ["-device", "virtio-rng-pci"] if qemu["RNGDevice"] else []
    argv += ["-device", "virtio-balloon-pci"] if qemu["BalloonDevice"] else []
    return argv + [token for text in qemu["AdditionalArguments"] for token in split(text)]


def split(text: str) -> list[str]:
    """Split as UTM does: at white space outside double quotes; quotes around a whole token go away."""
    tokens, token, quoted = [], "", False
    for character in text:
        if character.isspace() and not quoted:
            tokens.append(token)
            token = ""
        else:
            quoted ^= character == '"'
            token += character
    tokens.append(token)
    whole = [t[1:-1] if len(t) > 1 and t[0] == t[-1] == '"' and t.count('"') == 2 else t for t in tokens if t]
    return [t for t in whole if t]


def _path(path: Path) -> str:
    return str(path).replace(",", ",,")


def _network(networks: list[dict[str, Any]]) -> list[str]:
    argv = [] if networks else ["-nic", "none"]
    for i, network in enumerate(networks):
        options = [f"user,id=net{i}"]
        options += ["restrict=on"] if network["IsolateFromHost"] else []
        if network["Mode"] == "Emulated":
            for key, option in (
                ("VlanGuestAddress", "net"),
                ("VlanHostAddress", "host"),
                ("VlanGuestAddressIPv6", "ipv6-net"),
                ("VlanHostAddressIPv6", "ipv6-host"),
                ("VlanDhcpStartAddress", "dhcpstart"),
                ("VlanDhcpDomain", "domainname"),
                ("VlanDnsServerAddress", "dns"),
                ("VlanDnsServerAddressIPv6", "ipv6-dns"),
                ("VlanDnsSearchDomain", "dnssearch"),
            ):
                options += [f"{option}={network[key]}"] if network.get(key) else []
            for forward in network["PortForward"]:
                host = f"{forward.get('HostAddress', '')}:{forward['HostPort']}"
                guest = f"{forward.get('GuestAddress', '')}:{forward['GuestPort']}"
                options.append(f"hostfwd={forward['Protocol'].lower()}:{host}-{guest}")
        argv += ["-device", f"{network['Hardware']},mac={network['MacAddress']},netdev=net{i}"]
        argv += ["-netdev", ",".join(options)]
    return argv


def _display(displays: list[dict[str, Any]]) -> list[str]:
    if not displays:
        return ["-nographic"]
    argv = ["-display", "none"]
    for display in displays:
        hardware = "virtio-gpu-pci" if display["Hardware"].startswith("virtio-ramfb") else display["Hardware"]
        argv += ["-device", hardware]
    return argv


def _serial(serials: list[dict[str, Any]]) -> list[str]:
    argv = []
    for i, serial in enumerate(serials):
        mode, port = serial["Mode"], serial.get("TcpPort", 1234)
        if mode == "Ptty":
            backend = "pty"
        elif mode == "TcpClient":
            backend = f"socket,port={port},host={serial.get('TcpHostAddress', 'example.com')},server=off"
        elif mode == "TcpServer":
            host = "0.0.0.0" if serial.get("RemoteConnectionAllowed") else "127.0.0.1"
            wait = "on" if serial.get("WaitForConnection") else "off"
            backend = f"socket,port={port},host={host},server=on,wait={wait}"
        else:
            backend = "null"
        kind, _, rest = backend.partition(",")
        argv += ["-chardev", ",".join(filter(None, (kind, f"id=term{i}", rest)))]
        argv += {
            "Auto": ["-serial", f"chardev:term{i}"],
            "Manual": ["-device", f"{serial.get('Hardware', 'invalid-device')},chardev=term{i}"],
            "Monitor": ["-mon", f"chardev=term{i},mode=readline"],
            "GDB": ["-gdb", f"chardev:term{i}"],
        }[serial["Target"]]
    return argv


def _processor(system: dict[str, Any], version: tuple[int, int]) -> list[str]:
    model = ",".join(
        [
            system["CPU"],
            *(f"+{flag}" for flag in system["CPUFlagsAdd"]),
            *(f"-{flag}" for flag in system["CPUFlagsRemove"]),
        ]
    )
    if system["CPU"] == "default":
        model = {"aarch64": "cortex-a72", "arm": "cortex-a15"}.get(system["Architecture"], "max")
        if system["Architecture"] == "x86_64" and version < (8, 0):
            model = "max,-cx16"  # Debian 13's kernel dies of cmpxchg16b under the emulation of QEMU 7.2
    count = system["CPUCount"] or os.cpu_count() or 1
    return ["-cpu", model, "-smp", f"cpus={count},sockets=1,cores={count},threads=1"]


def _threads(system: dict[str, Any], version: tuple[int, int]) -> str:
    return "multi" if system["ForceMulticore"] or version >= (8, 0) else "single"


def _machine(config: dict[str, Any], version: tuple[int, int]) -> list[str]:
    system, target = config["System"], config["System"]["Target"]
    stem, _, number = target.rpartition("-")
    parts = number.split(".")
    if stem and all(part.isdigit() for part in parts) and len(parts) > 1 and tuple(map(int, parts[:2])) > version:
        target = {"pc-q35": "q35", "pc-i440fx": "pc"}.get(stem, stem)
    properties = [config["QEMU"].get("MachinePropertyOverride", "")]
    named = {pair.partition("=")[0] for pair in properties[0].split(",")}
    wanted = {}
    if system["Architecture"] in ("x86_64", "i386") and target.startswith(("pc", "q35")):
        wanted = {"vmport": "off", "hpet": "off"}
        if config["Input"]["UsbBusSupport"] != "Disabled" and not config["QEMU"]["PS2Controller"]:
            wanted["i8042"] = "off"
    elif system["Architecture"] == "aarch64" and target.startswith("virt"):
        wanted = {"virtualization": "on"} | ({"gic-version": "3"} if system["CPUCount"] > 8 else {})
    properties += [f"{key}={value}" for key, value in wanted.items() if key not in named]
    return ["-machine", ",".join(filter(None, (target, *properties)))]


def _usb(config: dict[str, Any]) -> list[str]:
    if config["Input"]["UsbBusSupport"] == "Disabled" or config["System"]["Target"] == "isapc":
        return []
    virt = config["System"]["Target"].startswith("virt")
    argv = ["-device", "nec-usb-xhci,id=usb-bus"] if virt else ["-usb"]
    devices = ["usb-tablet"] + ([] if config["QEMU"]["PS2Controller"] else ["usb-mouse", "usb-kbd"])
    return argv + [word for device in devices for word in ("-device", f"{device},bus=usb-bus.0")]


def _drives(config: dict[str, Any], data: Path) -> list[str]:
    direct = {"BIOS": "-bios", "LinuxKernel": "-kernel", "LinuxInitrd": "-initrd", "LinuxDTB": "-dtb"}
    loads_kernel = any(drive["ImageType"] == "LinuxKernel" and drive.get("ImageName") for drive in config["Drive"])
    # The option ROM of -kernel has boot index 0 on a PC, and stock QEMU refuses a second one.
    boot = int(loads_kernel)
    argv, units = [], Counter[str]()
    for drive in config["Drive"]:
        file = data / drive["ImageName"] if drive.get("ImageName") else None
        if file is not None:
            _check_sandbox(file)
        kind = drive["ImageType"]
        if kind in direct:
            argv += [direct[kind], str(file)] if file else []
        elif kind in ("Disk", "CD"):
            device = _drive_device(config["System"], drive, units[drive["Interface"]])
            units[drive["Interface"]] += 1
            if device:
                argv += (
                    ["-device", "lsi53c895a,id=scsi0"] if units["SCSI"] == 1 and drive["Interface"] == "SCSI" else []
                )
                argv += ["-device", f"{device},bootindex={boot}"]
                boot += 1
            argv += ["-drive", _backend(drive, file, attached=not device)]
    return argv


def _check_sandbox(file: Path) -> None:
    """Refuse what the sandbox does not let UTM's QEMU open: anything outside the container. Raises EventError."""
    if not file.exists():
        raise EventError(f"Cannot access resource: {file}")
    with file.open("rb") as opened:
        header = opened.read(20)
    backed = header[:4] == b"QFI\xfb" and any(header[8:16])
    if backed or not file.resolve().is_relative_to(file.parent.resolve()):
        raise EventError(f"QEMU exited from an error: Could not open '{file}': Operation not permitted")


def _drive_device(system: dict[str, Any], drive: dict[str, Any], unit: int) -> str:
    name, interface = f"drive{drive['Identifier']}", drive["Interface"]
    medium = "cd" if drive["ImageType"] == "CD" else "hd"
    if interface == "VirtIO":
        model = "virtio-blk-ccw" if system["Architecture"] == "s390x" else "virtio-blk-pci"
        return f"{model},drive={name},serial={drive['Identifier'].replace('-', '')[:20]}"
    if interface == "IDE":
        return f"ide-{medium},bus=ide.{unit},drive={name}"
    if interface == "NVMe":
        return f"nvme,drive={name},serial={drive['Identifier']}"
    if interface == "USB":
        bus = ",bus=usb-bus.0" if system["Target"].startswith("virt") else ""
        removable = "on" if medium == "cd" or not drive.get("ImageName") else "off"
        return f"usb-storage,drive={name},removable={removable}{bus}"
    if interface == "SCSI":
        return f"scsi-{medium},bus=scsi0.0,channel=0,scsi-id={unit},drive={name}"
    return ""


def _backend(drive: dict[str, Any], file: Path | None, *, attached: bool) -> str:
    own = {"SD": "sd", "MTD": "mtd", "PFlash": "pflash", "Floppy": "floppy"}
    cd = drive["ImageType"] == "CD"
    read_only = drive.get("ReadOnly", file is None) or cd
    options = [f"if={own.get(drive['Interface'], 'none') if attached else 'none'}"]
    options += [f"media={'cdrom' if cd else 'disk'}", f"id=drive{drive['Identifier']}"]
    # No format: UTM lets QEMU look what the file is.
    options += [f"file.filename={_path(file)}"] if file else []
    options += ["file.locking=off"] if file and read_only else []
    options += ["readonly=on"] if read_only else ["discard=unmap", "detect-zeroes=unmap"]
    return ",".join(options)


def _sharing(config: dict[str, Any], shares: list[str]) -> list[str]:
    if config["Sharing"]["DirectoryShareMode"] != "VirtFS" or not shares:
        return []
    read_only = ",readonly=on" if config["Sharing"]["DirectoryShareReadOnly"] else ""
    return [
        "-fsdev", f"local,id=virtfs0,path={_path(Path(shares[0]))},security_model=mapped-xattr{read_only}",
        "-device", "virtio-9p-pci,fsdev=virtfs0,mount_tag=share",
    ]  # fmt: skip
