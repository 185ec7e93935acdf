"""Run a guest program as a process of its own, for tests that signal it: exec|shell|raw PORT USER KEY HOST_KEY [ARGV]."""

import json
import os
import sys
from pathlib import Path

from vmkit.drivers.base import Address
from vmkit.errors import VmkitError
from vmkit.guest.pty import Terminal, shell
from vmkit.guest.ssh import connect
from vmkit.guest.streams import execute


def main() -> int:
    how, port, user, key, host_key, argv = sys.argv[1:]
    words = json.loads(argv)
    try:
        with connect(Address(host="127.0.0.1", port=int(port)), user=user, key=Path(key), host_key=host_key) as guest:
            if how == "exec":
                return execute(guest, words, stdin=0, stdout=1, stderr=2)
            return shell(guest, words, terminal=Terminal.from_environment(os.environ, filtered=how == "shell"))
    except VmkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
