"""`vmkit image show|diff|tag|prune|delete` in process: what is printed, what is asked, what the exit code says."""

import json
import re

import pytest

from tests.imagestore import Installation
from vmkit.cli import main
from vmkit.host.files import own_directory
from vmkit.images.provenance import Lock

BASE = "sha256:" + "a" * 64


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("VMKIT_HOME", str(tmp_path / "home"))
    return Installation(own_directory(tmp_path / "home"))


@pytest.fixture
def vmkit(capsys):
    def call(*words: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        said = capsys.readouterr()
        assert ended.value.code == code, said.err
        return said.out + said.err

    return call


def test_show_tells_all_that_is_known_and_leaves_the_disk_alone(world, vmkit):
    lock = Lock(base=BASE, template="kiro", kiro_version="1.2.3", kiro_digest=BASE, recipes=(("base", BASE),))
    image = world.image("kiro:1", lock=lock, packages=("git 1 amd64",))
    world.machine("a", image)
    world.images.assembled(image.digest).rename(world.home / "away")

    said = vmkit("image", "show", "kiro:1")

    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in said.splitlines())
    assert (facts["tag"], facts["base"], facts["template"], facts["packages"]) == ("fixed", BASE, "kiro", "1")
    assert facts["Kiro CLI"] == "1.2.3 (sha256:aaaaaaaaaaaa)"
    assert facts["recipes"] == "base (aaaaaaaaaaaa)"
    assert (facts["sealed"], facts["signed by"], facts["used by"]) == ("no", "nobody you trust", "a")
    assert re.match(r"\d+ (day|hour|minute)s? \(2026-01-02T03:04:05Z\)|just now", facts["age"])
    assert not world.has_disk(image)


def test_show_as_json_has_what_the_list_has_and_more(world, vmkit):
    world.image("kiro:1")

    shown = json.loads(vmkit("--json", "image", "show", "kiro:1"))["image"]
    [listed] = json.loads(vmkit("--json", "image", "list"))["images"]

    assert {key: shown[key] for key in listed} == listed
    assert set(shown) - set(listed) == {
        "age", "age_s", "tag", "lock", "policy", "seal", "signatures", "chunks", "chunk_bytes", "shared_bytes", "packages",
        "used_by", "vulnerabilities", "vulnerabilities_reason", "vulnerabilities_suite", "vulnerabilities_complete",
    }  # fmt: skip
    assert shown["vulnerabilities"] is None
    assert "--vulnerabilities" in shown["vulnerabilities_reason"]


