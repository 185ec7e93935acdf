"""debsecan is given a foreign list of packages, and what it says is read as data; without it the reason is told."""

import zlib
from pathlib import Path

import pytest

from vmkit.errors import TimedOut, UsageError
from vmkit.host.process import Completed, Runner, tool_failed
from vmkit.images.layout import Boot, ImageMeta
from vmkit.images.packages import Package
from vmkit.workflows.image_vulnerabilities import find_vulnerabilities, parse_summary, render_status

PACKAGES = ("base-files 13.8+deb13u7 amd64", "git 1:2.47-1 amd64", "libssl3t64 3.5.1-1+b1 amd64")
SOURCES = ("libssl3t64 openssl 3.5.1-1",)


class Host(Runner):
    """A computer whose debsecan says what a test wants; the status file it was given is kept."""

    def __init__(self, said: bytes = b"", *, has: bool = True, code: int = 0, error: bytes = b"") -> None:
        self.said, self.has, self.code, self.error = said, has, code, error
        self.argv: list[str] = []
        self.status = ""

    def find(self, program: str) -> Path | None:
        return Path("/usr/bin") / program if self.has else None

    def run(self, argv, **_: object) -> Completed:
        self.argv = list(argv)
        self.status = Path(argv[argv.index("--status") + 1]).read_text()
        done = Completed(argv=tuple(argv), code=self.code, stdout=self.said, stderr=self.error)
        if self.code:
            raise tool_failed(done)
        return done


class Stuck(Host):
    def run(self, argv, **_: object) -> Completed:
        raise TimedOut('"debsecan" did not end')


def meta(packages=PACKAGES, sources=SOURCES) -> ImageMeta:
    return ImageMeta(
        arch="x86_64", boot=Boot.UEFI, user="agent", created="2026-01-02T03:04:05Z", packages=packages, sources=sources
    )


def test_without_debsecan_the_reason_is_told():
    found = find_vulnerabilities(meta(), runner=Host(has=False))

    said = found.to_json()
    assert said["vulnerabilities"] is None
    assert "debsecan is not installed" in said["vulnerabilities_reason"]
    assert said["vulnerabilities_complete"] is False


@pytest.mark.parametrize(
    ("packages", "reason"),
    [
        ((), "no list"),
        (("git 1 amd64",), "not Debian's"),
        (("base-files 13ubuntu10.1 amd64", "git 1 amd64"), "not Debian's"),
    ],
)
def test_packages_that_debsecan_cannot_judge_are_not_shown_to_it(packages, reason):
    host = Host()

    assert reason in find_vulnerabilities(meta(packages), runner=host).reason
    assert host.argv == []


def test_it_is_asked_about_the_images_own_suite_and_its_packages():
    host = Host()

    found = find_vulnerabilities(meta(), runner=host)

    assert host.argv[host.argv.index("--suite") + 1] == "trixie"
    assert found.suite == "trixie"
    assert "--source" not in host.argv
    assert "Package: git\nStatus: install ok installed\nVersion: 1:2.47-1\nArchitecture: amd64\n" in host.status
    assert "Package: libssl3t64\n" in host.status
    assert "Source: openssl (3.5.1-1)\n" in host.status


def test_a_debian_that_vmkit_does_not_know_is_asked_about_in_general():
    host = Host()

    find_vulnerabilities(meta(("base-files 99.1 amd64",)), runner=host)

    assert host.argv[host.argv.index("--suite") + 1] == "GENERIC"


def test_data_in_a_folder_is_given_as_an_address(tmp_path):
    host = Host()

    find_vulnerabilities(meta(), runner=host, data=tmp_path)

    assert host.argv[host.argv.index("--source") + 1] == tmp_path.as_uri()


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError):
        find_vulnerabilities(meta(), runner=Host(), data=tmp_path / "none")


def test_what_it_says_is_read_the_worst_first():
    host = Host(
        b"CVE-2026-1 git\n"
        b"CVE-2026-2 libssl3t64 (fixed, remotely exploitable, high urgency)\n"
        b"TEMP-0841856-B18BAF git (medium urgency, obsolete)\n"
    )

    found = find_vulnerabilities(meta(), runner=host)

    assert [(one.id, one.package, one.version, one.is_fixed, one.is_remote, one.urgency) for one in found.found] == [
        ("CVE-2026-2", "libssl3t64", "3.5.1-1+b1", True, True, "high"),
        ("TEMP-0841856-B18BAF", "git", "1:2.47-1", False, False, "medium"),
        ("CVE-2026-1", "git", "1:2.47-1", False, False, ""),
    ]
    assert found.is_complete
    assert {package: len(ones) for package, ones in found.by_package.items()} == {"libssl3t64": 1, "git": 2}


def test_without_sources_the_answer_is_called_incomplete():
    assert not find_vulnerabilities(meta(sources=None), runner=Host()).is_complete


@pytest.mark.parametrize(
    "line",
    [
        "",
        "CVE-2026-1",
        "CVE-2026-1 other",
        "CVE-2026-1 git extra",
        "\x1b[2JCVE-2026-1 git",
        "CVE-2026-1 git (\x1b]52;c;x)",
        "cve-1 git",
    ],
)
def test_a_line_of_another_form_is_left_out(line):
    assert parse_summary(line, versions={"git": "1"}) == ()


def test_an_urgency_that_nobody_knows_is_none():
    [found] = parse_summary("CVE-2026-1 git (extreme urgency, fixed)", versions={"git": "1"})

    assert (found.urgency, found.is_fixed) == ("", True)


def test_a_failure_of_debsecan_is_the_reason():
    host = Host(code=1, error=b"error: while downloading https://x/trixie:\nerror: no route\n")

    found = find_vulnerabilities(meta(), runner=host)

    assert found.found is None
    assert found.reason == '"debsecan" exited with 1: error: no route'


def test_a_debsecan_that_does_not_end_is_the_reason():
    assert "did not end" in find_vulnerabilities(meta(), runner=Stuck()).reason


def test_the_status_file_has_one_paragraph_for_each_package():
    text = render_status((Package("a", "1", "all"), Package("b", "2", "amd64")), {})

    assert [paragraph.splitlines()[0] for paragraph in text.split("\n\n")] == ["Package: a", "Package: b"]


@pytest.mark.skipif(not Runner().find("debsecan"), reason="debsecan is not installed")
def test_debsecan_itself_finds_what_its_data_names(tmp_path):
    """The data's format is debsecan's `VERSION 1`, as its 0.4.20 reads it."""
    data = (
        "VERSION 1\n"
        "CVE-2026-1,,a bug in git\nCVE-2026-2,,a bug in openssl\nCVE-2026-3,,fixed long ago\n\n"
        "git,0, H?F,1:2.48-1,\nopenssl,1, M? ,3.5.2-1,\ngit,2, L? ,1:2.40-1,\n\n"
        "git,git\nopenssl,libssl3t64\n"
    )
    (tmp_path / "trixie").write_bytes(zlib.compress(data.encode()))

    with_sources = find_vulnerabilities(meta(), runner=Runner(), data=tmp_path)
    without = find_vulnerabilities(meta(sources=None), runner=Runner(), data=tmp_path)

    assert with_sources.reason is None
    assert [(one.id, one.package, one.is_fixed, one.urgency) for one in with_sources.found] == [
        ("CVE-2026-1", "git", True, "high"),
        ("CVE-2026-2", "libssl3t64", False, "medium"),
    ]
    assert [one.id for one in without.found] == ["CVE-2026-1"]
