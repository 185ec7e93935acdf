"""Hand a secret to a guest program that cannot be given it on its input: through a named pipe, not in an argument.

Arguments are in the process list for everybody, an environment variable needs sshd's leave, and a program on a terminal
reads what the user types. What goes through a pipe is never in a file.
"""

import contextlib
import re
import select
from collections.abc import Iterator

from vmkit.errors import ToolFailed, TransportFailed
from vmkit.guest.base import Command, Secret
from vmkit.guest.connection import Channel
from vmkit.guest.ssh import SshGuest
from vmkit.host.text import printable
from vmkit.host.wait import Deadline

_ANSWER_S = 30.0
_PATH = re.compile(rb"^(/[!-~]{1,200}/secret)\r?\n", re.MULTILINE)
_OPENED_WITHIN_S = 60
_MAX_BYTES = 4 << 10
# Says where the pipe is, then waits for its reader; whoever never comes leaves nothing behind.
_OFFER = f"""
umask 077
folder=$(mktemp -d) || exit
trap 'rm -rf -- "$folder"' EXIT
mkfifo "$folder/secret" || exit
echo "$folder/secret"
timeout {_OPENED_WITHIN_S} sh -c 'cat >"$1"' sh "$folder/secret"
"""


@contextlib.contextmanager
def handed(guest: SshGuest, secret: Secret) -> Iterator[str]:
    """Give the path of a pipe in the guest from which one program can read the secret, once: a line.

    Raises ToolFailed when the guest has no pipe to give, TransportFailed.
    """
    channel = guest.connection.start(Command("sh", "-c", _OFFER).wire())
    try:
        with contextlib.suppress(OSError):  # the answer tells
            channel.sendall(f"{secret.value}\n".encode())
            channel.shutdown_write()
        yield _path(guest, channel)
    finally:
        channel.close()


def _path(guest: SshGuest, channel: Channel) -> str:
    said, deadline = b"", Deadline(_ANSWER_S)
    while len(said) < _MAX_BYTES and not deadline.passed:
        readable, _, _ = select.select([channel.fileno()], [], [], deadline.left_s)
        block = channel.recv(_MAX_BYTES) if readable else b""
        said += block
        if found := _PATH.search(said):  # a shell's start-up file may have said something before
            return found[1].decode()
        if not block:
            break
    if not guest.connection.is_alive():
        raise TransportFailed("the connection to the guest was lost")
    raise ToolFailed("the guest could not make a pipe for a secret", detail=printable(said) or None)
