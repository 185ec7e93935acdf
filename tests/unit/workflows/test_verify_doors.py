"""Doors on this computer: they note who comes, and say what others could get at."""

import os
import socket
from pathlib import Path

import pytest

from vmkit.workflows.verify_doors import Doors, answering, open_to_others


def test_who_comes_by_tcp_is_greeted_and_noted() -> None:
    with Doors("t1") as doors:
        with socket.create_connection(("127.0.0.1", doors.direct_port), timeout=5) as guest:
            assert b"t1" in guest.recv(100)

        assert "TCP from 127.0.0.1" in (doors.arrivals(doors.direct_port) or "")
        assert doors.arrivals(doors.proxied_port) is None


def test_who_comes_by_udp_is_noted_with_words_that_are_fit_to_show() -> None:
    with Doors("t1") as doors, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
        guest.settimeout(5)
        guest.sendto(b"\x1b[2Jhello", ("127.0.0.1", doors.direct_port))

        assert b"t1" in guest.recv(100)
        came = doors.arrivals(doors.direct_port) or ""
        assert "UDP from 127.0.0.1" in came
        assert came.isprintable()


def test_who_comes_often_is_not_kept_without_bound() -> None:
    with Doors("t1") as doors:
        for _ in range(100):
            answering(["127.0.0.1"], doors.proxied_port)

        assert len(doors.arrivals(doors.proxied_port) or "") < 400


def test_afterwards_nothing_listens() -> None:
    with Doors("t1") as doors:
        ports = (doors.direct_port, doors.proxied_port)

    assert [answering(["127.0.0.1", *doors.others], port) for port in ports] == [[], []]


def test_a_port_on_loopback_does_not_answer_at_the_other_addresses() -> None:
    with Doors("t1") as doors, socket.create_server(("127.0.0.1", 0)) as here:
        assert answering(doors.others, here.getsockname()[1]) == []


def test_a_port_on_every_address_answers_there() -> None:
    with Doors("t1") as doors, socket.create_server(("0.0.0.0", 0)) as everywhere:
        port = everywhere.getsockname()[1]

        assert answering(doors.others, port) == [
            f"{address} port {port}" for address in doors.others if ":" not in address
        ]


@pytest.mark.parametrize(("mode", "told"), [(0o600, 0), (0o640, 1), (0o604, 1), (0o622, 2), (0o644, 1), (0o666, 2)])
def test_what_others_may_read_or_change_is_told(tmp_path: Path, mode: int, told: int) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)

    assert len(list(open_to_others(folders=[], private=[path], own=[path]))) == told


def test_a_folder_that_others_may_enter_is_told(tmp_path: Path) -> None:
    for mode, told in ((0o700, 0), (0o711, 1), (0o755, 1)):
        tmp_path.chmod(mode)

        assert len(list(open_to_others(folders=[tmp_path], private=[], own=[]))) == told


def test_a_link_is_not_followed_and_told(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(os.devnull)

    assert list(open_to_others(folders=[], private=[link], own=[])) == [f"{link} is not your own"]


def test_what_is_not_there_is_no_fault(tmp_path: Path) -> None:
    assert list(open_to_others(folders=[tmp_path / "a"], private=[tmp_path / "b"], own=[tmp_path / "c"])) == []
