"""Machines of UTM's, tart's and lume's: the good ones are read value by value, the broken ones are left alone."""

import base64
import fcntl
import json
import os
import plistlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.foreign import (
    DISK_BYTES,
    HARDWARE_MODEL,
    MACHINE_IDENTIFIER,
    apple_bundle,
    asif_disk,
    digest,
    json_machine,
    lume_config,
    qcow2_disk,
    raw_disk,
    tart_config,
    utm_bundle,
    utm_config,
)
from vmkit.bundle.foreign import read_foreign
from vmkit.errors import NotFound, Refused, VmkitError
from vmkit.workflows.adopt_files import look_at_disk

SAMPLES = Path(__file__).parent.parent.parent / "data" / "utm-samples"


def read(path):
    return read_foreign(path, look=look_at_disk)


def test_a_bundle_of_utms_qemu_backend_is_read(tmp_path):
    bundle = utm_bundle(tmp_path)

    found = read(bundle)

    assert (found.kind, found.name, found.backend, found.system) == ("utm", "My Debian", "qemu", "linux")
    assert (found.arch, found.cpus, found.memory_mib, found.mac) == ("x86_64", 2, 2048, "52:54:00:12:34:56")
    assert (found.boot, found.firmware) == ("uefi", bundle / "Data" / "efi_vars.fd")
    [disk] = found.disks
    assert (disk.path, disk.format, disk.virtual_bytes) == (bundle / "Data" / "disk.qcow2", "qcow2", DISK_BYTES)
    assert set(found.dropped) == {
        "CD and removable drives",
        "sound cards",
        "its network: it gets an emulated one",
    }


def test_a_bundle_that_boots_a_kernel_is_read(tmp_path):
    config = utm_config()
    config["QEMU"] |= {"UEFIBoot": False, "AdditionalArguments": ["-append", '"root=/dev/vda ro"']}
    config["Drive"] += [
        {"Identifier": "k", "ImageName": "vmlinuz", "ImageType": "LinuxKernel", "Interface": "None"},
        {"Identifier": "i", "ImageName": "initrd.img", "ImageType": "LinuxInitrd", "Interface": "None"},
    ]
    bundle = utm_bundle(tmp_path, config=config)
    for name in ("vmlinuz", "initrd.img"):
        (bundle / "Data" / name).write_bytes(b"kernel")

    found = read(bundle)

    assert (found.boot, found.command_line, found.firmware) == ("direct", "root=/dev/vda ro", None)
    assert found.kernel == bundle / "Data" / "vmlinuz"
    assert found.initrd == bundle / "Data" / "initrd.img"


@pytest.mark.parametrize(
    ("sample", "system", "boot"),
    [("apple-macos", "macos", "mac"), ("apple-linux-uefi", "linux", "uefi")],
)
def test_a_bundle_of_utms_apple_backend_is_read(tmp_path, sample, system, boot):
    bundle = apple_bundle(tmp_path, sample=SAMPLES / f"{sample}.plist")

    found = read(bundle)

    assert (found.backend, found.system, found.boot) == ("apple", system, boot)
    assert found.disks[0].path == bundle / "Data" / "disk.img"
    assert (found.hardware_model is not None) == (system == "macos")


def test_a_machine_of_tarts_is_read(tmp_path):
    machine = json_machine(tmp_path, tart_config())

    found = read(machine)

    assert (found.kind, found.name, found.backend, found.system) == ("tart", "sonoma", "apple", "macos")
    assert (found.arch, found.cpus, found.memory_mib, found.mac) == ("aarch64", 4, 4096, "7E:03:A4:05:B6:07")
    assert (found.hardware_model, found.machine_identifier) == (HARDWARE_MODEL, MACHINE_IDENTIFIER)
    assert (found.firmware, found.disk_bytes, found.boot) == (machine / "nvram.bin", DISK_BYTES, "mac")


def test_a_linux_of_tarts_boots_by_uefi_and_has_no_mac_in_it(tmp_path):
    config = {key: value for key, value in tart_config(os="linux").items() if key not in ("ecid", "hardwareModel")}

    found = read(json_machine(tmp_path, config))

    assert (found.system, found.boot, found.hardware_model) == ("linux", "uefi", None)


def test_a_sparse_disk_of_apples_is_taken_for_what_it_says_to_be(tmp_path):
    machine = json_machine(tmp_path, tart_config(diskFormat="asif"))
    asif_disk(machine / "disk.img", size=64 << 30)

    found = read(machine)

    assert (found.disks[0].format, found.disk_bytes) == ("asif", 64 << 30)


def test_a_machine_of_lumes_is_read(tmp_path):
    machine = json_machine(tmp_path, lume_config(networkMode="bridged:en0"))

    found = read(machine)

    assert (found.kind, found.system, found.cpus, found.memory_mib) == ("lume", "macos", 4, 8192)
    assert (found.hardware_model, found.machine_identifier) == (HARDWARE_MODEL, MACHINE_IDENTIFIER)
    assert found.mac == "7E:03:A4:05:B6:08"
    assert found.dropped == ("its bridged network: it gets UTM's shared one",)


