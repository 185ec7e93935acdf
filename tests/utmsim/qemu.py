"""Real QEMU processes that outlive the program that started them, their monitor, and the guest agent."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.utmsim.arguments import VARIABLES, command_line, needs_firmware
from tests.utmsim.faults import EventError
from tests.utmsim.registry import Entry

NO_AGENT = "The QEMU guest agent is not running or not installed on the guest."
_START_S = 60
_AGENT_S = 5


class Channel:
    """Lines of JSON over a Unix socket: a monitor or an agent."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, message: dict[str, Any], prefix: bytes = b"") -> None:
        self._socket.sendall(prefix + json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            part = self._socket.recv(1 << 16)
            if not part:
                raise ConnectionError("closed")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line.rpartition(b"\xff")[2]))


def monitor(sockets: Path, command: str, timeout_s: float = 10, **arguments: Any) -> Any:
    """Say one thing to the monitor. Raises OSError, EventError."""
    with Channel(sockets / "qmp", timeout_s) as channel:
        channel.receive()  # the greeting
        channel.send({"execute": "qmp_capabilities"})
        channel.receive()
        channel.send({"execute": command, "arguments": arguments})
        while True:
            reply = channel.receive()
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise EventError(str(reply["error"]["desc"]))


def start_time(pid: int) -> str | None:
    """Return when a process began, in its own words; None when it is dead."""
    try:
        if Path("/proc/self/stat").exists():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return None if fields[0] in "ZX" else fields[19]
    except OSError:
        return None
    answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def lives(entry: Entry) -> bool:
    return entry.pid is not None and entry.started is not None and start_time(entry.pid) == entry.started


def status(entry: Entry, sockets: Path) -> str:
    """Return the status of a machine; one whose process died is stopped."""
    if not entry.is_qemu:
        return entry.status
    if not lives(entry):
        entry.pid = entry.started = None
        entry.disposable = False
        return "stopped"
    try:
        state = monitor(sockets, "query-status", 1)["status"]
    except (OSError, ValueError):  # it does not answer: UTM says what it remembers
        return entry.status if lives(entry) else "stopped"
    entry.status = "paused" if state in ("paused", "prelaunch", "suspended") else "started"
    return entry.status


def start(entry: Entry, sockets: Path, *, disposable: bool) -> None:
    """Start the machine's process; return when it runs. Raises EventError with QEMU's words."""
    system = entry.config["System"]
    binary = shutil.which(f"qemu-system-{system['Architecture']}")
    if binary is None:
        raise EventError(f"QEMU for {system['Architecture']} is not part of this simulation.")
    shutil.rmtree(sockets, ignore_errors=True)
    sockets.mkdir(parents=True, mode=0o700)
    if needs_firmware(entry.config):
        _make_variables(entry)
    argv = command_line(
        entry.config,
        data=entry.data,
        sockets=sockets,
        version=_version(binary),
        shares=entry.shares,
        disposable=disposable,
    )
    log = sockets / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [binary, *argv[1:]], stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    _await_monitor(process, sockets, log)
    monitor(sockets, "cont")
    entry.pid, entry.started = process.pid, start_time(process.pid)
    entry.disposable, entry.suspended, entry.status = disposable, False, "started"


def _await_monitor(process: subprocess.Popen[bytes], sockets: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError, ValueError):
            monitor(sockets, "query-status")
            return
        if process.poll() is not None:
            words = log.read_text(errors="replace").strip()
            raise EventError(f"QEMU exited from an error: {words}")
        if time.monotonic() > deadline:
            process.kill()
            raise EventError("QEMU does not answer.")
        time.sleep(0.02)


def _version(binary: str) -> tuple[int, int]:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"version (\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (7, 2)


def _make_variables(entry: Entry) -> None:
    """Make UEFI's variables when there are none: a qcow2 file, whatever its name says."""
    target, source = entry.data / "efi_vars.fd", VARIABLES.get(entry.config["System"]["Architecture"])
    if not target.exists() and source is not None:
        argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(source), str(target)]
        subprocess.run(argv, check=True, capture_output=True)


