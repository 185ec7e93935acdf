"""Draw a workflow's phases and progress on stderr: bars on a terminal, one line a phase elsewhere."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from vmkit.cli.flags import Flags
from vmkit.host.report import Report, Silent
from vmkit.host.text import printable

_WORTH_SAYING_S = 0.5


def make_report(flags: Flags) -> Report:
    """Return the report that fits the flags and the terminal."""
    if flags.verbose or flags.very_verbose:
        logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.DEBUG if flags.very_verbose else 20)
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    if flags.quiet:
        return Silent()
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Bars()
    return Lines()


class Lines:
    """One line when a phase ends; nothing is redrawn."""

    @contextlib.contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:  # noqa: ARG002
        """Enter a phase."""
        begun = time.monotonic()
        try:
            yield
        except BaseException:
            _write(f"{text}: failed after {time.monotonic() - begun:.1f} s")
            raise
        took = time.monotonic() - begun
        if took >= _WORTH_SAYING_S:
            _write(f"{text}: {took:.1f} s")

    def progress(self, done: float, total: float | None, unit: str = "bytes") -> None:
        """Draw nothing."""

    def note(self, text: str) -> None:
        """Write one line."""
        _write(text)


class Bars:
    """A spinner or bar for the phase at work, a line for each one that has ended."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._tasks: list[Any] = []
        self._first: dict[Any, tuple[float, float]] = {}  # when, and how much was done then

    @contextlib.contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:  # noqa: ARG002
        """Enter a phase; an inner one replaces the outer one's bar while it lasts."""
        begun = time.monotonic()
        outermost = self._progress is None
        if outermost:
            self._progress = _make_progress()
            self._progress.start()
        self._tasks.append(self._progress.add_task(printable(text, max_chars=70), total=None, amount=""))
        try:
            yield
        finally:
            self._progress.remove_task(self._tasks.pop())
            took = time.monotonic() - begun
            if took >= _WORTH_SAYING_S:
                failed = sys.exc_info()[0] is not None
                self._progress.console.out(f"{'✗' if failed else '✓'} {printable(text)} {took:.1f} s", highlight=False)
            if outermost:
                self._progress.stop()
                self._progress = None

    def progress(self, done: float, total: float | None, unit: str = "bytes") -> None:
        """Move the innermost bar."""
        if not self._tasks:
            return
        task, now = self._tasks[-1], time.monotonic()
        begun, first = self._first.setdefault(task, (now, done))
        amount = _amount(done, total, unit)
        if unit == "bytes" and now - begun >= _WORTH_SAYING_S:
            amount += f" {max(0.0, done - first) / (now - begun) / 2**20:.1f} MiB/s"
        self._progress.update(task, completed=done, total=total, amount=amount)

    def note(self, text: str) -> None:
        """Write one line above the bars."""
        if self._progress is not None:
            self._progress.console.out(printable(text), highlight=False)
        else:
            _write(text)


def _make_progress() -> Any:
    from rich.console import Console  # noqa: PLC0415  # only on a terminal
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _amount(done: float, total: float | None, unit: str) -> str:
    if unit == "bytes":
        mib = f"{done / 2**20:.0f}"
        return f"{mib}/{total / 2**20:.0f} MiB" if total else f"{mib} MiB"
    return f"{done:.0f}/{total:.0f}" if total else f"{done:.0f}"


def _write(text: str) -> None:
    sys.stderr.write(printable(text) + "\n")
