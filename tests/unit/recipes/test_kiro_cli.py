"""The shipped scripts, run for real below a throw-away home, with archives made here."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.recipes.here import FileAsset, HereGuest, pack
from vmkit.guest.base import Command
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.host.resources import data_folder
from vmkit.recipes.apply import Applied, StepFailed, provision
from vmkit.recipes.assets import AssetIdentity
from vmkit.recipes.load import load_recipes
from vmkit.recipes.model import Recipe

PROGRAMS = ("kiro-cli", "kiro-cli-chat", "kiro-cli-term")
# As the real one: asks on the terminal before it replaces a version, and sets nothing up when told so.
INSTALLER = """#!/bin/sh
set -eu
[ "$KIRO_CLI_SKIP_SETUP" = 1 ]
if [ -e "$HOME/.local/bin/kiro-cli" ]; then printf 'replace it? (y/N): ' >&2; read -r answer </dev/tty; fi
cp "$(dirname "$0")"/bin/* "$HOME/.local/bin"
"""
PROGRAM = """#!/bin/sh
[ "$1" != settings ] || { shift; echo "$*" >>"$HOME/settings"; exit; }
echo "$(basename "$0") VERSION"
"""


def kiro(
    guest: HereGuest, tmp_path: Path, *, version: str = "2.24.1", suffix: str = "tar.gz", **programs: str
) -> FileAsset:
    folder = tmp_path / version / "kirocli"
    (folder / "bin").mkdir(parents=True)
    (folder / "install.sh").write_text(INSTALLER)
    (folder / "install.sh").chmod(0o755)
    for name in PROGRAMS:
        program = folder / "bin" / name
        program.write_text(programs.get(name.replace("-", "_"), PROGRAM).replace("VERSION", version))
        program.chmod(0o755)
    archive = tmp_path / f"{version}.{suffix}"
    match suffix:
        case "zip":
            shutil.make_archive(str(archive.with_suffix("")), "zip", folder.parent, folder.name)
        case "tar.zst":
            pack(folder, archive.with_suffix(".gz"))
            Runner().run(["sh", "-c", f"gunzip <{archive.with_suffix('.gz')} | zstd -q >{archive}"])
        case _:
            pack(folder, archive)
    return asset(archive, version)


def asset(archive: Path, version: str) -> FileAsset:
    content = archive.read_bytes()
    identity = AssetIdentity(version=version, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    return FileAsset(archive, identity)


def user_steps() -> Recipe:
    """Return the recipe without the steps that write outside the home folder."""
    recipe = load_recipes(["kiro-cli"], user_folder=Path("absent"))[-1]
    steps = tuple(step for step in recipe.steps if step.id in {"archive", "install", "settings"})
    return replace(recipe, steps=steps)


@pytest.fixture
def install(guest: HereGuest) -> Callable[[FileAsset], Applied]:
    def run(asset: FileAsset) -> Applied:
        return provision(
            [user_steps()], guest=guest, assets={"kiro-cli": asset}, report=Silent(), stamps=str(guest.stamps)
        )

    return run


def said(guest: HereGuest, program: str) -> str:
    return guest.run(Command(guest.home / ".local" / "bin" / program, "--version")).text.strip()


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.xz", "tar.zst", "zip"])
def test_every_kind_of_archive_is_installed(install, guest: HereGuest, tmp_path: Path, suffix: str) -> None:
    needed = {"zip": "unzip", "tar.zst": "zstd", "tar.xz": "xz"}.get(suffix, "gzip")
    if not shutil.which(needed):
        pytest.skip(f"{needed} is not installed")

    applied = install(kiro(guest, tmp_path, suffix=suffix))

    assert applied.changed == 3
    assert [said(guest, program) for program in PROGRAMS] == [f"{program} 2.24.1" for program in PROGRAMS]
    assert (guest.home / "settings").read_text() == "app.disableAutoupdates true\n"
    assert list((guest.home / ".cache").iterdir()) == []


def test_second_run_changes_nothing(install, guest: HereGuest, tmp_path: Path) -> None:
    archive = kiro(guest, tmp_path)
    install(archive)

    assert install(archive).changed == 0
    assert archive.fetched == 1


def test_new_version_replaces_the_old_one_without_a_question(install, guest: HereGuest, tmp_path: Path) -> None:
    install(kiro(guest, tmp_path, version="2.20.0"))

    applied = install(kiro(guest, tmp_path, version="2.24.1"))

    assert (applied.changed, applied.unchanged) == (2, 1)
    assert said(guest, "kiro-cli-chat") == "kiro-cli-chat 2.24.1"


def test_program_that_updated_itself_is_brought_back(install, guest: HereGuest, tmp_path: Path) -> None:
    archive = kiro(guest, tmp_path)
    install(archive)
    (guest.home / ".local/bin/kiro-cli").write_text(PROGRAM.replace("VERSION", "9.9.9"))

    install(archive)

    assert said(guest, "kiro-cli") == "kiro-cli 2.24.1"


def test_lost_chat_is_noticed_though_the_launcher_works(install, guest: HereGuest, tmp_path: Path) -> None:
    archive = kiro(guest, tmp_path)
    install(archive)
    (guest.home / ".local/bin/kiro-cli-chat").unlink()

    assert install(archive).changed == 2
    assert said(guest, "kiro-cli-chat") == "kiro-cli-chat 2.24.1"


@pytest.mark.parametrize(
    ("complaint", "advice"),
    [
        ("error while loading shared libraries: libasound.so.2: cannot open", "apt-get install libasound2t64"),
        ("/lib/libc.so.6: version `GLIBC_2.39' not found", "the musl build would run"),
        ("Segmentation fault", "kiro-cli-chat does not start"),
    ],
)
def test_chat_that_does_not_start_fails_the_step_with_advice(
    install, guest: HereGuest, tmp_path: Path, complaint: str, advice: str
) -> None:
    broken = kiro(guest, tmp_path, kiro_cli_chat=f'#!/bin/sh\necho "{complaint.replace("`", "")}" >&2; exit 127\n')

    with pytest.raises(StepFailed) as caught:
        install(broken)

    assert caught.value.step == "install"
    assert advice in str(caught.value.detail)
    assert not (guest.home / ".cache/vmkit-kiro-cli").exists()


def test_installer_that_leaves_nothing_fails(install, guest: HereGuest, tmp_path: Path) -> None:
    folder = tmp_path / "empty" / "kirocli"
    folder.mkdir(parents=True)
    (folder / "install.sh").write_text("#!/bin/sh\nexit 0\n")
    pack(folder, tmp_path / "empty.tar.gz")

    with pytest.raises(StepFailed) as caught:
        install(asset(tmp_path / "empty.tar.gz", "1"))

    assert "the installer ended well but left no" in str(caught.value.detail)


def test_page_instead_of_an_archive_fails(install, guest: HereGuest, tmp_path: Path) -> None:
    (tmp_path / "page.tar.gz").write_text("<html>sign in to the network</html>")

    with pytest.raises(StepFailed) as caught:
        install(asset(tmp_path / "page.tar.gz", "1"))

    assert "neither tar.gz, tar.xz, tar.zst nor zip" in str(caught.value.detail)


def test_archive_damaged_on_the_way_is_refused_in_the_guest(install, guest: HereGuest, tmp_path: Path) -> None:
    archive = kiro(guest, tmp_path)
    archive.path.write_bytes(archive.path.read_bytes()[:-1] + b"x")

    with pytest.raises(StepFailed) as caught:
        install(archive)

    assert "SHA-256 differs" in str(caught.value.detail)
    assert not (guest.home / ".local/bin/kiro-cli").exists()


def test_what_a_power_loss_left_does_not_disturb(install, guest: HereGuest, tmp_path: Path) -> None:
    for left in (
        ".cache/vmkit-kiro-cli/unpacked/kirocli/install.sh",
        ".local/bin/kiro-cli",
        ".local/bin/kiro-cli-chat",
    ):
        (guest.home / left).parent.mkdir(parents=True, exist_ok=True)
        (guest.home / left).write_text("")  # a file whose blocks never reached the disk
    guest.run(Command("true"))
    guest.give(".cache", ".cache/vmkit-kiro-cli", ".cache/vmkit-kiro-cli/unpacked", ".local", ".local/bin")
    guest.give(".cache/vmkit-kiro-cli/unpacked/kirocli")

    install(kiro(guest, tmp_path))

    assert said(guest, "kiro-cli") == "kiro-cli 2.24.1"


@pytest.mark.parametrize("script", sorted(data_folder("provision").glob("[bk]*/*.sh")), ids=lambda path: path.name)
def test_script_is_posix_sh_and_says_what_it_is_for(script: Path) -> None:
    Runner().run(["sh", "-n", str(script)])

    assert script.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'PATH="/home/agent/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"\n'),
        ('LANG=C\nPATH="/bin:/usr/games"\n', 'LANG=C\nPATH="/home/agent/.local/bin:/bin:/usr/games"\n'),
        ("PATH=/bin\n", 'PATH="/home/agent/.local/bin:/bin"\n'),
        ('PATH="/home/agent/.local/bin:/bin"\n', 'PATH="/home/agent/.local/bin:/bin"\n'),
    ],
)
def test_environment_gets_the_path_once(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "environment"
    file.write_text(before)
    script = (data_folder("provision") / "base" / "environment.sh").read_text().replace("/etc/environment", str(file))

    for _ in range(2):
        Runner().run(["sh", "-c", script], env={"VMKIT_HOME": "/home/agent"})

    assert file.read_text() == after
    assert [path.name for path in tmp_path.iterdir()] == ["environment"]


def test_environment_turns_auto_update_off_once(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text("LANG=C\nKIRO_NO_AUTO_UPDATE=0\n")
    recipe = data_folder("provision") / "kiro-cli"
    script = (recipe / "environment.sh").read_text().replace("/etc/environment", str(file))

    for _ in range(2):
        Runner().run(["sh", "-c", script])

    assert file.read_text() == "LANG=C\nKIRO_NO_AUTO_UPDATE=1\n"
