"""Build a small Debian image that boots its own kernel: mmdebstrap, then a file system without a partition table.

What the image holds is data: `provision/image`. Building needs Linux, and root only where user namespaces are closed.
"""

import io
import os
import re
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path

from vmkit.errors import HostLacks, NotFound, UsageError
from vmkit.host.computer import is_macos, machine_arch
from vmkit.host.files import Lock, own_directory, require_space, staging
from vmkit.host.process import BUILD_S, Runner
from vmkit.host.report import Report
from vmkit.host.resources import data_folder
from vmkit.host.text import printable
from vmkit.images import provenance
from vmkit.images.layout import Boot, Image, ImageMeta, now, parse_reference
from vmkit.images.packages import differing_sources
from vmkit.images.store import ImageStore

RELEASES = {"debian-13": "trixie", "debian-12": "bookworm"}
DEFAULT_MIRROR = "http://deb.debian.org/debian"  # apt checks signatures itself
USER = "agent"

_MIRROR = re.compile(r"(https?|copy|file)://[A-Za-z0-9][A-Za-z0-9._~:/-]{0,200}|(copy|file):///[A-Za-z0-9._~/-]{1,200}")
_ARCHES = {"x86_64": ("amd64", "ttyS0"), "aarch64": ("arm64", "ttyAMA0")}
_PACKAGE_LINE = re.compile(r"([a-z0-9][a-z0-9.+-]+)(?:\s+\[([a-z0-9-]+)\])?")
# Measured: the kernel's tests of its own ciphers take 0.6 s under software emulation; with the security module `bpf`
# left out systemd does not load a program into it, 0.8 s.
_KERNEL_ARGUMENTS = "quiet net.ifnames=0 cryptomgr.notests lsm=landlock,yama,apparmor"
_PROGRAMS = {"mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "tar": "tar"}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_BUILD_BYTES = 3 << 30  # the root, its copy, the disk twice and its chunks, each under 0.5 GiB
_STEPS = 17  # lines that mmdebstrap 1.3.5 starts with "I:" in a build

# Runs outside the root, in mmdebstrap's user namespace if it made one, so that every file keeps its owner. The copy
# leaves out what mmdebstrap has mounted. A quarter and 64 MiB more than the files take holds the file system's tables
# and lets the machine boot before it has grown. All lies in the root, which mmdebstrap removes when a step fails.
_MAKE_DISK = """
set -e
cd "$1"
rm -r vmkit-out
mkdir vmkit-copy
cp -ax $(ls -A | grep -vxE 'dev|proc|run|sys|tmp|vmkit-copy') vmkit-copy/
mkdir -m 1777 vmkit-copy/tmp
mkdir vmkit-copy/dev vmkit-copy/proc vmkit-copy/run vmkit-copy/sys
kib=$(du -sk vmkit-copy | cut -f1)
truncate -s "$(((kib * 5 / 4 / 1024 + 64) * 1024 * 1024))" vmkit-disk
mkfs.ext4 -q -F -b 4096 -T default -m 1 -e remount-ro -L vmkit \\
    -E lazy_itable_init=1,nodiscard,root_owner=0:0 -d vmkit-copy vmkit-disk
rm -r vmkit-copy
"""


def build_image(
    release: str,
    *,
    store: ImageStore,
    runner: Runner,
    report: Report,
    arch: str | None = None,
    mirror: str | None = None,
    tag: str = "",
    again: bool = False,
    reference: str = "",
    refreshed_from: str = "",
) -> Image:
    """Build `debian-13` or `debian-12` into the store; `again` replaces an image that is there.

    `reference`: `NAME:TAG`, for another name than the release's. `refreshed_from`: the digest of the image that this
    one is the renewal of.

    One build runs at a time: who waited for another's takes its result. `mirror` defaults to VMKIT_DEBIAN_MIRROR, then
    to Debian's own. Raises NotFound, UsageError, HostLacks, TimedOut, ToolFailed; nothing half-made stays.
    """
    name = parse_reference(reference or f"{release}:{tag or 'latest'}")
    if release not in RELEASES:
        raise NotFound(f'vmkit cannot build "{printable(release)}"', hint=f"vmkit image build {next(iter(RELEASES))}")
    arch = arch or machine_arch()
    mirror = chosen_mirror(mirror)
    before = store.find(name)
    if before and not again:
        return store.get(name, report=report)
    require_host(arch, runner)
    own_directory(store.root)
    with Lock(store.root / f"build-{release}-{arch}.lock").acquire(f"building {name}", wait=True):
        after = store.find(name)
        if after and after != before:
            return store.get(name, report=report)
        require_space(store.root, needed_bytes=_BUILD_BYTES, what=f'building "{name}"')
        with staging(store.root / "staging") as stage:
            with report.phase("build", f"Building {name} from {mirror}"):
                argv = mmdebstrap_argv(release, arch=arch, mirror=mirror, stage=stage, as_root=os.geteuid() == 0)
                runner.run(argv, timeout_s=BUILD_S, env=build_environment(stage), on_line=_counter(report))
            listed = [line.split(" ") for line in (stage / "packages").read_text().splitlines()]
            meta = ImageMeta(
                arch=arch,
                boot=Boot.DIRECT,
                user=USER,
                created=now(),
                kernel_arguments=f"root=/dev/vda rw console={_ARCHES[arch][1]} {_KERNEL_ARGUMENTS}",
                release=release,
                packages=tuple(" ".join(words[:3]) for words in listed),
                sources=differing_sources(" ".join(words[:2] + words[3:]) for words in listed),
                lock=provenance.Lock(base="", refreshed_from=refreshed_from) if refreshed_from else None,
            )
            return store.add(
                name,
                disk=stage / "disk.raw",
                kernel=stage / "kernel",
                initrd=stage / "initrd",
                meta=meta,
                report=report,
            )


def mmdebstrap_argv(release: str, *, arch: str, mirror: str, stage: Path, as_root: bool) -> list[str]:
    """Write what the build takes in to the folder `stage`, and return the command that leaves its results there."""
    suite, debian_arch = RELEASES[release], _ARCHES[arch][0]
    data = data_folder("provision") / "image"
    (stage / "files.tar").write_bytes(files_tar(data))
    include = parse_packages((data / "packages").read_text(), wanted=(release, debian_arch))
    out = {name: shlex.quote(str(stage / name)) for name in ("files.tar", "kernel", "initrd", "packages", "disk.raw")}
    # fmt: off
    return [
        *mmdebstrap(as_root=as_root), "--format=null",
        "--skip=cleanup",  # of a root that is thrown away
        f"--architectures={debian_arch}", f"--include={','.join(include)}",
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/info/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        f"--customize-hook=tar-in {out['files.tar']} /",
        '--customize-hook=chroot "$1" sh /vmkit-setup/setup',
        *(f"--customize-hook=download /vmkit-out/{name} {out[name]}" for name in ("kernel", "initrd", "packages")),
        f"--customize-hook={_MAKE_DISK}",
        f"--customize-hook=download /vmkit-disk {out['disk.raw']}",
        suite, "/dev/null", *sources(mirror, suite),
    ]
    # fmt: on


def mmdebstrap(*, as_root: bool) -> list[str]:
    """Return how a command line begins that makes a small root of Debian packages."""
    # As root it mounts /dev and /proc into the new root. In a name space of its own they go when it is killed: left
    # behind, they would be deleted with the stage.
    own_mounts = ["unshare", "--mount"] if as_root else []
    return [*own_mounts, "mmdebstrap", "--variant=minbase", f"--mode={'root' if as_root else 'unshare'}"]


def build_environment(stage: Path) -> dict[str, str]:
    """Return the environment of a build in the folder `stage`."""
    # The initrd is ours; initramfs-tools would spend half a minute on one that is thrown away.
    environment = {"INITRD": "No"}
    if os.geteuid() == 0:
        environment["TMPDIR"] = str(stage)  # what a killed mmdebstrap leaves goes with the stage
    return environment


def sources(mirror: str, suite: str) -> list[str]:
    """Return apt's sources for a release."""
    return [
        f"deb {mirror} {suite} main",
        f"deb {mirror} {suite}-updates main",
        f"deb {mirror}-security {suite}-security main",
    ]


def parse_packages(text: str, *, wanted: tuple[str, ...]) -> list[str]:
    """Return the packages of a list whose limits, if they have any, are in `wanted`. Raises UsageError."""
    packages: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _PACKAGE_LINE.fullmatch(line.strip())
        if not match:
            raise UsageError(f"line {number} of the package list is not `name` or `name [release or architecture]`")
        if match[2] is None or match[2] in wanted:
            packages.append(match[1])
    return packages


def files_tar(data: Path) -> bytes:
    """Return the image's own files as a tar archive, owned by root; modes do not depend on how vmkit was installed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        root = data / "root"
        for path in sorted(root.rglob("*")):
            if path.is_file():
                _add(archive, path, str(path.relative_to(root)))
        for name in ("setup", "init"):
            _add(archive, data / name, f"vmkit-setup/{name}")
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)
    content = path.read_bytes()
    entry.size = len(content)
    entry.mode = 0o755 if content.startswith(b"#!") else 0o440 if "sudoers.d" in name else 0o644
    archive.addfile(entry, io.BytesIO(content))


def require_host(arch: str, runner: Runner) -> None:
    """Raise HostLacks unless Debian's packages of that architecture (`uname -m`) can be unpacked and set up here."""
    elsewhere = "fetch the publisher's: vmkit image fetch debian-13"
    if is_macos():
        raise HostLacks("images are built on Linux only", hint=elsewhere)
    if arch != machine_arch() or arch not in _ARCHES:
        raise HostLacks(f'an image for "{printable(arch)}" is built on a computer of that kind', hint=elsewhere)
    lacking = [package for program, package in _PROGRAMS.items() if not runner.find(program)]
    if not _KEYRING.exists():
        lacking.append("debian-archive-keyring")
    if lacking:
        raise HostLacks(f"building an image needs {', '.join(lacking)}", hint=f"sudo apt install {' '.join(lacking)}")


def chosen_mirror(mirror: str | None = None) -> str:
    """Return the mirror, else that of VMKIT_DEBIAN_MIRROR, else Debian's own. Raises UsageError."""
    mirror = mirror or os.environ.get("VMKIT_DEBIAN_MIRROR") or DEFAULT_MIRROR
    if not _MIRROR.fullmatch(mirror):
        raise UsageError(f'"{printable(mirror)}" is not the address of a Debian mirror', hint=DEFAULT_MIRROR)
    return mirror.rstrip("/")


def _counter(report: Report) -> Callable[[str], None]:
    done = 0

    def on_line(line: str) -> None:
        nonlocal done
        if line.startswith("I: "):
            done = min(done + 1, _STEPS)
            report.progress(done, _STEPS, "steps")

    return on_line
