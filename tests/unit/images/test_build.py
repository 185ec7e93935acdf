"""What a build asks of mmdebstrap, and what it refuses before it starts one."""

import io
import tarfile
from pathlib import Path

import pytest

from vmkit.errors import HostLacks, NotFound, ToolFailed, UsageError
from vmkit.host.computer import machine_arch
from vmkit.host.process import Completed, Runner, tool_failed
from vmkit.host.report import Silent
from vmkit.host.resources import data_folder
from vmkit.images.build import build_image, files_tar, mmdebstrap_argv, parse_packages
from vmkit.images.store import ImageStore

DATA = data_folder("provision") / "image"
PACKAGES = b"git 1:2.47 amd64 git 1:2.47\nlibssl3 3.5 amd64 openssl 3.5\n"


class Host(Runner):
    """A host on which programs are or are not, and mmdebstrap does what a test says."""

    def __init__(self, *, lacks: str = "", code: int = 0) -> None:
        self.lacks, self.code, self.argv = lacks, code, []

    def find(self, program: str) -> Path | None:
        return None if program == self.lacks else Path("/usr/bin") / program

    def run(self, argv, *, on_line=None, **_: object) -> Completed:
        self.argv.append(list(argv))
        on_line("I: running apt-get update...")
        if self.code:
            raise tool_failed(Completed(argv=tuple(argv), code=self.code, stdout=b"", stderr=b"E: no network"))
        for hook in [word.split() for word in argv if word.startswith("--customize-hook=download")]:
            Path(hook[2]).write_bytes(PACKAGES if "packages" in hook[1] else b"x" * 4096)
        return Completed(argv=tuple(argv), code=0, stdout=b"", stderr=b"")


def build(root: Path, host: Host, **options):
    return build_image("debian-13", store=ImageStore(root), runner=host, report=Silent(), **options)


needs_keyring = pytest.mark.skipif(
    not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists(), reason="no Debian keyring here"
)


@needs_keyring
def test_a_build_is_stored_with_what_it_says(tmp_path):
    image = build(tmp_path / "images", Host(), tag="v1")

    assert image.name == "debian-13:v1"
    assert image.user == "agent"
    assert image.arch == machine_arch()
    assert image.kernel_arguments.startswith("root=/dev/vda rw console=tty")
    assert image.disk.read_bytes() == b"x" * 4096
    meta = ImageStore(tmp_path / "images").manifest(image.digest).meta
    assert meta.packages == ("git 1:2.47 amd64", "libssl3 3.5 amd64")
    assert meta.sources == ("libssl3 openssl 3.5",)


@needs_keyring
def test_an_image_that_is_there_is_not_built_again(tmp_path):
    first = build(tmp_path / "images", Host())
    host = Host()

    second = build(tmp_path / "images", host)

    assert second == first
    assert host.argv == []


@needs_keyring
def test_a_failed_build_leaves_nothing(tmp_path):
    with pytest.raises(ToolFailed) as caught:
        build(tmp_path / "images", Host(code=25))

    assert "E: no network" in caught.value.detail
    assert ImageStore(tmp_path / "images").list() == ()
    assert not [path for path in (tmp_path / "images/staging").iterdir() if path.is_dir()]


@pytest.mark.parametrize("program", ["mmdebstrap", "mkfs.ext4"])
def test_a_missing_program_is_named_with_its_package(tmp_path, program):
    host = Host(lacks=program)

    with pytest.raises(HostLacks) as caught:
        build(tmp_path / "images", host)

    assert caught.value.hint.startswith("sudo apt install ")
    assert host.argv == []


def test_another_architecture_is_not_built_here(tmp_path):
    other = "aarch64" if machine_arch() == "x86_64" else "x86_64"

    with pytest.raises(HostLacks, match="computer of that kind"):
        build(tmp_path / "images", Host(), arch=other)


@pytest.mark.parametrize(
    "mirror", ["ftp://a", "http://a b", "http://a'; rm -rf /", "[trusted=yes] http://a", "http://"]
)
def test_a_mirror_that_is_no_address_is_refused(tmp_path, mirror):
    with pytest.raises(UsageError, match="mirror"):
        build(tmp_path / "images", Host(), mirror=mirror)


def test_an_unknown_release_is_not_found(tmp_path):
    with pytest.raises(NotFound) as caught:
        build_image("fedora-43", store=ImageStore(tmp_path), runner=Host(), report=Silent())

    assert caught.value.hint == "vmkit image build debian-13"


def test_without_root_the_build_runs_in_a_user_namespace(tmp_path):
    argv = mmdebstrap_argv("debian-13", arch="x86_64", mirror="http://m/debian", stage=tmp_path, as_root=False)

    assert "--mode=unshare" in argv
    assert "deb http://m/debian-security trixie-security main" in argv


def test_as_root_the_build_mounts_in_a_name_space_of_its_own(tmp_path):
    argv = mmdebstrap_argv("debian-13", arch="x86_64", mirror="http://m/debian", stage=tmp_path, as_root=True)

    assert argv[:3] == ["unshare", "--mount", "mmdebstrap"]


def test_a_folder_with_a_blank_stays_one_word_in_the_hooks(tmp_path):
    stage = tmp_path / "my images"
    stage.mkdir()

    argv = mmdebstrap_argv("debian-12", arch="x86_64", mirror="http://m/debian", stage=stage, as_root=True)

    assert f"--customize-hook=tar-in '{stage}/files.tar' /" in argv


@pytest.mark.parametrize(
    ("release", "arch", "wanted", "unwanted"),
    [
        ("debian-13", "amd64", "libasound2t64", "libasound2"),
        ("debian-12", "arm64", "libasound2", "libasound2t64"),
        ("debian-13", "arm64", "linux-image-cloud-arm64", "linux-image-cloud-amd64"),
    ],
)
def test_packages_are_those_of_the_release_and_architecture(release, arch, wanted, unwanted):
    packages = parse_packages((DATA / "packages").read_text(), wanted=(release, arch))

    assert wanted in packages
    assert unwanted not in packages
    assert {"openssh-server", "sudo", "ca-certificates", "git", "busybox-static", "e2fsprogs"} <= set(packages)


def test_a_package_line_that_is_none_is_named():
    with pytest.raises(UsageError, match="line 2"):
        parse_packages("git\n--allow-unauthenticated\n", wanted=())


def test_the_images_files_belong_to_root_and_have_their_modes():
    with tarfile.open(fileobj=io.BytesIO(files_tar(DATA))) as archive:
        entries = archive.getmembers()

    modes = {entry.name: entry.mode for entry in entries}
    assert {(entry.uid, entry.gid) for entry in entries} == {(0, 0)}
    assert modes["usr/lib/vmkit/ready"] == 0o755
    assert modes["vmkit-setup/init"] == 0o755
    assert modes["etc/sudoers.d/vmkit"] == 0o440
    assert modes["etc/ssh/sshd_config.d/vmkit.conf"] == 0o644


def test_sshd_takes_keys_only_and_no_environment_but_the_terminals():
    lines = (DATA / "root/etc/ssh/sshd_config.d/vmkit.conf").read_text().splitlines()

    assert "AuthenticationMethods publickey" in lines
    assert "PasswordAuthentication no" in lines
    assert "PermitRootLogin no" in lines
    assert "AcceptEnv LANG LC_* TERM COLORTERM" in lines
