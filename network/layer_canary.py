"""Place what a wall has to keep a program from, and say what became of it: keys, a file, a process, a listener.

`vmkit verify --layer` writes `PLAN = "..."` before this text and gives it to `python3 -I - TOKEN`, on the computer that
the wall protects. do=start places it and prints where; do=report prints what arrived; do=stop takes all away.
Standard library only.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

LIVES_S = 900

plan = json.loads(globals().get("PLAN", "{}"))
token = plan["token"]
home = Path.home()
folder = home / f".vmkit-canary-{token}"
key = home / ".ssh" / f"id_vmkit_{token}" if plan["in_ssh"] else folder / "id_key"
arrivals = folder / "arrivals"


def boot_id():
    """Return what tells this kernel's run from every other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"none-{token}"


def start():
    """Place everything; the process that listens has the token in its arguments."""
    for place in (folder, key.parent):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (key, folder / "other"):
        path.write_text(plan["secret"])
        path.chmod(0o600)
    door = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if pid == 0:
        serve(door)
    (folder / "pid").write_text(str(pid))
    return {
        "key": str(key),
        "other": str(folder / "other"),
        "outside": str(folder / "written"),
        "pid": pid,
        "port": door.getsockname()[1],
        "boot_id": boot_id(),
    }


def serve(door):
    """Note who comes, until the time is up."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    end = time.monotonic() + LIVES_S
    while time.monotonic() < end:
        door.settimeout(max(0.1, end - time.monotonic()))
        with contextlib.suppress(OSError):
            guest, _ = door.accept()
            with guest:
                guest.settimeout(2)
                words = guest.recv(200).decode("utf-8", "replace")
                with arrivals.open("a") as file:
                    file.write(words.split("\n")[0] + "\n")
                guest.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    clear()  # who should have stopped this was killed
    os._exit(0)


def report():
    """Say what reached this computer."""
    came = arrivals.read_text().splitlines() if arrivals.exists() else []
    alive = True
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except OSError:
        alive = False
    return {"written": (folder / "written").exists(), "arrivals": came[:50], "alive": alive}


def stop():
    """Take everything away."""
    with contextlib.suppress(OSError, ValueError):
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    clear()
    return {}


def clear():
    """Remove what was written."""
    with contextlib.suppress(OSError):
        key.unlink()
    shutil.rmtree(folder, ignore_errors=True)


print(json.dumps({"schema": 1, **{"start": start, "report": report, "stop": stop}[plan["do"]]()}))
