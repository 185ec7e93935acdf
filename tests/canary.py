"""A file of this computer that nobody may open, and the kernel's word on whether somebody did."""

import ctypes
import os
import secrets
from pathlib import Path

import pytest

_OPENED, _READ = 0x20, 0x1  # IN_OPEN, IN_ACCESS of sys/inotify.h


class Canary:
    """A secret that lies in `folder`. Skips the test where there is no inotify."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "canary"
        self.secret = secrets.token_hex(32).encode()
        self.path.write_bytes(self.secret * 64)  # whole sectors: a raw disk, if anybody takes it for one
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            pytest.skip("there is no inotify")
        self._events = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(self._events, os.fsencode(self.path), _OPENED | _READ) >= 0

    def was_opened(self) -> bool:
        """Tell whether anybody, whatever the program, opened it since this was asked last."""
        try:
            return bool(os.read(self._events, 1 << 16))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._events)
