import stat

import paramiko
import pytest

from vmkit.guest.keys import load_keys, make_keys


def test_private_keys_are_for_this_user_alone(tmp_path):
    keys = make_keys(tmp_path / "keys")

    assert [stat.S_IMODE(path.stat().st_mode) for path in (keys.user_key, keys.host_key)] == [0o600, 0o600]


def test_public_lines_belong_to_the_private_keys(tmp_path):
    keys = make_keys(tmp_path / "keys")

    for private, public in ((keys.user_key, keys.user_public), (keys.host_key, keys.host_public)):
        key = paramiko.Ed25519Key.from_private_key_file(str(private))
        assert public.split()[:2] == [key.get_name(), key.get_base64()]


def test_every_machine_gets_other_keys(tmp_path):
    keys = [make_keys(tmp_path / name) for name in ("a", "b")]

    assert len({line for pair in keys for line in (pair.user_public, pair.host_public)}) == 4


def test_keys_are_never_overwritten(tmp_path):
    before = make_keys(tmp_path / "keys")

    with pytest.raises(FileExistsError):
        make_keys(tmp_path / "keys")

    assert load_keys(tmp_path / "keys") == before
