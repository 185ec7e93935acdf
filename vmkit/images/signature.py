"""Check a publisher's signature with `gpgv` and one key: no keyring of the user's, no trust database, no network."""

import tempfile
from pathlib import Path

from vmkit.errors import Refused
from vmkit.host.process import Runner
from vmkit.host.text import printable_lines
from vmkit.images.catalog import Signer

_STATUS = b"[GNUPG:] "
_PRIMARY = 9  # of VALIDSIG's arguments, the fingerprint of the primary key: doc/DETAILS of GnuPG


def require_signature(content: bytes, signature: bytes, *, signer: Signer, what: str, runner: Runner) -> None:
    """Return when `signer` has signed `content`. Raises Refused with what gpgv said, HostLacks without gpgv."""
    with tempfile.TemporaryDirectory(prefix="vmkit-signature-") as name:
        folder = Path(name)
        (folder / "content").write_bytes(content)
        (folder / "content.sig").write_bytes(signature)
        # fmt: off
        done = runner.run([
            "gpgv", "--status-fd", "1", "--homedir", name, "--keyring", str(signer.keyring.absolute()),
            str(folder / "content.sig"), str(folder / "content"),
        ], ok_codes=None)
        # fmt: on
    # A second signature, by a key that is not ours to know, makes gpgv fail; a bad one of any key makes us.
    said = [line.removeprefix(_STATUS).split() for line in done.stdout.splitlines() if line.startswith(_STATUS)]
    signers = {words[1 + _PRIMARY] for words in said if words[:1] == [b"VALIDSIG"] and len(words) > 1 + _PRIMARY}
    bad = any(words[:1] == [b"BADSIG"] for words in said)
    if bad or signer.fingerprint.encode() not in signers:
        raise Refused(
            f"{what} is not signed by the key that its publisher signs with",
            detail="\n".join([f"wanted {signer.fingerprint}", *printable_lines(done.stderr, max_lines=6)]),
            hint="it was not used; try again, and do not use this server if it stays so",
        )
