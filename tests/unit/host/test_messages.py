"""Messages between two processes of one user: whole, bounded, with descriptors, and errors that keep their class."""

import os
import socket
from collections.abc import Iterator

import pytest

from vmkit.errors import Refused, TransportFailed, VmkitError
from vmkit.host.messages import MAX_BYTES, Messages, error_message, raise_error


@pytest.fixture
def ends() -> Iterator[tuple[Messages, Messages]]:
    ours, theirs = (Messages(connected=one) for one in socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_message_and_its_descriptors_arrive(ends: tuple[Messages, Messages]) -> None:
    ours, theirs = ends
    reads, writes = os.pipe()
    ours.send({"op": "start", "wire": "echo \n"}, (writes,))

    assert theirs.receive() == {"op": "start", "wire": "echo \n"}
    [came] = theirs.take_descriptors()
    os.write(came, b"through")
    assert os.read(reads, 10) == b"through"
    assert not os.get_inheritable(came)
    for descriptor in (reads, writes, came):
        os.close(descriptor)


def test_an_answer_can_be_read_by_one_who_hung_up_at_once(ends: tuple[Messages, Messages]) -> None:
    ours, theirs = ends
    ours.send({"a": 1})
    ours.close()

    assert theirs.receive() == {"a": 1}
    with pytest.raises(EOFError):
        theirs.receive()


@pytest.mark.parametrize("sent", [b"nonsense\n", b"[1]\n", b"x" * (MAX_BYTES + (1 << 17))])
def test_nonsense_is_a_value_error(ends: tuple[Messages, Messages], sent: bytes) -> None:
    import threading  # noqa: PLC0415  # more is sent than a socket holds

    ours, theirs = ends
    threading.Thread(target=lambda: ours.connected.sendall(sent), daemon=True).start()

    with pytest.raises(ValueError):  # json's own is one too
        theirs.receive()


class LoginRefused(TransportFailed):
    """A class that the receiver has not loaded."""


@pytest.mark.parametrize("kind", [Refused, TransportFailed, VmkitError])
def test_an_error_keeps_its_class_and_its_words(kind: type[VmkitError]) -> None:
    with pytest.raises(kind, match="what") as raised:
        raise_error(error_message(kind("what", detail="why", hint="how")))

    assert type(raised.value) is kind
    assert (raised.value.detail, raised.value.hint, raised.value.exit_code) == ("why", "how", kind.exit_code)


def test_an_error_of_an_unknown_class_is_what_it_is_a_kind_of() -> None:
    sent = error_message(LoginRefused("no"))
    sent["error"]["kinds"][0] = "NotLoadedHere"  # type: ignore[index]  # as from another process

    with pytest.raises(TransportFailed) as raised:
        raise_error(sent)

    assert type(raised.value) is TransportFailed


def test_an_answer_without_an_error_raises_nothing() -> None:
    raise_error({"ok": True})
