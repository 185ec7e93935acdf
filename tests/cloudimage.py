"""Build a cloud image as the publishers' are: GPT, ESP, GRUB, Debian's own cloud-init, a root that grows; and serve it.

    python -m tests.cloudimage FOLDER     build debian-13-genericcloud-ARCH.qcow2 and its SHA512SUMS there

Needs the packages of `.ci/system-packages test`, and root where user namespaces are closed.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from vmkit.host.computer import machine_arch

MIRROR = os.environ.get("VMKIT_DEBIAN_MIRROR") or "http://deb.debian.org/debian"
PATH = "trixie/latest"  # below the publisher's base

# Debian's name of the architecture, GRUB's two names, the serial console, the root partition's type.
_ARCHES = {
    "x86_64": (
        "amd64",
        "x86_64-efi/monolithic/grubx64.efi",
        "BOOTX64.EFI",
        "ttyS0",
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    ),
    "aarch64": (
        "arm64",
        "arm64-efi/monolithic/grubaa64.efi",
        "BOOTAA64.EFI",
        "ttyAMA0",
        "b921b045-1df0-41c3-af44-4c6f280d3fae",
    ),
}
_ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
_ROOT_ID, _ROOT_UUID, _ESP_VOLUME = (
    "5b1a7c1e-3d52-4c4e-9a39-0f5a2f0f6d11",
    "0d2f8a36-7d0a-4a7e-8c55-6a3c1b1d9e20",
    "7C3A51D2",
)
_SECTOR, _MIB = 512, 1 << 20
_ESP_START, _ESP_MIB = 1, 16
_ROOT_START = _ESP_START + _ESP_MIB

# What Debian's own image has and the tests use; what the recipe `base` wants is in, so that it downloads nothing.
_PACKAGES = """
initramfs-tools systemd-sysv udev dbus libpam-systemd openssh-server sudo cloud-init cloud-guest-utils fdisk e2fsprogs
iproute2 procps less ca-certificates curl git python3 unzip xz-utils zstd
"""

# In the root, after the packages. Only what costs an emulated guest time is left out; cloud-init is as Debian has it.
_CONFIGURE = r"""
set -eu
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id
: >/etc/machine-id
echo localhost >/etc/hostname
printf 'UUID=%s / ext4 rw,discard,errors=remount-ro 0 0\n' "$ROOT_UUID" >/etc/fstab
rm -f /etc/resolv.conf
printf 'nameserver 10.0.2.3\n' >/etc/resolv.conf
systemctl enable --quiet systemd-networkd
systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service man-db.timer getty@tty1.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
    systemd-firstboot.service systemd-journal-flush.service systemd-pstore.service tmp.mount sshd-keygen.service \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount \
    modprobe@drm.service modprobe@fuse.service modprobe@configfs.service
mkdir -p /etc/systemd/system-generators /etc/systemd/journald.conf.d
for generator in cryptsetup debug gpt-auto hibernate-resume integritysetup rc-local run ssh system-update sysv tpm2 \
    veritysetup; do
    ln -s /dev/null "/etc/systemd/system-generators/systemd-$generator-generator"
