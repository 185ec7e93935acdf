"""QEMU's command line: UTM's devices in UTM's order, and nothing that a name or a path could add."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmkit.bundle.config import Drive, ImageType, Interface, QemuConfig, SerialMode, UsbBus, decode
from vmkit.bundle.plist import parse_plist
from vmkit.drivers.firmware import Firmware
from vmkit.drivers.qemu_args import Accelerator, qemu_arguments
from vmkit.errors import Refused

DATA = Path(__file__).parents[2] / "data"
BUNDLE = Path("/bundles/x.utm")
TCG = Accelerator("tcg", "a test")
HVF = Accelerator("hvf", "a test")


def config(file: str = "plists/kiro.plist") -> QemuConfig:
    found = decode(parse_plist((DATA / file).read_bytes()))
    assert isinstance(found, QemuConfig)
    return found


def arguments(of: QemuConfig, **changes: Any) -> list[str]:
    given_: dict[str, Any] = {
        "bundle": BUNDLE,
        "accelerator": TCG,
        "sockets": Path("/run/vm"),
        "console_log": Path("/home/vm/console.log"),
    }
    return qemu_arguments(of, **(given_ | changes))


def after(words: list[str], flag: str) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words) if word == flag]


def pairs(words: list[str]) -> list[tuple[str, str]]:
    """Join each flag with its value."""
    joined: list[tuple[str, str]] = []
    for word in words:
        if word.startswith("-"):
            joined.append((word, ""))
        else:
            joined[-1] = (joined[-1][0], f"{joined[-1][1]} {word}".strip())
    return joined


# What only UTM's own QEMU or SPICE has, as it is written in UTM's command line.
ONLY_UTM = re.compile(r"-(L|S|spice)\b|usbredir|usb-controller|spiceport|spicevmc|vdagent|org\.qemu\.monitor|vmnet")
# What we say otherwise: (flag, UTM's words, ours).
SAID_OTHERWISE = {
    ("-device", "virtio-gpu-pci,vgamem_mb=16"): ("-device", "virtio-gpu-pci"),  # stock QEMU refuses the property
    ("-audiodev", "spice,id=audio0"): ("-audiodev", "none,id=audio0"),
}


def test_the_devices_and_their_order_are_utm_s() -> None:
    utm = (DATA / "utm-samples" / "qemu-full.args").read_text().replace("<BUNDLE>", str(BUNDLE)).split()
    wanted = [SAID_OTHERWISE.get(pair, pair) for pair in pairs(utm) if not ONLY_UTM.search(" ".join(pair))]

    ours = pairs(arguments(config("utm-samples/qemu-full.plist"), accelerator=HVF))

    def stripped(pair: tuple[str, str]) -> tuple[str, str]:
        return pair[0], re.sub(r",format=\w+", "", pair[1])  # we say the format, UTM lets QEMU guess

    extra = [pair for pair in map(stripped, ours) if pair not in wanted]
    assert [pair for pair in map(stripped, ours) if pair in wanted] == wanted
    assert extra == [
        ("-no-user-config", ""),
        ("-display", "none"),
        ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        ("-qmp", "unix:/run/vm/qmp.sock,server=on,wait=off"),
        ("-netdev", "user,id=net1"),
        ("-netdev", "user,id=net2,restrict=on"),
        (
            "-chardev",
            "socket,id=term0,path=/run/vm/console.sock,server=on,wait=off,logfile=/home/vm/console.log,logappend=off",
        ),
        ("-chardev", "socket,path=/run/vm/qga.sock,server=on,wait=off,id=org.qemu.guest_agent"),
    ]


def test_a_machine_of_ours_is_small() -> None:
    words = arguments(config())

    assert [device.partition(",")[0] for device in after(words, "-device")] == [
        "virtio-net-pci",
        "virtio-blk-pci",
        "virtio-blk-pci",
        "virtio-blk-pci",  # the login's
        "virtio-serial",
        "virtserialport",
        "virtio-rng-pci",
    ]
    assert after(words, "-machine") == ["q35,vmport=off,hpet=off"]
    assert after(words, "-cpu") == ["max,-cx16"]
    assert after(words, "-accel") == ["tcg,thread=single,tb-size=512"]
    assert after(words, "-kernel") == ["/bundles/x.utm/Data/vmlinuz"]
    assert after(words, "-append") == ["root=LABEL=root console=ttyS0 quiet"]


@pytest.mark.parametrize(
    ("version", "words"),
    [((7, 2), ["-runas", "1900000001:1900000001"]), ((9, 1), ["-run-with", "user=1900000001:1900000001"])],
)
def test_a_qemu_that_root_starts_becomes_somebody_else(version: tuple[int, int], words: list[str]) -> None:
    given_ = arguments(config(), run_as=1_900_000_001, version=version)

    assert given_[given_.index(words[0]) :][:2] == words
    # the filter would kill QEMU for changing its user; afterwards it has no privilege left
    assert after(given_, "-sandbox") == ["on,obsolete=deny,spawn=deny,resourcecontrol=deny"]


def test_a_qemu_that_a_user_starts_stays_that_user() -> None:
    assert not {"-runas", "-run-with"} & set(arguments(config()))


@pytest.mark.parametrize("name", ["kvm", "hvf"])
def test_a_hypervisor_runs_the_host_s_cpu(name: Any) -> None:
    words = arguments(config(), accelerator=Accelerator(name, "a test"))

    assert after(words, "-cpu") == ["host"]
    assert after(words, "-accel") == [name]


def test_every_drive_says_its_format_and_a_seed_cannot_be_written() -> None:
    disk, seed, login = after(arguments(config()), "-drive")

    for written in (disk, login):
        assert ",format=qcow2," in written
        assert written.endswith("discard=unmap,detect-zeroes=unmap")
    assert seed.endswith("seed.iso,format=raw,file.locking=off,readonly=on")


def test_the_guest_finds_the_logins_disk_by_its_serial_number() -> None:
    devices = after(arguments(config()), "-device")

    assert "virtio-blk-pci,drive=drivelogin,serial=login,bootindex=3" in devices


def test_isolation_restricts_the_network() -> None:
    isolated = replace(config(), network=(replace(config().network[0], isolate_from_host=True),))

    assert after(arguments(isolated), "-netdev") == ["user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22"]


@pytest.mark.parametrize(
    ("architecture", "target", "version", "expected"),
    [
        ("x86_64", "pc-q35-10.0", (7, 2), "q35"),
        ("x86_64", "pc-q35-7.2", (7, 2), "pc-q35-7.2"),
        ("x86_64", "pc-i440fx-8.0", (7, 2), "pc"),
        ("aarch64", "virt-9.2", (7, 2), "virt"),
        ("aarch64", "virt-2.12", (7, 2), "virt-2.12"),
        ("ppc64", "pseries-10.0", (9, 0), "pseries"),
    ],
)
def test_a_newer_machine_type_falls_back(
    architecture: str, target: str, version: tuple[int, int], expected: str
) -> None:
    system = replace(config().system, architecture=architecture, target=target)

    (machine,) = after(arguments(replace(config(), system=system), version=version), "-machine")

    assert machine.partition(",")[0] == expected


def test_uefi_takes_the_firmware_and_a_kernel_leaves_it_out() -> None:
    firmware = Firmware(code=Path("/fw/code.fd"), variables=Path("/b/Data/efi_vars.fd"))
    booting = replace(config(), qemu=replace(config().qemu, uefi_boot=True))
    without_kernel = replace(booting, drive=booting.drive[:2])

    assert not any("pflash" in drive for drive in after(arguments(booting, firmware=firmware), "-drive"))
    code, variables, *_ = after(arguments(without_kernel, firmware=firmware), "-drive")
    assert code == "if=pflash,format=raw,unit=0,file.filename=/fw/code.fd,file.locking=off,readonly=on"
    assert variables == "if=pflash,format=qcow2,unit=1,file.filename=/b/Data/efi_vars.fd"
    with pytest.raises(Refused):
        arguments(without_kernel)


@pytest.mark.parametrize(
    ("interface", "image_type", "device"),
    [
        (Interface.IDE, ImageType.CD, "ide-cd,bus=ide.0,drive=drived,bootindex=0"),
        (Interface.IDE, ImageType.DISK, "ide-hd,bus=ide.0,drive=drived,bootindex=0"),
        (Interface.NVME, ImageType.DISK, "nvme,drive=drived,serial=d,bootindex=0"),
        (Interface.SCSI, ImageType.DISK, "scsi-hd,bus=scsi0.0,channel=0,scsi-id=0,drive=drived,bootindex=0"),
        (Interface.USB, ImageType.CD, "usb-storage,drive=drived,removable=true,bootindex=0"),
    ],
)
def test_drives_are_attached_as_utm_does(interface: Interface, image_type: ImageType, device: str) -> None:
    drive = replace(config().drive[0], interface=interface, image_type=image_type, identifier="d")

    assert device in after(arguments(replace(config(), drive=(drive,))), "-device")


def test_a_disposable_start_keeps_no_change() -> None:
    assert "-snapshot" in arguments(config(), disposable=True)
    assert "-snapshot" not in arguments(config())


def test_a_disposable_start_with_disks_of_its_own_writes_there_and_has_another_generation() -> None:
    drive = next(drive for drive in config().drive if drive.is_medium)
    words = arguments(config(), disposable=True, throwaway={drive.identifier: Path("/once/d.qcow2")})

    assert "-snapshot" not in words
    assert any("file.filename=/once/d.qcow2,format=qcow2" in word for word in after(words, "-drive"))
    assert "vmgenid,guid=auto" in after(words, "-device")


def test_usb_and_other_serial_ports_follow_the_file() -> None:
    terminal = replace(config().serial[0], mode=SerialMode.TERMINAL)
    usb = replace(config().input, usb_bus_support=UsbBus.USB_3)

    words = arguments(replace(config(), serial=(terminal, terminal), input=usb))

    assert "socket,id=term1,path=/run/vm/term1.sock,server=on,wait=off" in after(words, "-chardev")
    assert after(words, "-machine") == ["q35,vmport=off,i8042=off,hpet=off"]
    assert "-usb" in words


PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=30).filter(
    lambda text: text not in (".", "..")
)


@settings(max_examples=150, deadline=None)
@given(folder=PATHS, name=PATHS, machine=st.text(max_size=20))
def test_a_hostile_path_adds_no_option(folder: str, name: str, machine: str) -> None:
    drive = replace(config().drive[0], image_name=name)
    hostile = replace(config(), drive=(drive,), information=replace(config().information, name=machine))

    try:
        words = arguments(hostile, bundle=Path("/b") / folder, sockets=Path("/s") / folder)
    except Refused:
        return

    (found,) = after(words, "-drive")
    options = re.split(r"(?<!,)(?:,,)*,(?!,)", found.replace(",,", "\0"))
    path = next(option for option in options if option.startswith("file.filename="))
    assert path.removeprefix("file.filename=").replace("\0", ",") == f"/b/{folder}/Data/{name}"
    assert len(options) == 7
    assert len(words) == len(arguments(replace(config(), drive=config().drive[:1])))


@pytest.mark.parametrize("field", ["identifier"])
@pytest.mark.parametrize("text", ["a,readonly=on", "", "a b", "é", "a\n"])
def test_a_drive_s_identifier_is_a_word(field: str, text: str) -> None:
    drive = replace(config().drive[0], **{field: text})

    with pytest.raises(Refused):
        arguments(replace(config(), drive=(drive,)))


@pytest.mark.parametrize("hardware", ["virtio-net-pci,romfile=/etc/passwd", "", "-device", "a b"])
def test_a_device_s_name_has_no_room_for_options(hardware: str) -> None:
    network = replace(config().network[0], hardware=hardware)

    with pytest.raises(Refused):
        arguments(replace(config(), network=(network,)))


def test_a_drive_stays_in_its_bundle() -> None:
    drive: Drive = replace(config().drive[0], image_name="../../../etc/passwd")

    (found,) = after(arguments(replace(config(), drive=(drive,))), "-drive")

    assert "file.filename=/bundles/x.utm/Data/passwd," in found
