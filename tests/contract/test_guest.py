"""What every Guest does: the fake one and the one behind a real sshd."""

import pytest

from tests.sshd import PROGRAM, running_sshd
from vmkit.errors import NotFound, Refused, TransportFailed
from vmkit.guest.base import Command, CommandFailed, Outcome, Secret
from vmkit.testing.guest import FakeGuest, UnexpectedCommandError

GREET = Command("printf", "%s\\n", "it's", "a b")
FAIL = Command("sh", "-c", "echo said; echo wrong >&2; exit 3")
COUNT = Command("wc", "-c")

RESPONSES = {
    str(GREET): b"it's\na b\n",
    str(FAIL): Outcome(command=str(FAIL), code=3, stdout=b"said\n", stderr=b"wrong\n"),
    str(COUNT): b"5\n",
    str(Command("echo", Secret("x"))): b"x\n",
}


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running_sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(params=["fake", "ssh"])
def guest(request):
    if request.param == "fake":
        yield FakeGuest(responses=RESPONSES)
        return
    if PROGRAM is None:
        pytest.skip("sshd is not installed")
    with request.getfixturevalue("sshd").connect() as connected:
        yield connected


def test_run_returns_what_was_said(guest):
    outcome = guest.run(GREET)

    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, b"it's\na b\n", b"")


def test_run_tells_each_line(guest):
    lines = []

    guest.run(FAIL, check=False, on_line=lines.append)

    assert sorted(lines) == ["said", "wrong"]


def test_run_raises_when_the_command_fails(guest):
    with pytest.raises(CommandFailed) as caught:
        guest.run(FAIL)

    assert (caught.value.outcome.code, caught.value.outcome.stderr) == (3, b"wrong\n")
    assert "wrong" in caught.value.detail


def test_run_returns_a_failure_when_unchecked(guest):
    assert guest.run(FAIL, check=False).code == 3


def test_run_feeds_stdin(guest):
    assert guest.run(COUNT, stdin=b"12345").text.strip() == "5"


def test_run_cuts_at_the_limit(guest):
    assert guest.run(GREET, max_bytes=4).stdout == b"it's"


def test_an_outcome_hides_secrets(guest):
    assert guest.run(Command("echo", Secret("x"))).command == "echo ******"


def test_what_was_put_can_be_read_back(guest, tmp_path):
    (tmp_path / "file").write_bytes(b"\0\xff" * 1000)
    sent = []

    guest.put(tmp_path / "file", f"{tmp_path}/copy", on_bytes=sent.append)
    guest.put_bytes(b"small", f"{tmp_path}/it's small", mode=0o600)

    assert guest.get_bytes(f"{tmp_path}/copy") == b"\0\xff" * 1000
    assert guest.get_bytes(f"{tmp_path}/it's small") == b"small"
    assert sent[-1] == 2000


def test_put_replaces_what_was_there(guest, tmp_path):
    guest.put_bytes(b"old and longer", f"{tmp_path}/file")

    guest.put_bytes(b"new", f"{tmp_path}/file")

    assert guest.get_bytes(f"{tmp_path}/file") == b"new"


def test_a_missing_file_is_not_found(guest, tmp_path):
    with pytest.raises(NotFound):
        guest.get_bytes(f"{tmp_path}/missing")


def test_a_file_over_the_limit_is_refused(guest, tmp_path):
    guest.put_bytes(b"12345", f"{tmp_path}/file")

    with pytest.raises(Refused):
        guest.get_bytes(f"{tmp_path}/file", max_bytes=4)


def test_a_file_of_just_the_limit_is_read(guest, tmp_path):
    guest.put_bytes(b"12345", f"{tmp_path}/file")

    assert guest.get_bytes(f"{tmp_path}/file", max_bytes=5) == b"12345"


def test_a_closed_guest_answers_no_more(guest):
    guest.close()

    with pytest.raises(TransportFailed):
        guest.run(GREET)


def test_the_fake_fails_on_a_command_it_was_not_told_of():
    with pytest.raises(UnexpectedCommandError, match="rm -rf"):
        FakeGuest(responses=RESPONSES).run(Command("rm", "-rf", "/"))


def test_the_fake_uses_up_a_list_of_responses():
    guest = FakeGuest(responses={"date": [b"1", 1]})

    assert guest.run(Command("date")).text == "1"
    assert guest.run(Command("date"), check=False).code == 1
    with pytest.raises(UnexpectedCommandError):
        guest.run(Command("date"))
