import dataclasses
import json
from pathlib import Path

import pytest

from vmkit.errors import UsageError
from vmkit.machines.model import Machine, checked_name

MACHINE = Machine(
    name="a",
    uuid="6F9619FF-8B86-4D01-B42D-00CF4FC964FF",
    driver="qemu",
    template="kiro",
    image="debian-13:latest",
    image_digest="sha256:" + "0" * 64,
    arch="x86_64",
    cpus=2,
    memory_mib=1024,
    disk_bytes=8 << 30,
    user="agent",
    recipes=("base",),
    egress="open",
    options={"kiro_version": "latest"},
    created="2026-01-01T00:00:00+00:00",
    folder=Path("machines/a"),
)


def test_a_record_reads_back_as_it_was_written() -> None:
    assert Machine.from_json(MACHINE.to_json().encode(), folder=MACHINE.folder) == MACHINE


REQUIRED = [
    field.name
    for field in dataclasses.fields(Machine)
    if field.default is dataclasses.MISSING and field.name != "folder"
]


@pytest.mark.parametrize("field", REQUIRED)
def test_a_record_without_one_of_its_fields_is_refused(field: str) -> None:
    data = json.loads(MACHINE.to_json())
    del data[field]

    with pytest.raises(ValueError, match=field):
        Machine.from_json(json.dumps(data).encode(), folder=MACHINE.folder)


def test_a_record_that_names_another_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="name"):
        Machine.from_json(MACHINE.to_json().encode(), folder=Path("machines/b"))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"schema": 2}', b'{"schema": 1, "cpus": true}'])
def test_what_is_not_a_record_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        Machine.from_json(content, folder=MACHINE.folder)


@pytest.mark.parametrize("name", ["a", "kiro-vm", "z9-" + "x" * 38])
def test_good_names_are_kept(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "A", "a.b", "a b", "a" * 42, "../a", "a\n", "\uff41"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        checked_name(name)
