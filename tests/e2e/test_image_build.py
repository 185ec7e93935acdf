"""The built image by itself, without vmkit's driver: small, sound, and obedient to its seed."""

import io
import socket
from pathlib import Path

import pycdlib
import pytest

from vmkit.host.process import Runner
from vmkit.host.wait import Deadline, until
from vmkit.images.disk import create_overlay
from vmkit.images.store import ImageStore

RUNNER = Runner()
BOOT_S = 240.0  # seen: 10 to 45 s under software emulation, by load


@pytest.fixture(scope="module")
def image(lab):
    return ImageStore(lab.home / "images").get("debian-13")


@pytest.mark.vm
def test_a_built_image_is_small_and_boots_its_own_kernel(image):
    assert image.kernel
    assert image.initrd
    assert image.initrd.stat().st_size < 4 << 20
    assert image.stored_bytes < 250 << 20
    assert image.virtual_bytes < 1 << 30
    RUNNER.run(["e2fsck", "-f", "-n", str(image.disk)], timeout_s=120)


def write_seed(path: Path, key: str) -> None:
    iso = pycdlib.PyCdlib()
    iso.new(vol_ident="cidata", joliet=3, rock_ridge="1.09", interchange_level=3)
    iso.add_directory("/VMKIT", rr_name="vmkit", joliet_path="/vmkit")
    host_key = path.with_name("host")
    RUNNER.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host_key)])
    values = {
        "instance-id": "test-instance-1\n",
        "hostname": "seeded\n",
        "user": "agent\n",
        "authorized_keys": key,
        "ssh_host_ed25519_key": host_key.read_text(),
        "ssh_host_ed25519_key.pub": host_key.with_suffix(".pub").read_text(),
    }
    for number, (name, text) in enumerate(values.items()):
        content = text.encode()
        iso.add_fp(
            io.BytesIO(content), len(content), f"/VMKIT/F{number}.;1", rr_name=name, joliet_path=f"/vmkit/{name}"
        )
    iso.write(str(path))
    iso.close()


@pytest.mark.vm
def test_a_seeded_machine_lets_its_user_in_and_fills_its_disk(image, tmp_path):
    RUNNER.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")])
    write_seed(tmp_path / "seed.iso", (tmp_path / "id.pub").read_text())
    create_overlay(image.disk, base_format="raw", target=tmp_path / "disk.qcow2", size_bytes=8 << 30, runner=RUNNER)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    console = tmp_path / "console"
    # fmt: off
    process = RUNNER.spawn([
        "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max,-cx16", "-smp", "2",
        "-m", "1024", "-nodefaults", "-no-user-config", "-display", "none", "-serial", f"file:{console}",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", image.kernel_arguments,
        "-drive", f"if=virtio,format=qcow2,file={tmp_path / 'disk.qcow2'}",
        "-drive", f"if=virtio,format=raw,readonly=on,file={tmp_path / 'seed.iso'}",
        "-device", "virtio-rng-pci",
        "-nic", f"user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
    ], log_path=tmp_path / "qemu.log")
    # fmt: on
    try:
        until(
            lambda _: console.exists() and b"vmkit: ready test-instance-1" in console.read_bytes(),
            deadline=Deadline(BOOT_S),
            what="the guest's ready line",
        )
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
        # fmt: off
        said = RUNNER.run([
            "ssh", "-F", "none", "-i", str(tmp_path / "id"), "-p", str(port), "-o", "IdentitiesOnly=yes",
            "-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}", "-o", "StrictHostKeyChecking=yes",
            "-o", "BatchMode=yes", "agent@127.0.0.1",
            "hostname; sudo -n id -u; df --output=size -BM / | tail -1; cat /run/vmkit/seed; echo ${SSH_CONNECTION:+ssh}",
        ], timeout_s=120).text.split()
        # fmt: on
    finally:
        process.kill()
        process.wait()

    assert said[:2] == ["seeded", "0"]
    assert int(said[2].removesuffix("M")) > 7000
    assert said[3:] == ["test-instance-1", "ssh"]