@pytest.fixture
def debsecan(tmp_path, monkeypatch):
    """A program of that name which says what it is told."""
    program = own_directory(tmp_path / "bin") / "debsecan"
    program.write_text('#!/bin/sh\ncat "$(dirname "$0")/said"\n')
    program.chmod(0o755)
    (tmp_path / "bin/said").write_text("CVE-2026-1 git (fixed, high urgency)\nCVE-2026-2 git\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return tmp_path / "bin"


def test_show_names_the_packages_with_known_vulnerabilities(world, vmkit, debsecan):
    world.image("kiro:1", packages=("base-files 13.8 amd64", "git 1 amd64"), sources=())

    said = vmkit("image", "show", "kiro:1", "--vulnerabilities")
    data = json.loads(vmkit("--json", "image", "show", "kiro:1", "--vulnerability-data", str(debsecan)))["image"]

    assert "vulnerabilities: 2 known, in 1 package, of Debian trixie" in said
    assert re.search(r"^git +1 +2 +1 +CVE-2026-1 high$", said, re.MULTILINE)
    assert [(one["id"], one["package"], one["is_fixed"]) for one in data["vulnerabilities"]] == [
        ("CVE-2026-1", "git", True),
        ("CVE-2026-2", "git", False),
    ]
    assert (data["vulnerabilities_suite"], data["vulnerabilities_complete"]) == ("trixie", True)


def test_show_says_why_vulnerabilities_are_not_known(world, vmkit, monkeypatch, tmp_path):
    world.image("kiro:1", packages=("base-files 13.8 amd64",))
    program = own_directory(tmp_path / "bin") / "debsecan"
    program.write_text("#!/bin/sh\necho 'error: no route' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")

    said = vmkit("image", "show", "kiro:1", "--vulnerabilities")

    assert 'vulnerabilities: not known: "debsecan" exited with 1: error: no route' in said


def test_an_image_that_is_not_there_is_3(world, vmkit):
    world.image("kiro:1")

    assert "did you mean kiro:1?" in vmkit("image", "show", "kiro:2", code=3)
    assert "did you mean kiro:1?" in vmkit("image", "diff", "kiro:1", "kiro:2", code=3)
    assert "did you mean kiro:1?" in vmkit("image", "tag", "kiro:2", "kiro:stable", code=3)


def test_diff_tells_packages_facts_and_what_a_push_sends(world, vmkit):
    world.image("kiro:1", b"same", b"old", packages=("git 1 amd64", "less 590 amd64"))
    world.image("kiro:2", b"same", b"new", packages=("git 2 amd64", "jq 1.7 amd64"), release="debian-13")

    said = vmkit("image", "diff", "kiro:1", "kiro:2").splitlines()
    data = json.loads(vmkit("--json", "image", "diff", "kiro:1", "kiro:2"))["diff"]

    assert {"+ package jq 1.7", "- package less 590", "~ package git 1 → 2", "~ release - → debian-13"} <= set(said)
    assert "chunks: 1 shared, 1 only in A, 1 only in B" in said
    assert data["packages"]["changed"] == [{"name": "git", "from": "1", "to": "2"}]
    assert (data["same"], data["parts"]["shared_chunks"]) == (False, 1)


def test_diff_of_two_names_of_one_image_says_so(world, vmkit):
    world.image("kiro:1")
    vmkit("image", "tag", "kiro:1", "kiro:stable")

    assert "are the same image" in vmkit("image", "diff", "kiro:1", "kiro:stable")


def test_a_hostile_package_list_reaches_no_terminal(world, vmkit):
    world.image("kiro:1", b"1", packages=("git 1 amd64", "x\x1b]52;c;x\x07 1 amd64"), release="\\u{1b}")
    world.image("kiro:2", b"2", packages=("git 1 amd64",))

    for words in (("show", "kiro:1"), ("diff", "kiro:1", "kiro:2"), ("--json", "diff", "kiro:1", "kiro:2")):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", vmkit("image", *words))


def test_a_channel_moves_and_a_fixed_tag_does_not(world, vmkit):
    one, two = world.image("kiro:1", b"1"), world.image("kiro:2", b"2")

    vmkit("image", "tag", "kiro:1", "kiro:stable")
    assert world.images.digest("kiro:stable") == one.digest
    vmkit("image", "tag", "kiro:2", "kiro:stable")
    assert world.images.digest("kiro:stable") == two.digest

    said = vmkit("image", "tag", "kiro:1", "kiro:2", code=4)
    assert 'error: the image "kiro:2" exists, and its tag is not moved' in said
    assert "stable" in said
    assert world.images.digest("kiro:2") == two.digest


def test_a_new_name_needs_a_tag_of_its_own(world, vmkit):
    world.image("kiro:1")

    assert "hint: vmkit image tag kiro:1 other:stable" in vmkit("image", "tag", "kiro:1", "other", code=2)


def test_prune_shows_first_and_frees_with_yes(world, vmkit):
    image = world.image("kiro:1")

    shown = vmkit("image", "prune", "--dry-run")
    assert re.search(r"^disk +kiro:1 +\S+ KiB +no machine uses it", shown, re.MULTILINE)
    assert "can be freed" in shown
    assert world.has_disk(image)

    assert "freed" in vmkit("image", "prune", "--yes")
    assert not world.has_disk(image)
    assert "nothing to free" in vmkit("image", "prune")


@pytest.mark.parametrize("flags", [("--no-input",), ()])
def test_prune_frees_nothing_when_nobody_can_be_asked(world, vmkit, flags):
    image = world.image("kiro:1")

    said = vmkit("image", "prune", *flags, code=2)

    assert "hint: vmkit image prune --yes" in said
    assert world.has_disk(image)


def test_prune_as_json_says_what_it_freed(world, vmkit):
    world.image("kiro:1", b"old", created="2025-01-01T00:00:00Z")
    world.image("kiro:2", b"new")

    planned = json.loads(vmkit("--json", "image", "prune", "--keep", "1", "--dry-run"))["prune"]
    done = json.loads(vmkit("--json", "--yes", "image", "prune", "--keep", "1"))["prune"]

    assert [item["kind"] for item in planned["items"]] == ["image", "disk", "disk", "parts"]
    assert (planned["dry_run"], planned["freed_bytes"]) == (True, 0)
    assert done == planned | {"dry_run": False, "freed_bytes": planned["bytes"]}
    assert world.names() == ["kiro:2"]


def test_prune_keeps_at_least_one(world, vmkit):
    vmkit("image", "prune", "--keep", "0", code=2)


def test_deleting_an_image_in_use_names_the_machine(world, vmkit):
    image = world.image("kiro:1")
    world.machine("a", image)
    vmkit("image", "tag", "kiro:1", "kiro:stable")

    vmkit("image", "delete", "kiro:1")
    said = vmkit("image", "delete", "kiro:stable", code=4)

    assert 'error: image "kiro:stable" is in use\n    by a\nhint: vmkit delete a' in said
    assert world.names() == ["kiro:stable"]
