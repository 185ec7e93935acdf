"""A reference says where an image is, and nothing is guessed at."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmkit.errors import UsageError
from vmkit.images.layout import parse_reference
from vmkit.images.remote.reference import (
    FolderReference,
    RegistryReference,
    is_loopback,
    local_name,
    parse_remote,
    split_host,
)

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "host", "repository", "version"),
    [
        ("registry.example/team/kiro:1.4", "registry.example", "team/kiro", "1.4"),
        ("localhost/kiro:1", "localhost", "kiro", "1"),
        ("localhost:5000/a/b__c/d-e.f:_x", "localhost:5000", "a/b__c/d-e.f", "_x"),
        ("[::1]:5000/kiro:1", "[::1]:5000", "kiro", "1"),
        ("Registry.EXAMPLE:443/kiro:Tag", "registry.example:443", "kiro", "Tag"),
        (f"10.0.0.1:80/kiro@{DIGEST}", "10.0.0.1:80", "kiro", DIGEST),
    ],
)
def test_a_reference_is_taken_apart(text, host, repository, version):
    parsed = parse_remote(text)

    assert isinstance(parsed, RegistryReference)
    assert (parsed.host, parsed.repository, parsed.version) == (host, repository, version)
    assert parse_remote(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kiro",
        "kiro:1",
        "team/kiro:1",  # docker would ask a registry of its own choice
        "registry.example/kiro",
        "registry.example/kiro:",
        "registry.example/:1",
        "registry.example/kiro:1@" + DIGEST,
        "registry.example/Kiro:1",
        "registry.example/../kiro:1",
        "registry.example/a//b:1",
        "registry.example/kiro:a b",
        "registry.example/kiro:1\n",
        "registry.example/kiro:" + "a" * 129,
        "registry.example/" + "a" * 256 + ":1",
        "registry.example/kiro@sha256:" + "0A" * 32,
        "registry.example/kiro@md5:" + "0a" * 16,
        "registry.example/kiro?x=1:1",
        "registry.example/kiro%2f:1",
        "https://registry.example/kiro:1",
        "user:pass@registry.example/kiro:1",
        "registry.example:0/kiro:1",
        "registry.example:99999/kiro:1",
        "-registry.example/kiro:1",
        "registry..example/kiro:1",
        "[::1/kiro:1",
        "[:::]:5000/kiro:1",
        "régistry.example/kiro:1",
        "oci-dir:",
        "oci-dir:/x:",
        "oci-dir:/x:a b",
    ],
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(UsageError):
        parse_remote(text)


@given(st.text(max_size=80))
def test_any_text_is_a_reference_that_reads_back_or_is_refused(text):
    try:
        parsed = parse_remote(text)
    except UsageError:
        return
    assert parse_remote(str(parsed)) == parsed


def test_a_folder_may_name_one_of_its_images():
    assert parse_remote("oci-dir:/media/stick/images") == FolderReference(path=Path("/media/stick/images"))
    assert parse_remote("oci-dir:images:kiro:1") == FolderReference(path=Path("images"), name="kiro:1")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("registry.example/team/kiro:1.4", "kiro:1.4"),
        (f"registry.example/team/kiro@{DIGEST}", "kiro:0a0a0a0a0a0a"),
        ("oci-dir:/x:kiro:2", "kiro:2"),
        ("oci-dir:/x/Stick", "stick:latest"),
    ],
)
def test_the_local_name_is_the_last_word(text, name):
    assert local_name(parse_remote(text), digest=DIGEST) == name == parse_reference(name)


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:1", "127.8.9.1", "[::1]:5000"])
def test_loopback_is_known(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["registry.example", "10.0.0.1:5000", "localhost.example", "127.0.0.1.example", "[::2]"]
)
def test_nothing_else_is_loopback(host):
    assert not is_loopback(host)


def test_a_host_is_split_at_its_port():
    assert split_host("[::1]:5000") == ("[::1]", 5000)
    assert split_host("registry.example") == ("registry.example", None)
