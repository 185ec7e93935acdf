"""The base of the container's image: made once on this computer, or left to the guest."""

from pathlib import Path

import pytest

from vmkit.errors import ToolFailed
from vmkit.host.computer import machine_arch
from vmkit.host.process import Completed, Runner, tool_failed
from vmkit.host.report import Silent
from vmkit.workflows.container_base import make_base, read_packages

needs_keyring = pytest.mark.skipif(
    not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists(), reason="no Debian keyring here"
)


class Host(Runner):
    """A host whose mmdebstrap writes its number of calls, or fails."""

    def __init__(self, *, lacks: str = "", fails: bool = False) -> None:
        self.lacks, self.fails, self.argv = lacks, fails, []

    def find(self, program):
        return None if program == self.lacks else Path("/usr/bin") / program

    def run(self, argv, **_):
        self.argv.append(list(argv))
        [target] = [word for word in argv if word.endswith(".tar.gz")]
        Path(target).write_text(str(len(self.argv)))
        if self.fails:
            raise tool_failed(Completed(argv=tuple(argv), code=25, stdout=b"", stderr=b"E: no network"))
        return Completed(argv=tuple(argv), code=0, stdout=b"", stderr=b"")


def make(cache: Path, host: Host, release: str = "debian-13", **options) -> Path:
    return make_base(release, machine_arch(), cache=cache, runner=host, report=Silent(), **options)


@needs_keyring
def test_it_is_made_once_of_what_the_dockerfile_names_and_anew_when_asked(tmp_path):
    host = Host()

    first, second = make(tmp_path, host), make(tmp_path, host)

    assert first == second
    assert first.read_text() == "1"
    assert first.name.startswith("trixie-")
    assert f"--include={','.join(read_packages())}" in host.argv[0]
    assert "git" in read_packages()
    assert make(tmp_path, host, again=True).read_text() == "2"


@needs_keyring
def test_another_mirror_is_another_base(tmp_path, monkeypatch):
    first = make(tmp_path, Host())
    monkeypatch.setenv("VMKIT_DEBIAN_MIRROR", "http://mirror.example.com/debian")

    assert make(tmp_path, Host()) != first


@needs_keyring
def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ToolFailed):
        make(tmp_path, Host(fails=True))

    assert list(tmp_path.rglob("*.tar.gz*")) == []


@pytest.mark.parametrize(
    ("release", "host"), [("ubuntu-24.04", Host()), ("debian-11", Host()), ("debian-13", Host(lacks="mmdebstrap"))]
)
def test_where_it_cannot_be_made_it_is_an_empty_file(tmp_path, release, host):
    base = make(tmp_path, host, release)

    assert base.read_bytes() == b""
    assert host.argv == []
