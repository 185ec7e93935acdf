"""Try what a wall should keep a program from, and what it should let it do: one JSON object in, as PLAN, one out.

`vmkit verify --layer` writes `PLAN = "..."` before this text and gives it to `python3 -I -` behind the wall. It uses
everything that it can get there, root by sudo too. Standard library only.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import platform
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

MAX_SAID = 200
WAIT_S = 4
CALLS = {"x86_64": {"finit_module": 313, "bpf": 321}, "aarch64": {"finit_module": 273, "bpf": 280}}
CLONE_NEWUSER, PTRACE_ATTACH, EPERM, ENOSYS = 0x10000000, 16, 1, 38

plan = json.loads(globals().get("PLAN", "{}"))
token = plan.get("token", "")
libc = ctypes.CDLL(None, use_errno=True)
sudo = ["sudo", "-n"]


def run(*words, stdin=b""):
    """Run a program; return its exit code and what it said."""
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())[:MAX_SAID]


def write_outside():
    """Write a file in the home folder of the computer; whether it arrived, the computer says."""
    target = Path(plan["outside"])
    made = run("test", "-d", str(target.parent))[0] != 0 and run(*sudo, "test", "-d", str(target.parent))[0] != 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(token)
    except OSError as error:
        code, said = run(*sudo, "sh", "-c", 'mkdir -p "${1%/*}" && echo >"$1"', "sh", str(target))
        return ("witness", "written as root") if code == 0 else ("closed", f"{error.strerror}; sudo: {said}")
    finally:
        if made:  # in another computer's file system than was meant
            run("rm", "-rf", str(target.parent))
            run(*sudo, "rm", "-rf", str(target.parent))
    return "witness", "written"


def write_workspace():
    """Write where one is meant to."""
    path = Path(f".vmkit-{token}")
    try:
        path.write_text(token)
        path.unlink()
    except OSError as error:
        return "closed", str(error)
    return "open", f"written in {Path.cwd()}"


def read_secret(path):
    """Read a file, as root too, and compare."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run([*sudo, "cat", path], capture_output=True, timeout=30, check=False)
            if hashlib.sha256(done.stdout).hexdigest() == plan["secret_sha256"]:
                return "open", "read as root"
        return "closed", error.strerror or str(error)
    same = hashlib.sha256(content).hexdigest() == plan["secret_sha256"]
    return ("open", "read") if same else ("closed", "there is another file, or an empty one")


def find_canary():
    """Return the canary's process, by its arguments, or None."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if token.encode() in path.read_bytes().split(b"\0"):
                return int(path.parent.name)
    return None


def see_process():
    """Look for a process of the computer."""
    found = find_canary()
    return ("open", f"process {found}") if found else ("closed", "it is not in /proc")


def signal_process():
    """Reach a process of the computer, as root too, without ending it."""
    found = find_canary()
    if not found:
        return "closed", "it is not in /proc"
    try:
        os.kill(found, 0)
    except OSError as error:
        return "closed", error.strerror
    return "open", f"process {found} could be ended"


def become_root():
    """Ask for root."""
    code, said = run(*sudo, "true")
    return ("open", "sudo") if code == 0 else ("closed", said or f"sudo exited with {code}")


def system_call(name, *arguments):
    """Call the kernel; EPERM and ENOSYS are a no, every other answer means that the call was looked at."""
    numbers = CALLS.get(platform.machine())
    if not numbers:
        return "failed", f"no number for {platform.machine()}"
    ctypes.set_errno(0)
    done = libc.syscall(numbers[name], *arguments)
    code = ctypes.get_errno() if done < 0 else 0
    return ("closed" if code in (EPERM, ENOSYS) else "open"), os.strerror(code) if code else "done"


def kernel(task):
    """Do one of the kernel's tasks."""
    if task == "module":
        return system_call("finit_module", -1, b"", 0)
    if task == "bpf":
        attributes = struct.pack("4I", 2, 4, 4, 1).ljust(128, b"\0")  # an array with one entry
        return system_call("bpf", 0, attributes, len(attributes))
    child = os.fork()
    if child == 0:
        if task == "ptrace":
            time.sleep(WAIT_S)
            os._exit(0)
        ctypes.set_errno(0)
        os._exit(0 if libc.unshare(CLONE_NEWUSER) == 0 else ctypes.get_errno() or 1)
    if task == "ptrace":
        ctypes.set_errno(0)
        code = 0 if libc.ptrace(PTRACE_ATTACH, child, None, None) == 0 else ctypes.get_errno()
        os.kill(child, 9)
        os.waitpid(child, 0)
    else:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return ("open", "done") if code == 0 else ("closed", os.strerror(code))


def as_root_too(task):
    """Do a kernel's task as this user, then as root where sudo gives it."""
    seen, said = kernel(task)
    if seen != "open" and run(*sudo, "true")[0] == 0:
        source = f"PLAN = {json.dumps(json.dumps({'kernel': task}))}\n{SOURCE}"
        done = subprocess.run([*sudo, "python3", "-I", "-"], input=source.encode(), capture_output=True, check=False)
        with contextlib.suppress(ValueError, TypeError):
            seen, said = json.loads(done.stdout)
            said = f"as root: {said}"
    return seen, said


