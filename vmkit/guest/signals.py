"""Hold back this process's signals while a guest program has the stage, and put the handlers back after."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def held(*numbers: signal.Signals, wake: Callable[[], None]) -> Iterator[list[signal.Signals]]:
    """Give the list that arriving signals are added to; `wake` is called from the handler, so it must be reentrant.

    A signal that is ignored (nohup) stays ignored. Outside the main thread, where Python allows no handlers, nothing
    is held.
    """
    arrived: list[signal.Signals] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        arrived.append(signal.Signals(number))
        wake()

    previous = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    previous[number] = signal.signal(number, remember)
        yield arrived
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
