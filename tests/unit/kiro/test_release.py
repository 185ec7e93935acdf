import json

import pytest

from vmkit.errors import NotFound, Refused, UsageError
from vmkit.kiro.release import DEFAULT_RELEASES, Format, Libc, Manifest, choose, parse_manifest, releases_base

BASE = "https://mirror.example/stable"
DIGEST = "ab" * 32


def entry(name: str, **changes: object) -> dict[str, object]:
    return {"download": f"2.24.1/{name}", "sha256": DIGEST, "size": 1000, **changes}


def manifest(*names: str) -> Manifest:
    return parse(entry(name) for name in names)


def parse(entries: object, *, version: object = "2.24.1") -> Manifest:
    content = {"version": version, "packages": list(entries) if not isinstance(entries, str) else entries}
    return parse_manifest(json.dumps(content).encode(), base=BASE)


ALL = [
    f"kirocli-{arch}-linux{libc}.{form}"
    for arch in ("x86_64", "aarch64")
    for libc in ("", "-musl")
    for form in ("zip", "tar.zst", "tar.xz", "tar.gz")
]


@pytest.mark.parametrize(
    ("arch", "libc", "version", "name"),
    [
        ("x86_64", Libc.GLIBC, (2, 36), "kirocli-x86_64-linux.tar.gz"),
        ("x86_64", Libc.GLIBC, (2, 34), "kirocli-x86_64-linux.tar.gz"),
        ("x86_64", Libc.GLIBC, (2, 33), "kirocli-x86_64-linux-musl.tar.gz"),
        ("aarch64", Libc.GLIBC, (2, 39), "kirocli-aarch64-linux.tar.gz"),
        ("aarch64", Libc.GLIBC, (2, 38), "kirocli-aarch64-linux-musl.tar.gz"),
        ("x86_64", Libc.GLIBC, None, "kirocli-x86_64-linux-musl.tar.gz"),
        ("aarch64", Libc.MUSL, None, "kirocli-aarch64-linux-musl.tar.gz"),
    ],
)
def test_choose_goes_by_architecture_and_c_library(arch: str, libc: Libc, version: tuple[int, int], name: str) -> None:
    package = choose(manifest(*ALL), arch=arch, libc=libc, glibc_version=version)

    assert package.file_name == name
    assert package.url == f"{BASE}/2.24.1/{name}"


@pytest.mark.parametrize("missing", range(4))
def test_choose_prefers_the_format_that_needs_least(missing: int) -> None:
    order = ["tar.gz", "tar.xz", "tar.zst", "zip"]
    there = [f"kirocli-x86_64-linux.{form}" for form in reversed(order[missing:])]

    package = choose(manifest(*there), arch="x86_64", libc=Libc.GLIBC, glibc_version=(2, 41))

    assert package.format is Format(order[missing])


def test_choose_takes_musl_where_a_release_has_no_glibc_archive() -> None:
    package = choose(manifest("kirocli-x86_64-linux-musl.zip"), arch="x86_64", libc=Libc.GLIBC, glibc_version=(2, 41))

    assert package.libc is Libc.MUSL


def test_choose_names_the_architectures_there_are() -> None:
    with pytest.raises(NotFound, match='no archive for "riscv64"') as caught:
        choose(manifest(*ALL), arch="riscv64", libc=Libc.GLIBC, glibc_version=(2, 41))

    assert caught.value.detail == "for Linux there are: aarch64, x86_64"


def test_choose_says_which_glibc_would_do() -> None:
    with pytest.raises(NotFound, match="no musl archive for aarch64") as caught:
        choose(manifest("kirocli-aarch64-linux.tar.gz"), arch="aarch64", libc=Libc.GLIBC, glibc_version=(2, 36))

    assert caught.value.detail == "the guest has glibc 2.36; the glibc archive needs 2.39"