def same_kernel():
    """Compare the kernel's run with that of the computer."""
    try:
        mine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        return "failed", str(error)
    return ("open", "the same kernel") if mine == plan["boot_id"] else ("closed", "another kernel")


def connect():
    """Go to a listener of the computer by every way there is; whether anybody came, the computer says."""
    said = []
    for host in plan["hosts"]:
        try:
            with socket.create_connection((host, plan["port"]), WAIT_S) as door:
                door.sendall(f"direct-{token} {host}\n".encode())
                door.settimeout(WAIT_S)
                door.recv(10)
            said.append(f"{host}: connected")
        except OSError as error:
            said.append(f"{host}: {error.strerror or error}")
    return "witness", "; ".join(said)


def ask_proxy(host, port):
    """Ask the proxy that the environment names for a tunnel; return its status, or what went wrong."""
    place = urlsplit(os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or "")
    if not place.hostname:
        return None
    head = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n"
    if place.username:
        import base64  # noqa: PLC0415  # only here
        from urllib.parse import unquote  # noqa: PLC0415  # only here

        login = f"{unquote(place.username)}:{unquote(place.password or '')}".encode()
        head += f"Proxy-Authorization: Basic {base64.b64encode(login).decode()}\r\n"
    try:
        with socket.create_connection((place.hostname, place.port or 80), WAIT_S) as door:
            door.settimeout(2 * WAIT_S)
            door.sendall(f"{head}\r\n".encode())
            reply = door.recv(500).split(b"\r\n")[0].decode("utf-8", "replace")
            if " 200 " in f"{reply} ":
                door.sendall(f"proxied-{token}\n".encode())
                with contextlib.suppress(OSError):
                    door.recv(10)
            return reply
    except OSError as error:
        return error.strerror or str(error)


def connect_by_proxy():
    """Ask the proxy for the computer's listener; whether anybody came, the computer says."""
    said = [f"{host}: {ask_proxy(host, plan['port'])}" for host in plan["hosts"]]
    return "witness", "; ".join(said)


def unlisted_name():
    """Ask the proxy for a name that no list has."""
    reply = ask_proxy(plan["unlisted"], 443)
    if reply is None:
        return "failed", "the environment names no proxy, and there is no name to try without one"
    return ("open" if " 200" in reply else "closed"), reply


def variable():
    """Look for the secret in the environment."""
    digests = {hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest() for value in os.environ.values()}
    return ("open", "it is there") if plan["secret_sha256"] in digests else ("closed", "it is not there")


def kiro_login():
    """Look whether Kiro's own login could be read."""
    path = Path.home() / ".local/share/kiro-cli"
    try:
        found = [entry.name for entry in path.iterdir()]
    except OSError as error:
        return "closed", error.strerror
    return "open", f"{len(found)} files in {path}"


def unix_socket():
    """Make a Unix socket, as databases, editors and agents do."""
    try:
        left, right = socket.socketpair()
        left.close(), right.close()
        socket.socket(socket.AF_UNIX).close()
    except OSError as error:
        return "closed", error.strerror
    return "open", "made"


def git():
    """Commit in the workspace."""
    folder = f".vmkit-git-{token}"
    identity = ("-c", "user.name=vmkit", "-c", "user.email=vmkit@vmkit.invalid")
    code, said = run("git", "init", "--quiet", folder)
    if code == 0:
        code, said = run("git", "-C", folder, *identity, "commit", "--quiet", "--allow-empty", "-m", "x")
    run("rm", "-rf", folder)
    return ("open", "committed") if code == 0 else ("closed", said)


def cache():
    """Write in ~/.cache, as package managers do."""
    path = Path.home() / ".cache" / f"vmkit-{token}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        path.unlink()
    except OSError as error:
        return "closed", error.strerror
    return "open", "written"


PROBES = {
    "write-workspace": write_workspace,
    "write-outside": write_outside,
    "read-key": lambda: read_secret(plan["key"]),
    "read-other": lambda: read_secret(plan["other"]),
    "see-process": see_process,
    "signal-process": signal_process,
    "same-kernel": same_kernel,
    "root": become_root,
    "kernel-module": lambda: as_root_too("module"),
    "kernel-bpf": lambda: as_root_too("bpf"),
    "kernel-ptrace": lambda: as_root_too("ptrace"),
    "kernel-namespace": lambda: as_root_too("namespace"),
    "net-direct": connect,
    "net-proxy": connect_by_proxy,
    "net-unlisted": unlisted_name,
    "variable": variable,
    "kiro-login": kiro_login,
    "works-git": git,
    "works-cache": cache,
    "works-unix-socket": unix_socket,
}
SOURCE = ""


def main():
    """Do all, one after the other; a flaw in one is an answer too."""
    if "kernel" in plan:
        print(json.dumps(kernel(plan["kernel"])))
        return
    answers = {}
    for name, probe in PROBES.items():
        try:
            seen, said = probe()
        except Exception as error:  # one probe must not take the others with it
            seen, said = "failed", f"{type(error).__name__}: {error}"
        answers[name] = {"seen": seen, "said": str(said)[:MAX_SAID]}
    print(json.dumps({"schema": 1, "answers": answers}))
    sys.stdout.flush()


SOURCE = plan.get("source", "")
main()
