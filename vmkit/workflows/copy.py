"""Copy files and trees between this computer and one machine, docker's way: `NAME:PATH` names the machine's side."""

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from vmkit.errors import UsageError
from vmkit.guest.copy import copy_into, copy_out
from vmkit.guest.ssh import SshGuest
from vmkit.host.report import Report

OpenGuest = Callable[[str], contextlib.AbstractContextManager[SshGuest]]

_IN_MACHINE = re.compile(r"(?P<machine>[a-z][a-z0-9-]{0,40}):(?P<path>.*)", re.DOTALL)


def copy(sources: Sequence[str], target: str, *, open_guest: OpenGuest, report: Report) -> None:
    """Copy `sources` to `target`; exactly one side is in a machine. A local path with a colon is written `./a:b`.

    Raises UsageError, NotFound, Refused (what the guest sent), TransportFailed.
    """
    into = _IN_MACHINE.fullmatch(target)
    outs = [_IN_MACHINE.fullmatch(source) for source in sources]
    if into:
        if any(outs):
            raise UsageError("one side of a copy is on this computer", hint="copy out first, then in")
        with open_guest(into["machine"]) as guest, report.phase("copy", f"copying to {into['machine']}"):
            copy_into(
                guest,
                [Path(source) for source in sources],
                into["path"] or ".",
                on_bytes=lambda done: report.progress(done, None),
            )
        return
    found = [out for out in outs if out]
    if len(found) != len(sources) or len({out["machine"] for out in found}) != 1:
        raise UsageError("one side of a copy is in one machine", hint="vmkit copy FILE NAME:PATH")
    place = Path(target)
    if len(found) > 1 and not place.is_dir():
        raise UsageError(f'several sources need a folder, and "{target}" is none')
    with open_guest(found[0]["machine"]) as guest, report.phase("copy", f"copying from {found[0]['machine']}"):
        for out in found:
            copy_out(guest, out["path"] or ".", place, on_bytes=lambda done: report.progress(done, None))
