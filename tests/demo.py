"""`make demo`: a running kiro-vm from nothing, Kiro CLI installed in it, logged in from this terminal, each phase timed.

Kiro's real release mirror is used when it answers; else kirosim stands in, and every line of it says so.
"""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

NAME = "kiro-vm"
VMKIT = Path(sys.executable).with_name("vmkit")
MANIFEST = "https://prod.download.cli.kiro.dev/stable/latest/manifest.json"
PORT = 28628
APPROVE_AFTER_S = 3

times: dict[str, float] = {}


def main() -> int:
    real = os.environ.get("VMKIT_KIRO_RELEASES") is not None or answers(MANIFEST)
    with contextlib.ExitStack() as stack:
        environment = dict(os.environ)
        service = None
        if not real:
            banner("Kiro's release mirror does not answer: kirosim stands in for it and for the login service.")
            banner("It runs on this computer, which a closed machine does not reach: this one's network is open.")
            about = stack.enter_context(kirosim())
            environment["VMKIT_KIRO_RELEASES"] = about["releases"]
            service = about["guest_service"]
        return demo(environment, service)


def demo(environment: dict[str, str], service: str | None) -> int:
    state = machine_state(environment)
    if state is None:
        # the simulator is on this computer, which a closed machine does not reach
        network = [] if service is None else ["--egress", "open"]
        vmkit("create", NAME, "--no-login", *network, environment=environment, phase="create")
    elif state == "running":
        vmkit("provision", NAME, environment=environment, phase="provision")
    else:  # stopped, or a create that was interrupted
        vmkit("provision", NAME, environment=environment, phase="start and provision")
    if service is not None:
        point_at(service, environment)
        kiro(environment, "logout", phase=None)  # so that a second run shows the login too
    if kiro(environment, "whoami", phase=None, check=False) != 0:
        banner(f"vmkit login {NAME}")
        timed("login", lambda: in_terminal([str(VMKIT), "login", NAME], environment))
    banner("kiro-cli whoami")
    kiro(environment, "whoami", phase="whoami")
    vmkit("list", environment=environment, phase=None)
    print("\nphase                 seconds")
    for phase, seconds in times.items():
        print(f"{phase:20} {seconds:8.1f}")
    print(f"\n{NAME} is running. Next: {VMKIT} shell {NAME}")
    if service is not None:
        banner("All of Kiro above was kirosim, a stand-in. Nothing was installed from, or sent to, the real service.")
    return 0


def vmkit(*words: str, environment: dict[str, str], phase: str | None, check: bool = True) -> int:
    """Run one vmkit command in view."""
    print(f"$ vmkit {' '.join(words)}", flush=True)
    return timed(phase, lambda: subprocess.run([VMKIT, *words], env=environment, check=check).returncode)


def kiro(environment: dict[str, str], word: str, *, phase: str | None, check: bool = True) -> int:
    """Run one Kiro command in the guest."""
    return vmkit(
        "exec",
        NAME,
        "--",
        "sh",
        "-c",
        f'"$HOME/.local/bin/kiro-cli" {word}',
        environment=environment,
        phase=phase,
        check=check,
    )


def machine_state(environment: dict[str, str]) -> str | None:
    found = subprocess.run([VMKIT, "list", "--json"], env=environment, check=True, stdout=subprocess.PIPE)
    states = {machine["name"]: machine["state"] for machine in json.loads(found.stdout)["machines"]}
    return states.get(NAME)


def point_at(service: str, environment: dict[str, str]) -> None:
    """Tell the simulated kiro-cli where this run's service is: an earlier run's is gone."""
    script = 'printf "%s\\n" "$1" >"$HOME/.local/bin/kirosim-service"'
    subprocess.run([VMKIT, "exec", NAME, "--", "sh", "-c", script, "sh", service], env=environment, check=True)


def in_terminal(argv: list[str], environment: dict[str, str]) -> int:
    """Run a command on a terminal of its own whose output is shown here; so it works without one, as in CI."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(argv[0], argv, {**environment, "TERM": environment.get("TERM", "xterm-256color")})
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while block := os.read(terminal, 4096):
            sys.stdout.buffer.write(block)
            sys.stdout.flush()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise SystemExit(f"{' '.join(argv)} exited with {code}")
    return code


@contextlib.contextmanager
def kirosim() -> Iterator[dict[str, str]]:
    """Start the simulator, on the same port as last time when it is free, and end it by its pid."""
    argv = [sys.executable, "-m", "tests.kirosim", "serve", "--approve-after", str(APPROVE_AFTER_S)]
    for port in (PORT, 0):
        process = subprocess.Popen([*argv, "--port", str(port)], stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline() if process.stdout else ""
        if line:
            break
        process.wait()
    threading.Thread(target=relay, args=(process,), daemon=True).start()
    try:
        yield json.loads(line)
    finally:
        process.terminate()
        process.wait()


def relay(process: "subprocess.Popen[str]") -> None:
    if process.stdout:
        shutil.copyfileobj(process.stdout, sys.stdout)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def timed(phase: str | None, action: object) -> int:
    begun = time.monotonic()
    code = action()
    if phase:
        times[phase] = time.monotonic() - begun
    return code


def banner(text: str) -> None:
    print(f"\n=== {text}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
