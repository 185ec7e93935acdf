"""The bundle on disk."""

from dataclasses import replace
from pathlib import Path

import pytest

from vmkit.bundle.config import ConfigError, QemuConfig, decode
from vmkit.bundle.layout import Bundle, Rendered, write_bundle
from vmkit.bundle.plist import parse_plist
from vmkit.errors import NotFound, Refused

SAMPLES = Path(__file__).parents[2] / "data" / "utm-samples"


def sample() -> Rendered:
    content = (SAMPLES.parent / "plists" / "kiro.plist").read_bytes()
    config = decode(parse_plist(content))
    assert isinstance(config, QemuConfig)
    return Rendered(config=config, content=content)


def test_a_bundle_is_read_as_it_was_written(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "x.utm", sample())

    assert bundle.read() == sample().config
    assert bundle.data.is_dir()


def test_a_changed_configuration_is_read_as_it_was_written(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "x.utm", sample())
    config = replace(sample().config, drive=sample().config.drive[:1])

    bundle.write(config)

    assert bundle.read() == config


@pytest.mark.parametrize(
    ("name", "expected"), [("disk", "disk"), ("/etc/passwd", "passwd"), ("../../a", "a"), ("", "Data"), ("a/", "a")]
)
def test_a_file_lies_in_data_whatever_its_name_says(tmp_path: Path, name: str, expected: str) -> None:
    assert Bundle(tmp_path).file(name) == tmp_path / "Data" / expected


@pytest.mark.parametrize("name", ["..", "a/..", ".", "a\0b"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused):
        Bundle(tmp_path).file(name)


def test_a_bundle_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    apple = Rendered(config=sample().config, content=(SAMPLES / "apple-macos.plist").read_bytes())
    broken = Rendered(config=sample().config, content=b"<plist>")

    with pytest.raises(ConfigError):
        write_bundle(tmp_path / "apple.utm", apple).read()
    with pytest.raises(Refused):
        write_bundle(tmp_path / "broken.utm", broken).read()
    with pytest.raises(NotFound):
        Bundle(tmp_path / "missing.utm").read()
