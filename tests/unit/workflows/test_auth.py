"""What `auth status` says, in the words of the command-line contract."""

from vmkit.kiro.identity import Identity
from vmkit.kiro.verification import Method
from vmkit.workflows.auth import AuthStatus
from vmkit.workflows.login_disk import DiskState


def test_the_status_names_the_identity_and_the_state_of_its_disk() -> None:
    identity = Identity(method=Method.FREE, kind="BuilderId", account="a@b.invalid", region="us-east-1")

    shown = AuthStatus(machine="a", identity=identity, since="2026-01-01", disk=DiskState.UNLOCKED).to_json()

    assert shown == {
        "machine": "a",
        "logged_in": True,
        "account": "a@b.invalid",
        "method": "free",
        "start_url": None,
        "region": "us-east-1",
        "since": "2026-01-01",
        "disk": "unlocked",
    }


def test_without_a_login_everything_else_is_null() -> None:
    shown = AuthStatus(machine="a", identity=None, since=None, disk=DiskState.NONE).to_json()

    assert shown.pop("machine") == "a"
    assert shown.pop("disk") == "none"
    assert shown.pop("logged_in") is False
    assert set(shown.values()) == {None}