def test_manifest_passes_over_what_is_not_for_linux() -> None:
    others = [entry("Kiro CLI.dmg", sha256="?"), entry("kiro-cli.deb", size=None), {"kind": "note"}, "text", None]

    found = parse([*others, entry("kirocli-x86_64-linux.tar.gz", os="linux", variant="headless", fileType="tarGz")])

    assert [package.file_name for package in found.packages] == ["kirocli-x86_64-linux.tar.gz"]


@pytest.mark.parametrize(
    "download",
    [
        "../kirocli-x86_64-linux.zip",
        "2.24.1/../../kirocli-x86_64-linux.zip",
        "/etc/kirocli-x86_64-linux.zip",
        "https://evil.example/kirocli-x86_64-linux.zip",
        "a b/kirocli-x86_64-linux.zip",
        "%2e%2e/kirocli-x86_64-linux.zip",
        "./kirocli-x86_64-linux.zip",
        "2.24.1\n/kirocli-x86_64-linux.zip",
    ],
)
def test_manifest_refuses_a_path_that_leads_elsewhere(download: str) -> None:
    with pytest.raises(Refused, match="not a release manifest"):
        parse([entry("", download=download)])


@pytest.mark.parametrize("size", [None, 0, -1, 1.5, "1000", True, (4 << 30) + 1])
def test_manifest_refuses_a_size_that_cannot_be(size: object) -> None:
    with pytest.raises(Refused, match="not a release manifest"):
        parse([entry("kirocli-x86_64-linux.zip", size=size)])


@pytest.mark.parametrize("digest", [None, "", "ab", "zz" * 32, DIGEST + "0", DIGEST + "\n"])
def test_manifest_refuses_what_is_not_a_digest(digest: object) -> None:
    with pytest.raises(Refused, match="not a release manifest"):
        parse([entry("kirocli-x86_64-linux.zip", sha256=digest)])


@pytest.mark.parametrize("version", [None, 2, "", "..", "2.24.1/..", "2.24 1", "\x1b[31m", "1" * 200])
def test_manifest_refuses_what_is_not_a_version(version: object) -> None:
    with pytest.raises(Refused, match="not a release manifest"):
        parse([], version=version)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{}", b'{"version": "1"}', b"\xff", b"[" * 100_000, b'{"version":"1","packages":{}}'],
)
def test_manifest_refuses_what_is_no_manifest(content: bytes) -> None:
    with pytest.raises(Refused, match="not a release manifest"):
        parse_manifest(content, base=BASE)


def test_manifest_tells_a_web_page_from_json() -> None:
    with pytest.raises(Refused, match="is a web page, not a release manifest"):
        parse_manifest(b"\n<!doctype html><p>Sign in", base=BASE)


def test_releases_come_from_the_vendor_unless_told() -> None:
    assert releases_base({}) == DEFAULT_RELEASES
    assert releases_base({"VMKIT_KIRO_RELEASES": ""}) == DEFAULT_RELEASES


@pytest.mark.parametrize(
    "url",
    [
        "https://mirror.example/kiro",
        "file:///srv/kiro",
        "http://127.0.0.1:8000/stable",
        "http://[::1]:1/s",
        "http://localhost",
    ],
)
def test_releases_may_come_from_a_mirror(url: str) -> None:
    assert releases_base({"VMKIT_KIRO_RELEASES": url + "/"}) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://mirror.example/kiro",
        "http://127.0.0.1.evil.example",
        "http://10.0.2.2/stable",
        "ftp://mirror.example",
        "/srv/kiro",
        "mirror.example",
        "file://server/share",
        "https://",
        "https://user:secret@mirror.example",
        "https://mirror.example/?token=1",
        "https://mirror.example/#x",
        "https://mirror.example/\x1b[2J",
        "http://[::1",
    ],
)
def test_releases_refuse_a_source_that_cannot_be_trusted(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        releases_base({"VMKIT_KIRO_RELEASES": url})

    assert caught.value.exit_code == 2
    assert "\x1b" not in caught.value.message
