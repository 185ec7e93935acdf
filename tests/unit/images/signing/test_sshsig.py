"""The envelope of an SSH signature: what ssh-keygen writes is read, what nobody writes is refused."""

import base64

import pytest

from vmkit.errors import Refused, UsageError
from vmkit.host.process import Runner
from vmkit.images.signing.sshsig import parse_envelope, sign

# made by `ssh-keygen -Y sign -n vmkit-image@v1` of OpenSSH 9.2
ARMORED = b"""-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgb/406Nr6kDefk4nAXPnB+wSJuy
B2DRiBwFupwcwiVPcAAAAOdm1raXQtaW1hZ2VAdjEAAAAAAAAABnNoYTUxMgAAAFMAAAAL
c3NoLWVkMjU1MTkAAABAY7/QQ2hrjK8RtArGEpY4wCtGqzvZGtFktoRUMXQJ6j3AbAfux4
FDyp3Bt9Ch/GxwhpcHHIItqb8ulDS/U2jNAQ==
-----END SSH SIGNATURE-----
"""
CONTENT = base64.b64decode(b"".join(ARMORED.splitlines()[1:-1]))


def armored(content: bytes) -> bytes:
    body = base64.b64encode(content)
    return b"-----BEGIN SSH SIGNATURE-----\n" + body + b"\n-----END SSH SIGNATURE-----\n"


class NoProgram(Runner):
    def run(self, argv, **_):
        raise AssertionError(argv)


def test_key_and_namespace_are_read():
    envelope = parse_envelope(ARMORED)

    assert envelope.key.fingerprint == "SHA256:rj3AaiRYvVUZ8q2YjUQT5FJmwsGIfna3KicGAPFGPOc"
    assert envelope.namespace == "vmkit-image@v1"


@pytest.mark.parametrize("length", range(0, len(CONTENT), 3))
def test_a_shortened_one_is_refused(length):
    with pytest.raises(Refused):
        parse_envelope(armored(CONTENT[:length]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN PGP SIGNATURE-----",
        ARMORED + ARMORED,
        b"x" + ARMORED,
        armored(CONTENT.replace(b"SSHSIG\0\0\0\1", b"SSHSIG\0\0\0\2")),
        armored(CONTENT + b"\0\0\0\0"),
        armored(b"SSHSIG\0\0\0\1\xff\xff\xff\xff"),
        armored(CONTENT.replace(b"ssh-ed25519", b"ssh-ed25518")),
        armored(CONTENT + bytes(20_000)),
    ],
)
def test_what_is_no_ssh_signature_is_refused(content):
    with pytest.raises(Refused):
        parse_envelope(content)


def test_a_missing_key_is_told_before_any_program_runs(tmp_path):
    with pytest.raises(UsageError, match="there is no key"):
        sign(b"x", key=tmp_path / "none", runner=NoProgram())
