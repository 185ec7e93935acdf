"""Wait for a guest to be ready: its sshd lets us in, and the seed of this boot has been applied."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vmkit.drivers.base import Address
from vmkit.errors import TimedOut, ToolFailed, TransportFailed
from vmkit.guest.base import Command
from vmkit.guest.dial import Dial, dial
from vmkit.guest.ssh import SshGuest
from vmkit.host.text import printable
from vmkit.host.wait import Deadline

_PROBE_S = 15.0  # performance.md: a banner timeout under 10 s throws away connections that were about to succeed
_UNANNOUNCED_S = 30.0  # then probe although the console has said nothing
_PAUSE_S = 0.05
_AFTER_FAILURE_S = 0.5
_ASK_EVERY_S = 0.25

# Our images write /run/vmkit/seed. cloud-init links result.json into /run when its last stage of this boot is over.
_SEED = """
cat /run/vmkit/seed 2>/dev/null && exit
[ -e /run/cloud-init/result.json ] && cat /var/lib/cloud/data/instance-id
"""


def wait_until_ready(
    address: Address,
    *,
    user: str,
    key: Path,
    host_key: str,
    instance_id: str | None,
    deadline: Deadline,
    alive: Callable[[], str | None],
    console_ready: Callable[[], bool] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    dial: Dial = dial,
    on_notes: Callable[[Sequence[str]], None] = lambda _notes: None,
) -> SshGuest:
    """Return a connection to a guest whose seed `instance_id` is applied; None: to one that lets us in.

    `alive` returns None while the machine's process lives, else why it died. `console_ready` tells whether the guest
    has announced itself on its console: then it is asked at once, before that only after half a minute. `on_notes` gets
    what the guest's initrd noted behind the seed's name, a line each.

    Raises ToolFailed (the machine died), Refused (another host key), TimedOut.
    """
    waiting = _Waiting(deadline, alive, console_ready, sleep)
    last = "its console did not say that it is ready"
    while True:
        waiting.until_worthwhile(last)
        probe_s = min(_PROBE_S, max(1.0, deadline.left_s))
        try:
            guest = SshGuest(
                dial(
                    address,
                    user=user,
                    key=key,
                    host_key=host_key,
                    timeout_s=probe_s,
                    give_up=waiting.better_probe_anew(),
                )
            )
        except TransportFailed as error:
            last = f"{error.message}: {error.detail}" if error.detail else error.message
            waiting.pause(_AFTER_FAILURE_S, last)
            continue
        try:
            while instance_id is not None:
                seed, *notes = _applied_seed(guest)
                if seed == instance_id:
                    on_notes(notes)
                    break
                last = (
                    f'its seed is "{printable(seed)}", not "{instance_id}"' if seed else "its seed is not yet applied"
                )
                waiting.pause(_AFTER_FAILURE_S, last)
        except TransportFailed as error:  # sshd was restarted
            guest.close()
            last = error.message
        except BaseException:
            guest.close()
            raise
        else:
            return guest


class _Waiting:
    """Pause while there is reason to wait on; raise when there is none."""

    def __init__(
        self,
        deadline: Deadline,
        alive: Callable[[], str | None],
        console_ready: Callable[[], bool] | None,
        sleep: Callable[[float], None],
    ) -> None:
        self._deadline, self._alive, self._sleep = deadline, alive, sleep
        self._console_ready = console_ready or (lambda: True)
        self._asked_at_s = float("inf")
        self._probe_anyway_at_s = deadline.left_s - _UNANNOUNCED_S

    def until_worthwhile(self, last: str) -> None:
        while not self._console_ready() and self._deadline.left_s > self._probe_anyway_at_s:
            self.pause(_PAUSE_S, last)
        self.pause(0, last)

    def pause(self, seconds: float, last: str) -> None:
        died = self._died()
        if died is not None:
            raise ToolFailed("the machine died while it was starting", detail=died)
        if self._deadline.passed:
            raise TimedOut(
                f"the guest was not ready within {self._deadline.seconds:g} s", detail=last, hint="vmkit logs"
            )
        self._sleep(seconds)

    def better_probe_anew(self) -> Callable[[], bool]:
        """Give a question for a probe under way: has the machine died, or the guest announced itself since."""
        announced_before = self._console_ready()
        return lambda: self._died() is not None or (not announced_before and self._console_ready())

    def _died(self) -> str | None:
        """Ask now and then: a driver may have to connect to the machine for the answer."""
        if self._asked_at_s - self._deadline.left_s < _ASK_EVERY_S:
            return None
        self._asked_at_s = self._deadline.left_s
        return self._alive()


def _applied_seed(guest: SshGuest) -> list[str]:
    """Return the instance id of the seed that the guest has applied since it started, or "", and the notes there."""
    outcome = guest.run(Command("sh", "-c", _SEED), check=False, max_bytes=200, timeout_s=30)
    return (outcome.text.splitlines() if outcome.ok else []) or [""]
