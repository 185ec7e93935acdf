import socket
import threading

import pytest

from tests.sshd import PROGRAM, running_sshd, until
from vmkit.drivers.base import Address
from vmkit.errors import Refused, TimedOut, ToolFailed
from vmkit.guest.keys import make_keys
from vmkit.guest.ready import wait_until_ready
from vmkit.host.wait import Deadline

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="sshd is not installed")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running_sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def wait(sshd, **more):
    given = {
        "address": sshd.address,
        "user": sshd.user,
        "key": sshd.keys.user_key,
        "host_key": sshd.keys.host_public,
        "instance_id": "i-1",
        "deadline": Deadline(3),
        "alive": lambda: None,
        **more,
    }
    return wait_until_ready(given.pop("address"), **given)


def test_a_guest_without_its_seed_is_not_ready(sshd):
    with pytest.raises(TimedOut) as caught:
        wait(sshd)

    assert "seed" in caught.value.detail


def test_a_machine_that_died_ends_the_wait_at_once(sshd):
    with pytest.raises(ToolFailed) as caught:
        wait(sshd, deadline=Deadline(600), alive=lambda: "qemu: out of memory")

    assert caught.value.detail == "qemu: out of memory"


def test_a_machine_that_dies_while_its_sshd_is_silent_ends_the_wait(sshd):
    lives = iter([None] * 5)

    with (
        pytest.raises(ToolFailed),
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        wait(
            sshd,
            address=Address(host="127.0.0.1", port=silent.getsockname()[1]),
            deadline=Deadline(600),
            alive=lambda: next(lives, "gone"),
        )


def test_another_host_key_ends_the_wait_at_once(sshd, tmp_path):
    with pytest.raises(Refused):
        wait(sshd, deadline=Deadline(600), host_key=make_keys(tmp_path / "other").host_public)


def test_a_key_that_is_not_yet_there_is_waited_for(tmp_path):
    with running_sshd(tmp_path) as sshd:
        allowed = tmp_path / "authorized_keys"
        line = allowed.read_text()
        allowed.write_text("")
        threading.Timer(1, lambda: allowed.write_text(line)).start()

        with pytest.raises(TimedOut) as caught:
            wait(sshd, deadline=Deadline(4))

    assert "seed" in caught.value.detail  # it got in


def test_nobody_is_asked_before_the_console_says_so(sshd):
    said = []
    until(lambda: "Connection from" in sshd.log.read_text())
    before = sshd.log.read_text().count("Connection from")

    with pytest.raises(TimedOut) as caught:
        wait(sshd, deadline=Deadline(1), console_ready=lambda: bool(said))

    assert sshd.log.read_text().count("Connection from") == before
    assert "console" in caught.value.detail


def test_a_guest_with_its_seed_is_ready_after_one_connection(tmp_path):
    with running_sshd(tmp_path, extra="ForceCommand echo i-1\n") as sshd:
        until(lambda: "Connection from" in sshd.log.read_text())  # the fixture's own
        said = iter([False, False])

        wait(sshd, console_ready=lambda: next(said, True)).close()

        assert sshd.log.read_text().count("Connection from") == 2