def end(entry: Entry, sockets: Path, *, kill: bool) -> None:
    """Pull the plug; return when the process is gone."""
    if not kill:
        with contextlib.suppress(OSError, ValueError, EventError):
            monitor(sockets, "quit")
        _await_end(entry, 5)
    if lives(entry) and entry.pid is not None:
        os.kill(entry.pid, signal.SIGKILL)
        _await_end(entry, 10)


def _await_end(entry: Entry, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while lives(entry) and time.monotonic() < deadline:
        time.sleep(0.02)


def terminals(sockets: Path) -> list[str]:
    """Return what `attach` says of each serial port that somebody can be connected to."""
    found = []
    for chardev in sorted(monitor(sockets, "query-chardev"), key=lambda item: item["label"]):
        kind, _, rest = chardev["filename"].partition(":")
        if not chardev["label"].startswith("term"):
            continue
        if kind == "pty":
            found.append(f"PTTY: {rest}")
        elif match := re.search(r"tcp:([^,]*:\d+)", chardev["filename"]):
            found.append(f"TCP: {match[1]}")
    return found


def agent(sockets: Path, command: str, **arguments: Any) -> Any:
    """Ask the guest's agent. Raises EventError."""
    try:
        with Channel(sockets / "qga", _AGENT_S) as channel:
            number = int.from_bytes(os.urandom(3), "big")
            channel.send({"execute": "guest-sync-delimited", "arguments": {"id": number}}, prefix=b"\xff")
            while channel.receive().get("return") != number:
                pass
            channel.send({"execute": command, "arguments": arguments})
            reply = channel.receive()
    except (OSError, ValueError) as error:
        raise EventError(NO_AGENT) from error
    if "error" in reply:
        raise EventError(str(reply["error"].get("desc", "")))
    return reply["return"]


def addresses(sockets: Path) -> list[str]:
    """Return the guest's addresses, version 4 first."""
    found = [
        address
        for interface in agent(sockets, "guest-network-get-interfaces")
        for address in interface.get("ip-addresses", [])
        if address["ip-address"] not in ("127.0.0.1", "::1")
    ]
    found.sort(key=lambda address: address["ip-address-type"] != "ipv4")
    return [str(address["ip-address"]) for address in found]


def execute(sockets: Path, argv: list[str], *, environment: list[str], given: bytes | None) -> tuple[int, bytes, bytes]:
    """Run a program in the guest: its exit code, stdout, stderr. Waits without end, as utmctl does."""
    arguments: dict[str, Any] = {"path": argv[0], "arg": argv[1:], "capture-output": True}
    arguments |= {"env": environment} if environment else {}
    arguments |= {"input-data": base64.b64encode(given).decode()} if given is not None else {}
    pid = agent(sockets, "guest-exec", **arguments)["pid"]
    while True:
        result = agent(sockets, "guest-exec-status", pid=pid)
        if result["exited"]:
            out, err = (base64.b64decode(result.get(key, "")) for key in ("out-data", "err-data"))
            return int(result.get("exitcode", 128 + result.get("signal", 0))), out, err
        time.sleep(0.2)


def pull(sockets: Path, path: str) -> Iterator[bytes]:
    handle = agent(sockets, "guest-file-open", path=path, mode="r")
    try:
        while True:
            part = agent(sockets, "guest-file-read", handle=handle, count=4096)
            yield base64.b64decode(part["buf-b64"])
            if part["eof"]:
                return
    finally:
        agent(sockets, "guest-file-close", handle=handle)


def push(sockets: Path, path: str, parts: Iterator[bytes]) -> None:
    handle = agent(sockets, "guest-file-open", path=path, mode="w")
    try:
        for part in parts:
            agent(sockets, "guest-file-write", handle=handle, **{"buf-b64": base64.b64encode(part).decode()})
    finally:
        agent(sockets, "guest-file-close", handle=handle)
