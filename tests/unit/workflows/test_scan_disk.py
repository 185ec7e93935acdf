"""What a scan of a living machine's disk passes over, and what not."""

from pathlib import Path

from tests.ext4 import make_ext4, require_programs
from tests.unit.images.secrets.test_scan import AWS_ID, PEM
from vmkit.guest.keys import make_keys
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.images.secrets.rules import OWN, exact_rules
from vmkit.workflows.scan_disk import scan_disk


def test_of_a_living_machine_only_what_it_has_to_have_is_passed_over(tmp_path: Path) -> None:
    require_programs("debugfs")
    own = make_keys(tmp_path / "keys").host_key.read_bytes()
    files = {
        "etc/ssh/ssh_host_ed25519_key": own,
        "etc/ssh/ssh_host_rsa_key": PEM.encode(),
        "var/lib/cloud/instance/user-data.txt": PEM.encode(),
        "var/backups/seed": own,  # freed, copied: it is the machine's own wherever it lies
        "home/agent/.bash_history": b"\n" + AWS_ID.encode() + b"\n",
        "home/agent/ssh_host_rsa_key": PEM.encode(),
    }
    raw = make_ext4(tmp_path / "disk.raw", files)
    rules = exact_rules({"the host key": own.splitlines()[3]}, rule=OWN)

    lives = scan_disk(raw, runner=Runner(), report=Silent(), known=rules).findings
    image = scan_disk(raw, runner=Runner(), report=Silent()).findings

    assert {line.partition(":")[0] for line in lives} == {"/home/agent/.bash_history", "/home/agent/ssh_host_rsa_key"}
    assert {line.partition(":")[0] for line in image} == {f"/{name}" for name in files}


def test_a_scan_that_ended_early_is_not_clean(tmp_path: Path) -> None:
    own = b"k" * 50
    raw = tmp_path / "disk.raw"
    raw.write_bytes((own + b"\n") * 300 + b"x" * (9 << 20) + AWS_ID.encode())

    found = scan_disk(raw, runner=Runner(), report=Silent(), known=exact_rules({"the host key": own}, rule=OWN))

    assert found.findings == ("the scan ended here: there were too many",)
