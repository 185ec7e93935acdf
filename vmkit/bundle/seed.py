"""Write the seed: a NoCloud ISO that tells a guest its name, its user and its keys, for cloud-init and for our oneshot.

The folder `vmkit/` repeats every value as a file of its own, so that a guest without cloud-init parses nothing.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from vmkit.errors import UsageError
from vmkit.host.files import write_atomically

VOLUME_ID = "cidata"


@dataclass(frozen=True, kw_only=True)
class SeedValues:
    """What a guest is told at its first boot. Keys are OpenSSH's text."""

    instance_id: str
    hostname: str
    user: str
    authorized_key: str
    host_key_private: str
    host_key_public: str
    files: Mapping[str, bytes] = field(default_factory=dict)  # more for our own images, by name


def make_seed(path: Path, values: SeedValues) -> None:
    """Write the seed to `path`, mode 0600: it holds the guest's private host key.

    Raises UsageError for a value with a control character.
    """
    _require_printable(values)
    write_atomically(path, _iso(seed_files(values)), mode=0o600)


def seed_files(values: SeedValues) -> dict[str, bytes]:
    """Return the files in the seed, by path."""
    plain = {
        "instance-id": values.instance_id,
        "hostname": values.hostname,
        "user": values.user,
        "authorized_keys": values.authorized_key,
        "ssh_host_ed25519_key": values.host_key_private,
        "ssh_host_ed25519_key.pub": values.host_key_public,
    }
    # JSON is YAML, and its quoting leaves nothing to chance.
    meta_data = {"instance-id": values.instance_id, "local-hostname": values.hostname}
    return {
        "meta-data": _json(meta_data),
        "user-data": b"#cloud-config\n" + _json(_user_data(values)),
        **{f"vmkit/{name}": content for name, content in values.files.items()},
        **{f"vmkit/{name}": (text.rstrip("\n") + "\n").encode() for name, text in plain.items()},
    }


def _user_data(values: SeedValues) -> dict[str, object]:
    return {
        "hostname": values.hostname,
        "manage_etc_hosts": "localhost",  # sudo looks itself up
        "users": [
            {
                "name": values.user,
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": [values.authorized_key.strip()],
            }
        ],
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "no_ssh_fingerprints": True,  # we know them; printing takes seconds under software emulation
        "ssh": {"emit_keys_to_console": False},
        "ssh_keys": {
            "ed25519_private": values.host_key_private,
            "ed25519_public": f"{values.host_key_public.strip()}\n",
        },
        "growpart": {"mode": "auto", "devices": ["/"]},
        "package_update": False,
        # On the console, as our own images say it: then vmkit asks at once, and not before.
        "final_message": f"vmkit: ready {values.instance_id}",
    }


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _require_printable(values: SeedValues) -> None:
    for one in fields(values):
        if one.name == "files":
            continue
        text: str = getattr(values, one.name)
        multiline = one.name == "host_key_private"
        if not text or not (text.replace("\n", "") if multiline else text.rstrip("\n")).isprintable():
            raise UsageError(f'the seed\'s "{one.name}" is empty or holds a control character')


def _iso(files: dict[str, bytes]) -> bytes:
    """Build an ISO 9660 image whose names survive: by Joliet and by Rock Ridge."""
    import pycdlib  # noqa: PLC0415  # 60 ms

    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=VOLUME_ID, app_ident_str="vmkit")
    iso.add_directory("/VMKIT", rr_name="vmkit", joliet_path="/vmkit")
    for number, (name, content) in enumerate(sorted(files.items())):
        folder = "/VMKIT" if "/" in name else ""
        iso.add_fp(
            io.BytesIO(content),
            len(content),
            f"{folder}/F{number:02d}.;1",
            rr_name=name.rpartition("/")[2],
            joliet_path=f"/{name}",
            file_mode=0o100400,
        )
    image = io.BytesIO()
    iso.write_fp(image)
    iso.close()
    return image.getvalue()
