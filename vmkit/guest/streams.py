"""Relay a guest program's bytes, unchanged, to this process's descriptors: `vmkit exec`."""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Self

from vmkit.guest.base import Command, Secret
from vmkit.guest.connection import Liveness
from vmkit.guest.conversation import Consume, Conversation, Reader, Sender
from vmkit.guest.signals import ENDING, held
from vmkit.guest.ssh import SshGuest
from vmkit.guest.terminal import TerminalFilter

_TICK_S = 1.0
_READ_BYTES = 128 << 10
_GRACE_S = 5.0
_PID_S = 5.0


def execute(
    guest: SshGuest,
    argv: Sequence[str | Secret] | None,
    *,
    stdin: int | None,
    stdout: int,
    stderr: int,
    screen: Callable[[], TerminalFilter] | None = None,
) -> int:
    """Run a program (None: the login shell, reading commands) between descriptors and return its exit code.

    A descriptor that is a terminal gets its bytes through a `screen` of its own, when one is given.
    128+n after signal n. SIGINT, SIGTERM and SIGHUP reach its process group, harder at each repetition and when it does
    not end, and give 128+n too. A closed `stdout` or `stderr` ends it quietly, with 141. Raises TransportFailed.
    """
    command = None if argv is None else Command(*argv)
    with (
        _Source(stdin) as source,
        Conversation(
            guest.connection,
            command,
            produce=source.produce,
            out=_writing(stdout, screen),
            err=_writing(stderr, screen),
        ) as conversation,
        Liveness(guest.connection) as liveness,
        held(*ENDING, wake=conversation.wake) as arrived,
    ):
        try:
            while not conversation.ended_within(_TICK_S):
                conversation.check(liveness)
                if arrived:
                    return _end(conversation, arrived)
        except BrokenPipeError:
            conversation.kill("PIPE")
            return 128 + signal.SIGPIPE
        return 128 + arrived[0] if arrived else conversation.code


def _end(conversation: Conversation, arrived: list[signal.Signals]) -> int:
    conversation.await_pid(_PID_S)  # a signal may come before the guest's shell has said its name
    for name in (arrived[0].name.removeprefix("SIG"), "TERM", "KILL"):
        conversation.kill(name)
        # woken by a further signal, this returns early: an impatient second Ctrl-C goes to the next step
        if conversation.ended_within(_GRACE_S):
            break
    return 128 + arrived[0]


class _Source:
    """Send what can be read from a descriptor. Leaving the `with` stops it, lest it take the next program's input."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._busy = threading.Lock()
        self._left = False

    def __enter__(self) -> Self:
        self._stopped, self._stop = os.pipe()
        return self

    def __exit__(self, *_: object) -> None:
        self._left = True
        os.close(self._stop)
        with self._busy:
            os.close(self._stopped)

    def produce(self, send: Sender) -> None:
        with self._busy, contextlib.suppress(OSError):  # EIO: the terminal is gone
            while self._descriptor is not None and not self._left:
                readable, _, _ = select.select([self._descriptor, self._stopped], [], [])
                if self._stopped in readable:
                    return
                block = os.read(self._descriptor, _READ_BYTES)
                if not block:
                    return
                send(block)


def _writing(descriptor: int, screen: Callable[[], TerminalFilter] | None) -> Consume:
    shown = screen() if screen and os.isatty(descriptor) else None

    def consume(read: Reader) -> None:
        while block := read():
            write(shown.feed(block) if shown else block)
        if shown:
            write(shown.reset())

    def write(block: bytes) -> None:
        left = memoryview(block)
        while left:
            left = left[os.write(descriptor, left) :]

    return consume
