"""The ready state: a disposable start goes on from where an earlier one had booted to, as long as nothing has changed.

It is made by the first disposable start, before the login's disk is unlocked: its memory holds no login. It stays
beside the machine, and never becomes part of an image.
"""

import os
import time

from vmkit.drivers.base import Driver
from vmkit.guest.base import Command, Guest
from vmkit.guest.ssh import SshGuest
from vmkit.host.report import Report
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.workflows.keep import Keeper

_SEED_BYTES = 512
# QEMU's clock chip has gone on with this computer's; what came over SSH is old by as long as that took.
_REFRESH = """
read -r clock </sys/class/rtc/rtc0/since_epoch || clock=0
[ "$clock" -ge "$1" ] && [ "$clock" -lt "$(($1 + 300))" ] || clock=$1
date -u -s "@$clock" >/dev/null
cat >/dev/urandom
"""


def keep_ready(guest: SshGuest, machine: Machine, *, machines: MachineStore, driver: Driver, report: Report) -> None:
    """Keep the state of a machine that booted for once, as soon as its guest is idle; without room, keep none.

    Before that the guest is refreshed once, so that what this takes is in its memory; then everybody hangs up.
    """
    with report.phase("ready-state", f"keeping the ready state of {machine.name}"):
        refresh(guest)
        guest.close()
        Keeper(machine, machines=machines).end()
        driver.keep_ready(machines.vm(machine))


def refresh(guest: Guest) -> None:
    """Give a guest that has gone on from an earlier moment the time of now, and random numbers of its own.

    Raises TransportFailed; what the guest makes of it is its own affair.
    """
    now = str(int(time.time()))
    guest.run(Command("sudo", "-n", "sh", "-c", _REFRESH, "refresh", now), stdin=os.urandom(_SEED_BYTES), check=False)
