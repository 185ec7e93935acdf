"""Every error vmkit raises on purpose: message, evidence, next step, and an exit code for each class.

VmkitError              1
├─ UsageError           2   a value, a template or a file the user gave is wrong
├─ NotFound             3   machine, image, template, recipe
├─ WrongState           4   running, not running, exists
│  └─ Busy              4   another vmkit holds it
├─ TimedOut             5
├─ Refused              6   policy, digest, host key, hostile input
├─ HostLacks            7   a program, space, a permission
├─ ToolFailed           7   a foreign program failed
├─ ProvisionFailed      8   a recipe's step failed; the machine stays
└─ TransportFailed    255   the connection to the guest was lost
"""


class VmkitError(Exception):
    """Something the user can be told: `message` says what, `detail` is the evidence, `hint` the next command."""

    exit_code = 1
    kind = "failed"

    def __init__(self, message: str, *, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint


class UsageError(VmkitError):
    """A value, a template or a file that the user gave is wrong."""

    exit_code = 2
    kind = "usage"


class NotFound(VmkitError):  # noqa: N818  # reads as what happened, like FileNotFoundError's "not found"
    """No machine, image, template or recipe of that name."""

    exit_code = 3
    kind = "not-found"


class WrongState(VmkitError):  # noqa: N818
    """The machine is running, is not running, or exists already."""

    exit_code = 4
    kind = "wrong-state"


class Busy(WrongState):
    """Another vmkit process holds the machine or the store."""

    kind = "busy"


class TimedOut(VmkitError):  # noqa: N818
    """A wait reached its deadline."""

    exit_code = 5
    kind = "timed-out"


class Refused(VmkitError):  # noqa: N818
    """A policy, a digest, a host key or hostile input forbids it."""

    exit_code = 6
    kind = "refused"


class HostLacks(VmkitError):  # noqa: N818
    """This computer lacks a program, space or a permission."""

    exit_code = 7
    kind = "host-lacks"


class ToolFailed(VmkitError):  # noqa: N818
    """A foreign program failed."""

    exit_code = 7
    kind = "tool-failed"


class ProvisionFailed(VmkitError):  # noqa: N818
    """A recipe's step failed. The machine stays, and the hint resumes."""

    exit_code = 8
    kind = "provision-failed"


class TransportFailed(VmkitError):  # noqa: N818
    """The connection to the guest could not be made or was lost."""

    exit_code = 255
    kind = "transport-failed"
