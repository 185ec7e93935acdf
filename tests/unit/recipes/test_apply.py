import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.recipes.here import FileAsset, HereGuest
from vmkit.errors import ProvisionFailed, TransportFailed, VmkitError
from vmkit.host.report import Silent
from vmkit.recipes.apply import Applied, StepFailed, provision
from vmkit.recipes.assets import AssetIdentity
from vmkit.recipes.load import read_recipe
from vmkit.recipes.model import Recipe

TOML = """
summary = "every kind of step"
[[step]]
id = "tool"
packages = ["there", "new|old", "older|old"]
[[step]]
id = "note"
file = "note"
to = "~/.config/demo/note"
mode = "0640"
owner = "user"
[[step]]
id = "archive"
asset = "demo"
room = 2
[[step]]
id = "install"
script = "install.sh"
as = "user"
uses = "demo"
check = 'test -s "$HOME/installed-demo"'
[[step]]
id = "service"
script = "service.sh"
as = "root"
timeout = 2
"""
INSTALL = 'cat "$VMKIT_ASSET" >>"$HOME/installed-demo"\necho "$VMKIT_ASSET_VERSION" >>"$HOME/installs"\n'
SERVICE = 'echo "$VMKIT_USER $VMKIT_HOME $VMKIT_ARCH" >>"$HOME/services"\n'
STEPS = 5


@dataclass
class Demo:
    """A recipe with one step of each kind, its asset, and a guest to bring them to."""

    guest: HereGuest
    folder: Path
    asset: FileAsset

    def provision(self) -> Applied:
        return provision(
            [self.recipe],
            guest=self.guest,
            assets={"demo": self.asset},
            report=Silent(),
            stamps=str(self.guest.stamps),
        )

    @property
    def recipe(self) -> Recipe:
        return read_recipe(self.folder)

    def read(self, name: str) -> str:
        return (self.guest.home / name).read_text()

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in (self.guest.home / ".cache").glob("*"))


@pytest.fixture
def demo(guest: HereGuest, tmp_path: Path) -> Demo:
    folder = tmp_path / "demo"
    folder.mkdir()
    for name, content in (("note", "hello\n"), ("install.sh", INSTALL), ("service.sh", SERVICE), ("recipe.toml", TOML)):
        (folder / name).write_text(content)
    (guest.home / "installed").write_text("there\n")
    (guest.home / "archive").write_text("old\n")
    guest.give("installed", "archive")
    return Demo(guest, folder, asset_of(tmp_path / "demo.tar", b"one\n", "1.0"))


