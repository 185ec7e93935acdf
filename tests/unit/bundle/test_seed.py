"""The seed, read back."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pycdlib
import pytest

from vmkit.bundle.seed import SeedValues, make_seed, seed_files
from vmkit.errors import UsageError

VALUES = SeedValues(
    instance_id="6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    hostname="kiro-vm",
    user="agent",
    authorized_key="ssh-ed25519 AAAAuser vmkit",
    host_key_private="-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbg==\n-----END OPENSSH PRIVATE KEY-----\n",
    host_key_public="ssh-ed25519 AAAAhost",
)


def read(path: Path, **place: str) -> bytes:
    iso = pycdlib.PyCdlib()
    iso.open(str(path))
    content = io.BytesIO()
    iso.get_file_from_iso_fp(content, **place)
    iso.close()
    return content.getvalue()


@pytest.mark.parametrize("names", ["joliet_path", "rr_path"])
def test_every_file_is_found_by_its_name(tmp_path: Path, names: str) -> None:
    make_seed(tmp_path / "seed.iso", VALUES)

    for name, content in seed_files(VALUES).items():
        assert read(tmp_path / "seed.iso", **{names: f"/{name}"}) == content


def test_the_volume_is_what_cloud_init_looks_for(tmp_path: Path) -> None:
    make_seed(tmp_path / "seed.iso", VALUES)

    image = (tmp_path / "seed.iso").read_bytes()

    assert image[0x8001:0x8006] == b"CD001"
    assert image[0x8028:0x8048].strip() == b"cidata"
    assert (tmp_path / "seed.iso").stat().st_mode & 0o777 == 0o600


def test_cloud_init_is_told_to_use_our_keys_only() -> None:
    files = seed_files(VALUES)

    head, _, body = files["user-data"].decode().partition("\n")
    told = json.loads(body)
    assert head == "#cloud-config"
    assert (told["ssh_deletekeys"], told["ssh_pwauth"], told["disable_root"]) == (True, False, True)
    assert told["ssh_keys"]["ed25519_private"] == VALUES.host_key_private
    assert told["users"][0]["ssh_authorized_keys"] == [VALUES.authorized_key]
    assert json.loads(files["meta-data"])["instance-id"] == VALUES.instance_id


def test_cloud_init_ends_with_the_line_that_is_waited_for_on_the_console() -> None:
    told = json.loads(seed_files(VALUES)["user-data"].decode().partition("\n")[2])

    assert told["final_message"] == f"vmkit: ready {VALUES.instance_id}"


def test_the_plain_files_hold_one_value_each() -> None:
    files = seed_files(VALUES)

    assert files["vmkit/hostname"] == b"kiro-vm\n"
    assert files["vmkit/ssh_host_ed25519_key"] == VALUES.host_key_private.encode()
    assert files["vmkit/authorized_keys"] == b"ssh-ed25519 AAAAuser vmkit\n"


@pytest.mark.parametrize("field", ["instance_id", "hostname", "user", "authorized_key", "host_key_public"])
@pytest.mark.parametrize("text", ["", "a\nruncmd: [x]", "a\x00"])
def test_a_value_of_several_lines_is_refused(tmp_path: Path, field: str, text: str) -> None:
    with pytest.raises(UsageError):
        make_seed(tmp_path / "seed.iso", replace(VALUES, **{field: text}))
    assert not list(tmp_path.iterdir())
