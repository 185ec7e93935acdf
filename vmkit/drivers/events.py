"""Word what UTM and macOS answer to an Apple event, whichever program sent it.

The codes are macOS's (MacErrors.h); what UTM means by them: docs/reference/utm-driver.md.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from vmkit.drivers.base import PortTaken
from vmkit.errors import HostLacks, TimedOut, ToolFailed, VmkitError
from vmkit.host.text import printable_lines
from vmkit.host.wait import Deadline, until

T = TypeVar("T")

NOT_PERMITTED, NO_OBJECT, TIMED_OUT, NOT_RUNNING, INVALID_CONNECTION = -1743, -1728, -1712, -600, -609
PATIENCE_S = 20.0  # UTM is launched by the first event, and breaks off while it saves a configuration

# utmctl says "(OSStatus error -600.)", osascript ends its line with "(-600)".
_CODE = re.compile(r"OSStatus error (-?\d{1,6})|\((-\d{1,6})\)\s*$", re.MULTILINE)
_PORT_TAKEN = re.compile("could not set up host forwarding rule", re.IGNORECASE)  # QEMU's net/slirp.c, all versions
_OPENING = re.compile(r"^(Error from event: .*?\(OSStatus error -?\d+\.?\)|Error:)\s*", re.MULTILINE)
_NOT_READY = "not ready to accept commands"  # before its main window has appeared
_MAX_SAID = 16 << 10


class UtmUnknown(VmkitError):  # noqa: N818  # as in vmkit.errors
    """UTM has no machine of this UUID, or does not let us see it."""

    exit_code = 3
    kind = "unknown-to-utm"


class UtmAbsent(ToolFailed):
    """UTM is not running, not ready, or broke off the connection: in a moment it may answer."""

    kind = "utm-absent"


class UtmRefused(ToolFailed):
    """UTM understood, and said no (-2700)."""

    kind = "utm-refused"


def failure(said: bytes, *, what: str, environment: Mapping[str, str] = os.environ) -> VmkitError:
    """Return the error that a program's stderr tells of; `what` names what was tried.

    HostLacks (Automation permission), TimedOut, UtmAbsent, UtmUnknown, PortTaken, else UtmRefused.
    """
    text = said[:_MAX_SAID].decode("utf-8", "replace")
    detail = "\n".join(printable_lines(text, max_lines=8)) or None
    code = _code(text)
    if code == NO_OBJECT or (code is None and "Virtual machine not found" in text):
        return UtmUnknown(f"{what}: UTM has no such machine", detail=detail)
    if code == NOT_PERMITTED:
        return _not_permitted(detail, over_ssh="SSH_CONNECTION" in environment)
    if code == TIMED_OUT:
        return TimedOut(f"{what}: UTM did not answer in time", detail=detail, hint="look at UTM: does a dialog wait?")
    if code in (NOT_RUNNING, INVALID_CONNECTION) or _NOT_READY in text:
        return UtmAbsent(f"{what}: UTM is not running, or broke off", detail=detail, hint="open UTM and try again")
    if _PORT_TAKEN.search(text):
        return PortTaken(f"{what}: a port that the machine forwards is in use", detail=detail)
    words = printable_lines(_OPENING.sub("", text), max_lines=3)
    return UtmRefused(f"{what}: {words[-1][:200]}" if words else f"{what}: UTM refused", detail=detail)


def patiently(call: Callable[[], T], *, what: str, within_s: float = PATIENCE_S) -> T:
    """Make a call that may be made twice, and make it again while UTM is absent. Raises TimedOut at the deadline."""
    try:
        [answer] = until(
            lambda _left_s: [call()], deadline=Deadline(within_s), what=what, retry_on=(UtmAbsent,), every_s=1.0
        )
    except TimedOut as error:
        error.hint = error.hint or "open UTM and try again"
        raise
    return answer


def _code(text: str) -> int | None:
    found = _CODE.search(text)
    return int(found[1] or found[2]) if found else None


def _not_permitted(detail: str | None, *, over_ssh: bool) -> HostLacks:
    hint = "System Settings → Privacy & Security → Automation: allow this terminal to control UTM"
    if over_ssh:
        hint = "not over SSH, not before login: run vmkit in a terminal on the Mac's own screen; then " + hint
    return HostLacks("macOS does not let vmkit control UTM", detail=detail, hint=hint)
