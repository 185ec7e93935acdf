"""Wait for an event until a deadline on the monotonic clock, retrying only what time can heal."""

import time
from collections.abc import Callable
from typing import TypeVar

from vmkit.errors import TimedOut

T = TypeVar("T")


class Deadline:
    """A moment on the monotonic clock. `clock` is seconds, and is passed in by tests."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end - self._clock())

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return self.left_s == 0.0


def until(
    attempt: Callable[[float], T],
    *,
    deadline: Deadline,
    what: str,
    retry_on: tuple[type[BaseException], ...] = (),
    every_s: float = 0.2,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call `attempt(seconds_left)` until it returns something true, and return that.

    Exceptions in `retry_on` are retried, all others pass. Raises TimedOut from the last of them at the deadline.
    """
    from tenacity import Retrying, retry_if_exception_type, retry_if_result, wait_fixed  # noqa: PLC0415  # 25 ms

    def give_up(state: object) -> T:
        outcome = getattr(state, "outcome", None)
        cause = outcome.exception() if outcome is not None and outcome.failed else None
        raise TimedOut(f"{what}: not within {deadline.seconds:g} s", detail=str(cause) if cause else None) from cause

    retrying: Retrying = Retrying(
        retry=retry_if_exception_type(retry_on) | retry_if_result(lambda result: not result),
        stop=lambda _state: deadline.passed,
        wait=wait_fixed(every_s),
        sleep=sleep,
        retry_error_callback=give_up,
    )
    return retrying(lambda: attempt(deadline.left_s))
