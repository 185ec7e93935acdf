"""`vmkit run`: which arguments are folders, which machine a folder gets."""

import dataclasses
from pathlib import Path

import pytest

from tests.unit.machines.test_model import MACHINE
from vmkit.errors import UsageError
from vmkit.host.paths import Paths
from vmkit.machines.store import MachineStore
from vmkit.workflows.run import checked_workspace, is_place, machine_for
from vmkit.workflows.workspace import has_workspace, mark_workspace


@pytest.fixture
def machines(tmp_path: Path) -> MachineStore:
    return MachineStore(Paths(config=tmp_path, data=tmp_path, cache=tmp_path / "cache"))


@pytest.mark.parametrize("word", [".", "..", "~", "~/x", "/a", "a/b", "./a"])
def test_what_looks_like_a_path_is_a_folder(word: str) -> None:
    assert is_place(word)


@pytest.mark.parametrize("word", ["kiro-vm", "a", "project1"])
def test_what_could_be_a_machine_is_one(word: str) -> None:
    assert not is_place(word)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("my-project", "my-project"),
        ("My Project!", "my-project"),
        ("2024 notes", "kiro-2024-notes"),
        ("---", "kiro"),
        ("\u00fc\u00f6", "kiro"),
        ("x" * 80, "x" * 32),
    ],
)
def test_a_machine_is_named_after_its_folder(machines: MachineStore, folder: str, name: str) -> None:
    assert machine_for(Path("/home/me") / folder, machines=machines) == name


def test_two_folders_of_one_name_get_two_machines_and_each_its_own_again(machines: MachineStore) -> None:
    one, two = Path("/home/me/a/app"), Path("/home/me/b/app")
    machine = dataclasses.replace(MACHINE, name="app", folder=machines.paths.machines / "app")
    machine.folder.mkdir(parents=True)
    machines.save(machine)
    before = machine_for(two, machines=machines)
    mark_workspace(machine, one)

    assert before == "app"  # nothing has been brought in yet
    assert machine_for(one, machines=machines) == "app"
    assert machine_for(two, machines=machines).startswith("app-")
    assert has_workspace(machine)


@pytest.mark.parametrize("place", ["/", "~", "/does/not/exist"])
def test_some_folders_are_not_brought_in(place: str) -> None:
    with pytest.raises(UsageError):
        checked_workspace(place)


def test_a_folder_is_taken_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert checked_workspace(str(tmp_path / "link")) == tmp_path / "real"
