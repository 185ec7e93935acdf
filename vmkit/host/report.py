"""How long work tells what it is doing: named phases and progress, drawn by the command line, ignored by tests."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol


class Report(Protocol):
    """Receives what a workflow is doing. All methods may be called often and must return at once."""

    def phase(self, name: str, text: str) -> contextlib.AbstractContextManager[None]:
        """Enter a named, timed phase: `name` is a word for JSON, `text` is for people."""

    def progress(self, done: float, total: float | None, unit: str = "bytes") -> None:
        """Say how much of the phase is done; `total` None when nobody knows. `unit`: bytes, steps or seconds."""

    def note(self, text: str) -> None:
        """Say one printable line."""


class Silent:
    """A Report that says nothing."""

    @contextlib.contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:  # noqa: ARG002
        """Enter a phase."""
        yield

    def progress(self, done: float, total: float | None, unit: str = "bytes") -> None:
        """Ignore progress."""

    def note(self, text: str) -> None:
        """Ignore a note."""


class Timed:
    """A Report that passes everything on and keeps how long each phase took, for a workflow's result."""

    def __init__(self, inner: Report, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds: dict[str, float] = {}
        self._inner, self._clock = inner, clock
        self.progress, self.note = inner.progress, inner.note

    @contextlib.contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        """Enter a phase; its seconds are kept, also when it fails."""
        begun = self._clock()
        try:
            with self._inner.phase(name, text):
                yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + self._clock() - begun, 3)
