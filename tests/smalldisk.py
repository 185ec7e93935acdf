"""A real file system that a test fills: a tmpfs in a mount namespace of this process, made smaller while it is used."""

import ctypes
import os
from pathlib import Path

import pytest

_CLONE_NEWNS = 0x20000
_MS_REMOUNT, _MS_PRIVATE_ALL = 32, 0x40000 | 0x4000
_ROOMY = 2 << 30  # nothing of it is taken before it is used


class SmallDisk:
    """A file system mounted on `path`. Nobody but this process and its children sees it, and it ends with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._libc = ctypes.CDLL(None, use_errno=True)
        if os.getuid() != 0 or not hasattr(self._libc, "unshare"):
            pytest.skip("only root can mount a file system, on Linux")
        if self._libc.unshare(_CLONE_NEWNS) or self._mount(None, "/", None, _MS_PRIVATE_ALL, ""):
            pytest.skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
        path.mkdir(parents=True)
        assert self._mount("small", str(path), "tmpfs", 0, f"mode=0700,size={_ROOMY}") == 0

    def fill(self, *, leaving: int = 0) -> None:
        """Leave this much space, and whole pages."""
        for _ in range(100):  # somebody may be writing
            used = os.statvfs(self.path)
            size = (used.f_blocks - used.f_bfree) * used.f_frsize + leaving
            if self._mount("small", str(self.path), "tmpfs", _MS_REMOUNT, f"size={max(size, 4096)}") == 0:
                return
        raise AssertionError(os.strerror(ctypes.get_errno()))

    def free(self) -> None:
        """Make it roomy again."""
        assert self._mount("small", str(self.path), "tmpfs", _MS_REMOUNT, f"size={_ROOMY}") == 0

    def unmount(self) -> None:
        self._libc.umount2(os.fsencode(self.path), 2)  # MNT_DETACH

    def _mount(self, source: str | None, target: str, kind: str | None, flags: int, data: str) -> int:
        encoded = [text.encode() if text is not None else None for text in (source, target, kind)]
        return self._libc.mount(*encoded, ctypes.c_ulong(flags), data.encode())