def test_what_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        read(tmp_path / "nothing")


def break_utm(changes):
    def make(folder):
        config = utm_config()
        for key, value in changes.items():
            config[key] = value(config[key]) if callable(value) else value
        return utm_bundle(folder, config=config)

    return make


def with_file(make, name, replace):
    """Make a machine and replace one of its files by something else."""

    def made(folder):
        machine = make(folder)
        (machine / name).unlink(missing_ok=True)
        replace(machine / name)
        return machine

    return made


def link_to_a_secret(path):
    secret = path.parent.parent.parent / "secret"
    raw_disk(secret)
    path.symlink_to(secret)


def listen(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's name is short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def remove(path):
    pass


def data_is_a_link(folder):
    bundle = utm_bundle(folder)
    (bundle / "Data").rename(folder / "elsewhere")
    (bundle / "Data").symlink_to(folder / "elsewhere")
    return bundle


def drive(**changes):
    return lambda drives: [drives[0] | changes]


BROKEN_UTM = {
    "no config": (with_file(utm_bundle, "config.plist", remove), "missing"),
    "config is no plist": (with_file(utm_bundle, "config.plist", lambda p: p.write_bytes(b"<plist")), "not a valid"),
    "config is a pipe": (with_file(utm_bundle, "config.plist", os.mkfifo), "not a regular file"),
    "config is huge": (with_file(utm_bundle, "config.plist", lambda p: p.write_bytes(bytes(2 << 20))), "larger than"),
    "a key is missing": (break_utm({"Display": "none"}), "UTM would not load it"),
    "the folder is a link": (data_is_a_link, "not a folder"),
    "no disk": (break_utm({"Drive": []}), "no disk"),
    "the disk is missing": (with_file(utm_bundle, "Data/disk.qcow2", remove), "missing"),
    "the disk is a link": (with_file(utm_bundle, "Data/disk.qcow2", link_to_a_secret), "not a regular file"),
    "the disk is a socket": (with_file(utm_bundle, "Data/disk.qcow2", listen), "not a regular file"),
    "the disk leaves the folder": (break_utm({"Drive": drive(ImageName="..")}), "no name of a file"),
    "the disk stands on another": (
        with_file(utm_bundle, "Data/disk.qcow2", lambda p: qcow2_disk(p, backing=b"/etc/passwd")),
        "backing file",
    ),
    "the disk is of VMware": (
        with_file(utm_bundle, "Data/disk.qcow2", lambda p: raw_disk(p, content=b"KDMV")),
        "format VMDK",
    ),
    "the variables stand on another file": (
        with_file(utm_bundle, "Data/efi_vars.fd", lambda p: qcow2_disk(p, backing=b"json:{}")),
        "backing file",
    ),
    "the disk is on USB": (break_utm({"Drive": drive(Interface="USB")}), "attached by USB"),
    "another architecture": (
        break_utm({"System": lambda s: s | {"Architecture": "ppc64", "Target": "pseries"}}),
        "ppc64",
    ),
    "arguments for QEMU": (
        break_utm({"QEMU": lambda q: q | {"AdditionalArguments": ["-drive", "file=/etc/shadow"]}}),
        "arguments for QEMU",
    ),
    "a TPM": (break_utm({"QEMU": lambda q: q | {"TPMDevice": True}}), "TPM"),
    "Windows": (break_utm({"Information": lambda i: i | {"Icon": "windows-11"}}), "Windows"),
    "no network card": (break_utm({"Network": []}), "MAC address"),
    "too much memory": (break_utm({"System": lambda s: s | {"MemorySize": 1 << 40}}), "memory"),
    "CPUs below zero": (break_utm({"System": lambda s: s | {"CPUCount": -1}}), "CPUs"),
    "it is suspended": (with_file(utm_bundle, "Data/vmstate", lambda p: p.write_bytes(b"")), "suspended"),
}


def tart(**changes):
    return lambda folder: json_machine(folder, tart_config(**changes))


def lume(**changes):
    return lambda folder: json_machine(folder, lume_config(**changes))


def encoded(content):
    return base64.b64encode(content).decode()


BOTH = {
    "no disk": lambda make: (with_file(make(), "disk.img", remove), "missing"),
    "no nvram": lambda make: (with_file(make(), "nvram.bin", remove), "missing"),
    "the disk is a link": lambda make: (with_file(make(), "disk.img", link_to_a_secret), "not a regular file"),
    "nvram is a pipe": lambda make: (with_file(make(), "nvram.bin", os.mkfifo), "not a regular file"),
    "config is a link": lambda make: (with_file(make(), "config.json", link_to_a_secret), "not a regular file"),
    "config is cut off": lambda make: (with_file(make(), "config.json", lambda p: p.write_text('{"os"')), "not JSON"),
    "config is a bomb": lambda make: (
        with_file(make(), "config.json", lambda p: p.write_text("[" * 30000)),
        "not JSON",
    ),
    "config is a list": lambda make: (with_file(make(), "config.json", lambda p: p.write_text("[]")), "not an object"),
    "a key occurs twice": lambda make: (
        with_file(make(), "config.json", lambda p: p.write_text('{"os": "linux", "os": "macOS"}')),
        "not JSON",
    ),
    "the disk is qcow2": lambda make: (with_file(make(), "disk.img", qcow2_disk), "is qcow2"),
    "half a sector": lambda make: (with_file(make(), "disk.img", lambda p: p.write_bytes(bytes(700))), "raw disk"),
    "CPUs in words": lambda make: (make(cpuCount="four"), "CPUs"),
    "CPUs are a boolean": lambda make: (make(cpuCount=True), "CPUs"),
    "no memory": lambda make: (make(memorySize=None), "memory"),
    "memory below zero": lambda make: (make(memorySize=-(4 << 30)), "memory"),
    "memory is a real": lambda make: (make(memorySize=4.5e9), "memory"),
    "no MAC address": lambda make: (make(macAddress="en0"), "MAC address"),
    "a group's MAC address": lambda make: (make(macAddress="ff:ff:ff:ff:ff:ff"), "MAC address"),
    "the hardware model is no base64": lambda make: (make(hardwareModel="***"), "base64"),
    "the hardware model is no plist": lambda make: (make(hardwareModel=encoded(b"model")), "hardware model"),
    "the hardware model is a list": lambda make: (
        make(hardwareModel=encoded(plistlib.dumps([1], fmt=plistlib.FMT_BINARY))),
        "dictionary",
    ),
    "the hardware model is empty": lambda make: (
        make(hardwareModel=encoded(plistlib.dumps({}, fmt=plistlib.FMT_BINARY))),
        "the macOS that it needs",
    ),
    "another system": lambda make: (make(os="windows"), '"windows"'),
}

BROKEN_TART = {name: make(tart) for name, make in BOTH.items()} | {
    "a newer version": (tart(version=2), "version 2"),
    "no ECID": (tart(ecid=encoded(plistlib.dumps({"X": 1}, fmt=plistlib.FMT_BINARY))), "a number in it is missing"),
    "the ECID is XML": (tart(ecid=encoded(plistlib.dumps({"ECID": 1}))), "machine identifier"),
    "Intel's macOS": (tart(arch="amd64"), "Intel"),
    "another format than it says": (tart(diskFormat="asif"), "should be asif"),
    "it is suspended": (with_file(tart(), "state.vzvmsave", lambda p: p.write_bytes(b"")), "suspended"),
}
BROKEN_LUME = {name: make(lume) for name, make in BOTH.items()} | {
    "no identifier": (lume(machineIdentifier=None), "base64"),
    "another size than it says": (lume(diskSize=1 << 30), "another size"),
    "not finished": (with_file(lume(), ".provisioning", lambda p: p.write_text("{}")), "not finished"),
    "neither one's": (lume(display=None), "neither tart's nor lume's"),
}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(*case, id=f"{kind}: {name}")
        for kind, cases in (("utm", BROKEN_UTM), ("tart", BROKEN_TART), ("lume", BROKEN_LUME))
        for name, case in cases.items()
    ],
)
def test_a_broken_one_is_refused_and_left_as_it_was(tmp_path, make, reason):
    machine = make(tmp_path)
    before = digest(tmp_path)

    with pytest.raises(Refused) as refused:
        read(machine)

    assert reason in f"{refused.value.message} {refused.value.detail}"
    assert digest(tmp_path) == before


def test_a_machine_that_tart_runs_is_refused(tmp_path):
    machine = json_machine(tmp_path, tart_config())
    hold = f"import fcntl,sys\nf=open({str(machine / 'config.json')!r},'r+')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()

        with pytest.raises(Refused, match="in use") as refused:
            read(machine)
        holder.stdin.close()

    assert refused.value.hint == "tart stop sonoma"


def test_a_machine_that_lume_runs_is_refused(tmp_path):
    machine = json_machine(tmp_path, lume_config())
    with (machine / "config.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(Refused, match="in use"):
            read(machine)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(sorted({**tart_config(), **lume_config()})), json_values, max_size=4))
@pytest.mark.parametrize("config", [tart_config, lume_config])
def test_whatever_a_config_says_it_is_read_or_refused(tmp_path_factory, config, changes):
    machine = json_machine(tmp_path_factory.mktemp("foreign"), config())
    (machine / "config.json").write_text(json.dumps(config() | changes))

    try:
        found = read(machine)
    except VmkitError as error:
        assert isinstance(error, Refused)  # noqa: PT017  # both outcomes are right
    else:
        assert 0 <= found.cpus <= 255
