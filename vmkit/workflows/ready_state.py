"""The ready state: a disposable start goes on from where an earlier one had booted to, as long as nothing has changed.

It is made by the first disposable start, before anybody is connected to the guest and before the login's disk is
unlocked: its memory holds no login. It stays beside the machine, and never becomes part of an image.
"""

import contextlib
import os
import time
from collections.abc import Callable

from vmkit.drivers.base import Driver, MachineState
from vmkit.errors import TimedOut
from vmkit.guest.base import Command, Guest
from vmkit.host.report import Report
from vmkit.host.wait import Deadline, until
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore

_ANNOUNCED_S = 120.0  # then there is no ready state this time
_SEED_BYTES = 512
# QEMU's clock chip has gone on with this computer's; what came over SSH is old by as long as that took.
_REFRESH = """
read -r clock </sys/class/rtc/rtc0/since_epoch || clock=0
[ "$clock" -ge "$1" ] && [ "$clock" -lt "$(($1 + 300))" ] || clock=$1
date -u -s "@$clock" >/dev/null
cat >/dev/urandom
"""


def keep_ready(
    machine: Machine,
    *,
    machines: MachineStore,
    driver: Driver,
    report: Report,
    deadline: Deadline,
    announced: Callable[[], bool] | None,
) -> None:
    """Keep the state of a machine that boots for once, as soon as its guest says that it is ready.

    One that does not say so, and one whose driver keeps none, is left alone.
    """
    if announced is None:
        return
    vm = machines.vm(machine)
    with report.phase("ready-state", f"keeping the ready state of {machine.name}"):
        limit = Deadline(min(_ANNOUNCED_S, deadline.left_s))
        with contextlib.suppress(TimedOut):
            until(
                lambda _left_s: announced() or driver.state(vm) is MachineState.STOPPED,
                deadline=limit,
                what="its guest is not ready",
                every_s=0.1,
            )
        if announced():
            driver.keep_ready(vm)


def refresh(guest: Guest) -> None:
    """Give a guest that has gone on from an earlier moment the time of now, and random numbers of its own.

    Raises TransportFailed; what the guest makes of it is its own affair.
    """
    now = str(int(time.time()))
    guest.run(Command("sudo", "-n", "sh", "-c", _REFRESH, "refresh", now), stdin=os.urandom(_SEED_BYTES), check=False)