done
printf '[Journal]\nStorage=volatile\n' >/etc/systemd/journald.conf.d/volatile.conf
mkdir -p /boot/grub
cat >/boot/grub/grub.cfg <<END
linux /vmlinuz root=PARTUUID=$ROOT_ID ro console=tty0 console=$CONSOLE quiet cryptomgr.notests
initrd /initrd.img
boot
END
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*.log /var/log/apt/*
# So that the first boot does not think that /usr has been updated, and rebuild its caches.
touch -r /usr /etc/.updated /var/.updated
"""

# Outside the root, in mmdebstrap's user namespace if it made one, so that every file keeps its owner.
_MAKE_ROOT = r"""
set -eu
cd "$1"
mkdir vmkit-copy
cp -ax $(ls -A | grep -vxE 'dev|proc|run|sys|tmp|vmkit-copy') vmkit-copy/
mkdir -m 1777 vmkit-copy/tmp
mkdir vmkit-copy/dev vmkit-copy/proc vmkit-copy/run vmkit-copy/sys
kib=$(du -sk vmkit-copy | cut -f1)
truncate -s "$(((kib * 5 / 4 / 1024 + 96) * 1024 * 1024))" vmkit-disk
mkfs.ext4 -q -F -U "$ROOT_UUID" -m 1 -E lazy_itable_init=1,nodiscard,root_owner=0:0 -d vmkit-copy vmkit-disk
rm -r vmkit-copy
"""


def build(folder: Path) -> Path:
    """Build the image and its list of digests into `folder`; return the image."""
    arch = machine_arch()
    debian_arch, grub, loader, console, root_type = _ARCHES[arch]
    with tempfile.TemporaryDirectory(dir=folder, prefix="build.") as name:
        stage = Path(name)
        stage.chmod(0o755)
        _make_root(stage / "root.img", debian_arch=debian_arch, console=console)
        _make_esp(stage / "esp.img", Path("/usr/lib/grub") / grub, loader)
        root_bytes = (stage / "root.img").stat().st_size
        disk = stage / "disk.raw"
        with disk.open("wb") as file:
            file.truncate(_ROOT_START * _MIB + root_bytes + _MIB)
        table = (
            "label: gpt\n"
            f"{disk}15 : start={_ESP_START * _MIB // _SECTOR}, size={_ESP_MIB * _MIB // _SECTOR}, type={_ESP_TYPE}\n"
            f"{disk}1 : start={_ROOT_START * _MIB // _SECTOR}, size={root_bytes // _SECTOR}, type={root_type}, uuid={_ROOT_ID}\n"
        )
        _run("sfdisk", "--quiet", str(disk), stdin=table)
        for part, start in (("esp.img", _ESP_START), ("root.img", _ROOT_START)):
            _run(
                "dd", f"if={stage / part}", f"of={disk}", "bs=1M", f"seek={start}", "conv=notrunc,sparse", "status=none"
            )
        image = folder / f"debian-13-genericcloud-{debian_arch}.qcow2"
        _run(
            "qemu-img",
            "convert",
            "-q",
            "-c",
            "-W",
            "-m",
            "4",
            "-f",
            "raw",
            "-O",
            "qcow2",
            str(disk),
            str(stage / image.name),
        )
        (stage / image.name).rename(image)
    write_sums(folder)
    return image


def write_sums(folder: Path) -> None:
    """Write `SHA512SUMS` for the images in `folder`, as Debian does."""
    lines = [
        f"{hashlib.sha512(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.glob("*.qcow2"))
    ]
    (folder / "SHA512SUMS").write_text("".join(lines))


def _make_root(target: Path, *, debian_arch: str, console: str) -> None:
    mode = "root" if os.geteuid() == 0 else "unshare"
    environment = {"ROOT_ID": _ROOT_ID, "ROOT_UUID": _ROOT_UUID, "CONSOLE": console}
    scripts = {}
    for name, text in (("configure", _CONFIGURE), ("make-root", _MAKE_ROOT)):
        values = "".join(f"{key}={value}\n" for key, value in environment.items())
        scripts[name] = target.with_name(name)
        scripts[name].write_text(values + text)
    packages = [f"linux-image-cloud-{debian_arch}", *_PACKAGES.split()]
    # fmt: off
    _run(
        *(["unshare", "--mount"] if mode == "root" else []),  # what it mounts goes with it
        "mmdebstrap", "--variant=minbase", f"--mode={mode}", "--format=null", "--skip=cleanup",
        f"--architectures={debian_arch}", f"--include={','.join(packages)}",
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        # A small initrd: only what finds the root.
        '--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"',
        '--essential-hook=printf "MODULES=list\\nCOMPRESS=zstd\\n" >"$1/etc/initramfs-tools/conf.d/small"',
        '--essential-hook=printf "virtio_pci\\nvirtio_blk\\next4\\n" >"$1/usr/share/initramfs-tools/modules.d/small"',
        f"--customize-hook=copy-in {scripts['configure']} /",
        '--customize-hook=chroot "$1" sh /configure',
        '--customize-hook=rm "$1/configure"',
        f'--customize-hook=sh {scripts["make-root"]} "$1"',
        f"--customize-hook=download vmkit-disk {target}",
        "trixie", "/dev/null", MIRROR,
    )
    # fmt: on


def _make_esp(target: Path, grub: Path, loader: str) -> None:
    """Make the EFI system partition: GRUB where firmware looks first, and the pointer to the root's own menu."""
    with target.open("wb") as file:
        file.truncate(_ESP_MIB * _MIB)
    _run("mkfs.vfat", "-i", _ESP_VOLUME, str(target))
    pointer = target.with_name("grub.cfg")
    pointer.write_text(
        f"search.fs_uuid {_ROOT_UUID} root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    )
    _run("mmd", "-i", str(target), "::/EFI", "::/EFI/BOOT", "::/EFI/debian")
    _run("mcopy", "-i", str(target), str(grub), f"::/EFI/BOOT/{loader}")
    _run("mcopy", "-i", str(target), str(pointer), "::/EFI/debian/grub.cfg")


def _run(*argv: str, stdin: str | None = None) -> None:
    environment = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} exited with {done.returncode}\n{done.stderr[-4000:]}")


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(sys.argv[1]))}\n")
