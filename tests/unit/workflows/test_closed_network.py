"""Setting a guest up for its closed network: what is sent there, what its answers mean, and that the files agree."""

import hashlib
import io
import re
import tarfile
from pathlib import Path

import pytest

from tests.unit.workflows.test_login_store import made
from vmkit.errors import ToolFailed
from vmkit.guest.base import Command, Outcome
from vmkit.host.paths import Paths
from vmkit.host.report import Silent
from vmkit.host.resources import data_folder
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.testing.guest import FakeGuest, Response
from vmkit.workflows.closed_network import close_guest, guest_files, open_guest

SCRIPT = (data_folder("provision") / "closed-network" / "apply.sh").read_text()
ROOT = data_folder("provision") / "closed-network" / "root"
ENVIRONMENT = (ROOT / "usr/lib/vmkit/closed-network/environment").read_text().split()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    tmp_path.chmod(0o700)
    return made(MachineStore(Paths(config=tmp_path / "config", data=tmp_path, cache=tmp_path / "cache")))


def command(*words: str) -> str:
    return str(Command("sudo", "-n", "sh", "-c", SCRIPT, "closed-network", *words))


def closing(response: Response) -> FakeGuest:
    return FakeGuest({command("close", hashlib.sha256(SCRIPT.encode() + guest_files()).hexdigest()): response})


def names() -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(guest_files())) as archive:
        return {entry.name: entry for entry in archive}


@pytest.mark.parametrize(("said", "changed"), [(b"changed\n", True), (b"", False)])
def test_closing_is_one_command_whose_files_come_on_standard_input(
    machine: Machine, said: bytes, changed: bool
) -> None:
    guest = closing(said)

    assert close_guest(guest, machine, Silent()) is changed
    assert guest.inputs == [guest_files()]


def test_opening_sends_nothing_but_the_word(machine: Machine) -> None:
    guest = FakeGuest({command("open"): b"changed\n"})

    assert open_guest(guest, machine, Silent())
    assert guest.inputs == [b""]


def test_a_guest_that_cannot_is_an_error_with_what_it_said(machine: Machine) -> None:
    failed = Outcome(command="", code=1, stdout=b"", stderr=b"sshd does not take \x1b[31mit\n")

    with pytest.raises(ToolFailed) as caught:
        close_guest(closing(failed), machine, Silent())

    assert caught.value.detail is not None
    assert "sshd does not take" in caught.value.detail
    assert "\x1b" not in caught.value.detail
    assert caught.value.hint == "vmkit provision a"


def test_the_archive_holds_files_of_root_that_only_root_may_change() -> None:
    entries = names()

    assert {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()} == set(entries)
    assert {(entry.uid, entry.gid, entry.mode & 0o022) for entry in entries.values()} == {(0, 0, 0)}
    assert entries["etc/sudoers.d/vmkit-closed-network"].mode == 0o440  # sudo passes over another one


def test_every_file_gives_the_same_variables() -> None:
    names = " ".join(line.partition("=")[0] for line in ENVIRONMENT)

    for manager in ("system", "user"):
        assert (
            f"DefaultEnvironment={' '.join(ENVIRONMENT)}\n"
            in (ROOT / f"etc/systemd/{manager}.conf.d/vmkit-closed-network.conf").read_text()
        )
    assert f'env_keep += "{names}"' in (ROOT / "etc/sudoers.d/vmkit-closed-network").read_text()


def test_every_file_names_the_same_door() -> None:
    files = [*(path for path in ROOT.rglob("*") if path.is_file()), ROOT.parent / "apply.sh"]
    image = data_folder("provision") / "image/root/etc/ssh/sshd_config.d/vmkit.conf"

    doors = {door for path in [*files, image] for door in re.findall(r"127\.0\.0\.1:\d+", path.read_text())}

    assert doors == {"127.0.0.1:13128"}


def test_a_built_image_forwards_no_more_than_a_closed_guest() -> None:
    image = data_folder("provision") / "image/root/etc/ssh/sshd_config.d/vmkit.conf"
    closed = (ROOT / "etc/ssh/sshd_config.d/00-vmkit-closed-network.conf").read_text().splitlines()

    assert {line for line in closed if line[0] != "#"} <= set(image.read_text().splitlines())
