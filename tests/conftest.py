"""For all tests: signals as a terminal gives them, and no deadline for generated cases."""

import signal

from hypothesis import settings

settings.register_profile("vmkit", deadline=None)  # no test asserts a time
settings.load_profile("vmkit")


def pytest_configure() -> None:
    """Undo `nohup` and a shell's `&`: an ignored signal is inherited by every program, and by sshd's programs too."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
