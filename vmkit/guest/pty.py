"""Give this terminal to a guest program: raw, filtered, following its size, and sane again however it ends."""

import contextlib
import os
import re
import select
import signal
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vmkit.errors import TransportFailed
from vmkit.guest.base import Command, Secret
from vmkit.guest.connection import Channel, Connection, Liveness, Pty, Size
from vmkit.guest.signals import ENDING, held
from vmkit.guest.ssh import SshGuest
from vmkit.guest.streams import execute
from vmkit.guest.terminal import TerminalFilter, Unfiltered
from vmkit.host.wait import Deadline

_TERMS = frozenset({"xterm", "xterm-256color", "screen", "screen-256color", "tmux", "tmux-256color", "linux", "vt100"})
_LANGUAGE = re.compile(r"(?:C|[a-z]{2,3}_[A-Z]{2})\.(?:UTF-8|utf8)")
_TICK_S = 1.0
_READ_BYTES = 64 << 10
_TYPED_BYTES = 1024  # a window holds far more, so that sending never blocks for long
_MAX_SIDE = 9999
_STATUS_QUERY, _STATUS = b"\x1b[5n", b"\x1b[0n"  # every VT100 answers this one (ECMA-48, DSR)
_SILENCE_S = 0.2
_DRAIN_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """The descriptors of this side, and what the guest may know of them."""

    stdin: int = 0
    stdout: int = 1
    stderr: int = 2
    term: str = "xterm-256color"
    language: str | None = None
    filtered: bool = True

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, filtered: bool = True) -> "Terminal":
        """Take TERM and LANG when they are of a known form; nothing else of the environment reaches the guest."""
        term, language = environment.get("TERM", ""), environment.get("LANG", "")
        return cls(
            term=term if term in _TERMS else "xterm-256color",
            language=language if _LANGUAGE.fullmatch(language) else None,
            filtered=filtered,
        )

    def screen(self) -> TerminalFilter:
        """Return what the guest's output passes on its way here."""
        return TerminalFilter() if self.filtered else Unfiltered()


def shell(guest: SshGuest, argv: Sequence[str | Secret] | None, *, terminal: Terminal) -> int:
    """Run a program (None: the login shell) in a terminal in the guest, and return its exit code.

    Without a terminal on stdin this is `execute`, as ssh does it, with a screen before every terminal. SIGTERM, SIGHUP
    and SIGINT from outside end it with 128+n. Raises TransportFailed, with the terminal restored.
    """
    if not os.isatty(terminal.stdin):
        return execute(
            guest, argv, stdin=terminal.stdin, stdout=terminal.stdout, stderr=terminal.stderr, screen=terminal.screen
        )
    wire = None if argv is None else Command(*argv).wire()
    pty = Pty(term=terminal.term, size=_size(terminal.stdin), language=terminal.language)
    channel = guest.connection.start(wire, pty=pty)
    screen = terminal.screen()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    try:
        with (
            raw_terminal(terminal, screen),
            Liveness(guest.connection) as liveness,
            held(*ENDING, signal.SIGWINCH, wake=lambda: _poke(wake)) as arrived,
        ):
            relay = _Relay(
                connection=guest.connection, channel=channel, terminal=terminal, screen=screen, arrived=arrived
            )
            return relay.run(woken, liveness)
    finally:
        channel.close()
        os.close(woken)
        os.close(wake)


@dataclass(kw_only=True)
class _Relay:
    """The loop between this terminal and a guest program; `arrived` collects the signals that woke it."""

    connection: Connection
    channel: Channel
    terminal: Terminal
    screen: TerminalFilter
    arrived: list[signal.Signals]
    typing: bool = True

    def run(self, woken: int, liveness: Liveness) -> int:
        keyboard, output = self.terminal.stdin, self.channel.fileno()
        while True:
            # the keyboard waits while the guest takes no more input, so that its output still comes
            listening = [keyboard] if self.typing and self.channel.send_ready() else []
            readable, _, _ = select.select([output, woken, *listening], [], [], _TICK_S)
            liveness.check()
            if woken in readable:
                os.read(woken, 4096)
            if (ending := self._obey_signals()) is not None:
                return 128 + ending
            if output in readable and not self._show():
                return self._code()
            if keyboard in readable:
                self.typing = self._pass_on(keyboard)

    def _obey_signals(self) -> int | None:
        arrived, self.arrived[:] = set(self.arrived), []
        if signal.SIGWINCH in arrived:
            self.connection.resize(self.channel, _size(self.terminal.stdin))
        return min(arrived - {signal.SIGWINCH}, default=None)

    def _show(self) -> bool:
        """Show what the program has written; return whether there can be more."""
        output = self.channel.recv(_READ_BYTES)
        return bool(output) and _write(self.terminal.stdout, self.screen.feed(output))

    def _pass_on(self, keyboard: int) -> bool:
        """Send what was typed; return whether there can be more."""
        try:
            typed = os.read(keyboard, _TYPED_BYTES)
            if typed:
                self.channel.sendall(typed)
                return True
        except OSError:  # the terminal hung up, or the program has ended: the end of the output tells
            pass
        with contextlib.suppress(OSError, EOFError):
            self.channel.shutdown_write()
        return False

    def _code(self) -> int:
        self.channel.status_event.wait(_TICK_S)
        if self.channel.exit_status >= 0:
            return self.channel.exit_status
        if self.connection.is_alive():  # this side has gone: nobody looks any more
            return 128 + signal.SIGHUP
        raise TransportFailed("the connection to the guest was lost")


def _write(descriptor: int, shown: bytes) -> bool:
    try:
        while shown:
            shown = shown[os.write(descriptor, shown) :]
    except OSError:  # EIO, EPIPE: nobody looks any more
        return False
    return True


@contextlib.contextmanager
def raw_terminal(terminal: Terminal, screen: TerminalFilter) -> Iterator[None]:
    """Make the terminal raw; at the end undo the guest's modes and forget what was typed or answered but not read.

    Signals that would end this process wait until that is done.
    """
    before: list[Any] = termios.tcgetattr(terminal.stdin)
    try:
        tty.setraw(terminal.stdin, termios.TCSADRAIN)  # what was typed ahead is for the guest
        yield
    finally:
        with held(*ENDING, wake=lambda: None):
            if os.isatty(terminal.stdout) and _write(terminal.stdout, screen.reset() + _STATUS_QUERY):
                _drain(terminal.stdin)
            with contextlib.suppress(termios.error):
                termios.tcsetattr(terminal.stdin, termios.TCSAFLUSH, before)


def _drain(descriptor: int) -> None:
    """Read until the terminal answers our own query: answers to a guest's queries, or to its mouse modes, come before.

    A terminal that does not answer is waited for no longer than `_SILENCE_S`.
    """
    deadline, seen = Deadline(_DRAIN_S), b""
    with contextlib.suppress(OSError):  # EIO: the terminal is gone
        while _STATUS not in seen and not deadline.passed:
            if not select.select([descriptor], [], [], min(_SILENCE_S, deadline.left_s))[0]:
                return
            if not (answer := os.read(descriptor, _READ_BYTES)):
                return
            seen = seen[-len(_STATUS) :] + answer


def _size(descriptor: int) -> Size:
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        columns, rows = 0, 0
    if columns < 1 or rows < 1:  # a serial line does not know
        return Size(columns=80, rows=24)
    return Size(columns=min(columns, _MAX_SIDE), rows=min(rows, _MAX_SIDE))


def _poke(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):  # enough is written to wake the reader
        os.write(descriptor, b"!")
