"""How an image that is not there would be come by."""

from pathlib import Path

import pytest

from vmkit.errors import NotFound
from vmkit.host.computer import is_macos
from vmkit.host.process import Runner
from vmkit.images.store import ImageStore
from vmkit.workflows.images import how_it_comes


class Having(Runner):
    """A computer with these programs, none of which may run."""

    def __init__(self, *programs: str) -> None:
        self.programs = programs

    def find(self, program: str) -> Path | None:
        return Path("/usr/bin") / program if program in self.programs else None

    def run(self, argv, **_):
        raise AssertionError(argv)


def comes(reference: str, folder: Path, *programs: str) -> str:
    return how_it_comes(reference, images=ImageStore(folder), runner=Having(*programs))


@pytest.mark.skipif(is_macos(), reason="macOS builds nothing")
def test_debian_is_built_where_its_tool_is(tmp_path):
    assert comes("debian-13", tmp_path, "mmdebstrap") == "will be built"
    assert comes("debian-12:mine", tmp_path, "mmdebstrap") == "will be built"


def test_debian_is_fetched_where_its_tool_is_not(tmp_path):
    assert comes("debian-13:latest", tmp_path) == "will be fetched from cloud.debian.org"


def test_what_is_not_built_is_fetched_everywhere(tmp_path):
    assert comes("ubuntu-24.04", tmp_path, "mmdebstrap") == "will be fetched from cloud-images.ubuntu.com"


def test_what_nobody_publishes_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="mine:v1"):
        comes("mine:v1", tmp_path, "mmdebstrap")
