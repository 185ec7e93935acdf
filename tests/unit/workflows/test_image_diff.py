"""Two images are compared by what their manifests say, and a push sends what the comparison counted."""

import pytest

from tests.imagestore import Installation
from vmkit.host.files import own_directory
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.host.settings import Settings
from vmkit.images.provenance import ImagePolicy, Lock, Seal
from vmkit.workflows.image_diff import image_diff
from vmkit.workflows.transfer import push_image

BASE, OTHER, RECIPE = ("sha256:" + digit * 64 for digit in "abc")


@pytest.fixture
def world(tmp_path):
    return Installation(own_directory(tmp_path / "home"))


def compare(world, first, second):
    return image_diff(first, second, images=world.images)


def test_an_image_does_not_differ_from_itself(world):
    image = world.image("kiro:1", packages=("git 1 amd64",))

    found = compare(world, image, image)

    assert found.is_same
    assert (dict(found.facts), bool(found.packages), bool(found.recipes)) == ({}, False, False)
    assert (found.parts.only_first_chunks, found.parts.only_second_chunks, found.parts.push_bytes) == (0, 0, 0)


def test_packages_that_came_went_and_changed_are_told(world):
    first = world.image("kiro:1", b"1", packages=("git 1 amd64", "less 590-1 amd64", "vim 9 amd64"))
    second = world.image("kiro:2", b"2", packages=("git 2 amd64", "jq 1.7 amd64", "vim 9 amd64"))

    found = compare(world, first, second)

    assert found.packages.added == {"jq": "1.7"}
    assert found.packages.removed == {"less": "590-1"}
    assert found.packages.changed == {"git": ("1", "2")}


def test_a_package_of_two_architectures_is_told_apart(world):
    first = world.image("kiro:1", b"1", packages=("libc6 2 amd64", "git 1 amd64"))
    second = world.image("kiro:2", b"2", packages=("libc6 2 amd64", "libc6 2 i386", "git 1 amd64"))

    found = compare(world, first, second)

    assert found.packages.added == {"libc6:i386": "2"}
    assert (found.packages.removed, found.packages.changed) == ({}, {})


def test_without_a_list_packages_are_not_compared(world):
    first, second = world.image("kiro:1", b"1"), world.image("kiro:2", b"2", packages=("git 2 amd64",))

    assert compare(world, first, second).packages is None


def test_what_it_was_made_from_is_compared(world):
    first = world.image(
        "kiro:1",
        b"1",
        lock=Lock(base=BASE, template="kiro", kiro_version="1.0", recipes=(("base", BASE), ("mine", BASE))),
    )
    second = world.image(
        "kiro:2",
        b"2",
        lock=Lock(base=OTHER, template="kiro", kiro_version="1.1", recipes=(("base", RECIPE), ("new", RECIPE))),
        seal=Seal(rules=1, scanned_bytes=5),
        policy=ImagePolicy(mode="strict", allow=("a.example", "b.example:443")),
    )

    found = compare(world, first, second)

    assert found.facts["base"] == (BASE, OTHER)
    assert found.facts["kiro_version"] == ("1.0", "1.1")
    assert found.facts["sealed"] == (False, True)
    assert (found.facts["policy"], found.facts["policy_allow"]) == (("", "strict"), ("", "a.example b.example:443"))
    assert not {"template", "policy_deny"} & found.facts.keys()
    assert found.recipes.added == {"new": RECIPE}
    assert found.recipes.removed == {"mine": BASE}
    assert found.recipes.changed == {"base": (BASE, RECIPE)}


def test_a_push_sends_as_many_bytes_as_the_comparison_said(world, tmp_path):
    first = world.image("kiro:1", b"same", b"old", b"older")
    second = world.image("kiro:2", b"same", b"new", b"same")

    def push(name):
        return push_image(
            name, f"oci-dir:{tmp_path}/out", images=world.images, settings=Settings(), runner=Runner(), report=Silent()
        )

    push("kiro:1")

    parts = compare(world, first, second).parts

    assert push("kiro:2").moved_bytes == parts.push_bytes > 0
    assert (parts.shared_chunks, parts.only_first_chunks, parts.only_second_chunks) == (1, 2, 1)


def test_no_disk_is_put_together(world):
    first, second = world.image("kiro:1", b"1"), world.image("kiro:2", b"2")
    for image in (first, second):
        world.images.assembled(image.digest).rename(world.home / image.digest)

    compare(world, first, second)

    assert not world.has_disk(first)
    assert not world.has_disk(second)


def test_the_json_says_the_same(world):
    first = world.image("kiro:1", b"1", packages=("git 1 amd64",))
    second = world.image("kiro:2", b"2", packages=("git 2 amd64",), arch="aarch64")

    said = compare(world, first, second).to_json()

    assert said["first"] == {"name": "kiro:1", "digest": first.digest}
    assert said["changed"]["arch"] == {"from": "x86_64", "to": "aarch64"}
    assert said["packages"] == {"added": [], "removed": [], "changed": [{"name": "git", "from": "1", "to": "2"}]}
    assert said["parts"]["push_bytes"] > 0