def asset_of(path: Path, content: bytes, version: str) -> FileAsset:
    path.write_bytes(content)
    identity = AssetIdentity(version=version, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    return FileAsset(path, identity)


def test_first_run_does_every_step_and_leaves_no_archive(demo: Demo) -> None:
    applied = demo.provision()

    assert (applied.changed, applied.unchanged, applied.failed) == (STEPS, 0, 0)
    assert applied.assets == {"demo": demo.asset.identity}
    assert demo.read("installed") == "there\nold\n"
    assert demo.read(".config/demo/note") == "hello\n"
    assert (demo.guest.home / ".config/demo/note").stat().st_mode & 0o777 == 0o640
    assert demo.read("installed-demo") == "one\n"
    assert demo.read("services").split()[1] == str(demo.guest.home)
    assert demo.leftovers() == []
    assert sorted(path.name for path in demo.guest.stamps.iterdir()) == [
        f"demo.{step}" for step in ("install", "note", "service", "tool")
    ]


def test_second_run_changes_nothing_in_one_round_trip(demo: Demo) -> None:
    demo.provision()
    demo.guest.commands.clear()

    applied = demo.provision()

    assert (applied.changed, applied.unchanged) == (0, STEPS)
    assert len(demo.guest.commands) == 1
    assert demo.asset.fetched == 1
    assert demo.read("installs") == "1.0\n"


def test_root_steps_and_stamps_go_through_sudo_and_user_steps_do_not(demo: Demo) -> None:
    demo.provision()

    used = demo.read("sudo.log")

    assert used.count("timeout -k 10 2 ") == 1  # the service
    assert used.count("timeout -k 10 1800 ") == 1  # the packages
    assert "timeout -k 10 600 " not in used  # the installation


def test_changed_script_is_done_again_and_nothing_else(demo: Demo) -> None:
    demo.provision()
    (demo.folder / "service.sh").write_text(SERVICE + "echo more >>$HOME/services\n")

    applied = demo.provision()

    assert (applied.changed, applied.unchanged) == (1, STEPS - 1)
    assert demo.read("installs") == "1.0\n"
    assert demo.read("services").endswith("more\n")


def test_step_whose_check_fails_is_done_again_though_stamped(demo: Demo) -> None:
    demo.provision()
    (demo.guest.home / "installed-demo").unlink()

    applied = demo.provision()

    assert applied.changed == 2  # the archive and its installation
    assert demo.read("installed-demo") == "one\n"


def test_new_version_of_an_asset_is_installed(demo: Demo, tmp_path: Path) -> None:
    demo.provision()
    demo.asset = asset_of(tmp_path / "new.tar", b"two\n", "2.0")

    applied = demo.provision()

    assert applied.changed == 2
    assert demo.read("installs") == "1.0\n2.0\n"


def test_file_that_drifted_is_put_back(demo: Demo) -> None:
    demo.provision()
    (demo.guest.home / ".config/demo/note").write_text("changed")

    applied = demo.provision()

    assert applied.changed == 1
    assert demo.read(".config/demo/note") == "hello\n"


@pytest.mark.parametrize(
    ("step", "before", "break_it"),
    [
        ("tool", 0, lambda demo: (demo.guest.root / "bin" / "apt-get").write_text("#!/bin/sh\nexit 100\n")),
        ("note", 1, lambda demo: (demo.guest.home / ".config").write_text("in the way")),
        ("install", 3, lambda demo: (demo.folder / "install.sh").write_text("exit 9\n")),
        (
            "service",
            4,
            lambda demo: (demo.folder / "service.sh").write_text("printf '\\033[2Jbad news\\n' >&2; exit 9\n"),
        ),
    ],
)
def test_failed_step_is_named_and_the_next_run_goes_on_there(demo: Demo, step: str, before: int, break_it) -> None:
    whole = {path: path.read_bytes() for path in (*demo.folder.iterdir(), demo.guest.root / "bin" / "apt-get")}
    break_it(demo)

    with pytest.raises(StepFailed) as caught:
        demo.provision()

    assert f'the step "{step}" of the recipe "demo"' in caught.value.message
    assert caught.value.exit_code == 8
    assert (caught.value.recipe, caught.value.step) == ("demo", step)
    assert caught.value.applied.changed == before
    assert f"before it: {before} changed, 0 unchanged" in str(caught.value.detail)
    assert not (demo.guest.stamps / f"demo.{step}").exists()

    for path, content in whole.items():
        path.write_bytes(content)
    if (demo.guest.home / ".config").is_file():
        (demo.guest.home / ".config").unlink()
    fetched = demo.asset.fetched
    applied = demo.provision()

    assert applied.failed == 0
    assert demo.read("installs") == "1.0\n"
    assert len(demo.read("services").splitlines()) == 1
    assert demo.asset.fetched == 1
    assert fetched == int(before > 2), "the archive is fetched once, before or after the failure"
    assert demo.leftovers() == []
    assert demo.provision().changed == 0


def test_last_lines_of_a_failed_step_are_shown_printable(demo: Demo) -> None:
    (demo.folder / "service.sh").write_text("seq 1 100; printf '\\033[2Jbad news\\n' >&2; exit 9\n")

    with pytest.raises(StepFailed) as caught:
        demo.provision()

    lines = str(caught.value.detail).splitlines()
    assert "^[[2Jbad news" in lines
    assert len(lines) <= 13
    assert "exited with 9" in caught.value.message


def test_step_that_takes_too_long_is_ended_in_the_guest(demo: Demo) -> None:
    (demo.folder / "service.sh").write_text("echo started; sleep 30\n")

    with pytest.raises(StepFailed) as caught:
        demo.provision()

    assert "did not end within 2 s" in caught.value.message
    assert "started" in str(caught.value.detail)


@pytest.mark.parametrize("commands", [1, 2, 4, 6, 7, 8])
def test_lost_connection_passes_and_the_next_run_completes_each_effect_once(demo: Demo, commands: int) -> None:
    demo.guest.lose_after = commands

    with pytest.raises(TransportFailed):
        demo.provision()

    demo.guest.lose_after = None
    demo.provision()
    assert demo.read("installs") == "1.0\n"
    assert len(demo.read("services").splitlines()) == 1
    assert demo.read("installed") == "there\nold\n"
    assert demo.leftovers() == []


def test_archive_that_was_damaged_on_the_way_is_put_again(demo: Demo) -> None:
    (demo.folder / "install.sh").write_text("exit 1")
    with pytest.raises(StepFailed):
        demo.provision()
    (put,) = demo.guest.puts
    Path(put).write_text("half")
    (demo.folder / "install.sh").write_text(INSTALL)

    demo.provision()

    assert demo.guest.puts == [put, put]
    assert demo.read("installed-demo") == "one\n"


def test_error_of_a_provider_passes_and_the_steps_before_it_stay_done(demo: Demo) -> None:
    class Unreachable(FileAsset):
        def fetch(self, facts: object, report: object) -> Path:
            raise VmkitError("the release host cannot be reached")

    works = demo.asset
    demo.asset = Unreachable(works.path, works.identity)

    with pytest.raises(VmkitError, match="cannot be reached"):
        demo.provision()

    demo.asset = works
    assert demo.provision().changed == STEPS - 2


def test_complete_guest_needs_no_release_host(demo: Demo) -> None:
    demo.provision()
    demo.asset.path.unlink()

    assert demo.provision().changed == 0


def test_too_little_space_is_told_before_the_archive_is_fetched(demo: Demo) -> None:
    identity = AssetIdentity(version="1", sha256="0" * 64, size_bytes=1 << 60)
    demo.asset = FileAsset(demo.asset.path, identity)

    with pytest.raises(ProvisionFailed, match="needs more space than the guest has"):
        demo.provision()

    assert demo.asset.fetched == 0


def test_guest_without_apt_says_so(demo: Demo) -> None:
    output = "\\n".join(
        [
            "begin",
            "os\\talpine\\t3.22",
            "arch\\tx86_64",
            "libc\\tmusl\\t1.2.5",
            f"user\\tagent\\t1000\\t{demo.guest.home}",
            "free-kib\\t9999999",
            "root",
            "end",
            "",
        ]
    )
    # The first thing the engine runs is `sh -s`: a stub answers for a guest that is not Debian.
    stub = demo.guest.root / "bin" / "sh"
    stub.write_text(f'#!/bin/sh\n[ "$1" = -s ] || exec /bin/sh "$@"\ncat >/dev/null; printf \'{output}\'\n')
    stub.chmod(0o755)

    with pytest.raises(StepFailed, match="needs apt, which this guest does not have"):
        demo.provision()


def test_step_waits_for_one_that_a_killed_run_left_at_work(demo: Demo) -> None:
    work = demo.guest.home / ".cache" / "vmkit-provision"
    flock = demo.guest.root / "bin" / "flock"
    flock.write_text("#!/bin/sh\nexit 1\n")
    flock.chmod(0o755)

    with pytest.raises(StepFailed) as caught:
        demo.provision()

    assert "an earlier step is still at work" in str(caught.value.detail)
    assert work.exists()
    assert not (demo.guest.home / "apt.log").exists()


def test_missing_package_is_named_and_the_alternative_that_exists_is_taken(demo: Demo) -> None:
    (demo.guest.home / "archive").write_text("other\n")

    with pytest.raises(StepFailed) as caught:
        demo.provision()

    assert 'the package archive of this guest has no "new|old"' in str(caught.value.detail)


def test_guest_that_takes_no_files_is_a_failed_provisioning(demo: Demo) -> None:
    (demo.guest.home / ".cache").write_text("in the way")

    with pytest.raises(ProvisionFailed, match="the guest takes no files for provisioning"):
        demo.provision()


def test_archive_that_does_not_arrive_fails_its_step(demo: Demo) -> None:
    (demo.guest.root / "bin" / "chmod").write_text("#!/bin/sh\necho 'No space left on device' >&2; exit 1\n")
    (demo.guest.root / "bin" / "chmod").chmod(0o755)

    with pytest.raises(StepFailed) as caught:
        demo.provision()

    assert caught.value.step == "archive"
    assert "No space left on device" in str(caught.value.detail)
