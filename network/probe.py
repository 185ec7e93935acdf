"""Try every way out of this machine and print what was seen: one JSON object in, as PLAN, one JSON object out.

`vmkit verify` writes `PLAN = "..."` before this text and gives it to `python3 -I -`, as root in the guest and in the
control. Standard library only, Python 3.9 and later. Nothing secret of the host is in the plan.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

MAX_SAID = 300
MAX_LIST = 2000
LISTEN, UNIX_LISTENING = "0A", 0x10000  # in the kernel's tables
PACE_S = 0.04  # between two requests to the proxy: what comes faster than 50 a second is not logged one by one
AGAIN_S = 0.7
METRIC = "4242"  # of the routes made for the time of the run: the last choice of everybody else

plan = json.loads(globals().get("PLAN", "{}"))
seconds = float(plan.get("seconds", 4))
root = Path(plan.get("root", "/"))


def interfaces():
    """Return the network cards."""
    named = plan.get("interfaces")
    return named or sorted(name for _, name in socket.if_nameindex() if name != "lo")


def ip(*words):
    """Run `ip`; return what went wrong, or nothing."""
    try:
        done = subprocess.run(["ip", *words], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.decode("utf-8", "replace").strip()
    return "" if done.returncode == 0 or "File exists" in said or "already assigned" in said else said or "failed"


@contextlib.contextmanager
def routes():
    """Give the kernel a way to send everything, as root in a hostile guest would; yield what could not be done."""
    undo, failed = [], []
    if plan.get("routes", True):
        for card in interfaces():
            fault = ip("link", "set", card, "up")
            addresses = subprocess.run(
                ["ip", "-4", "-o", "addr", "show", "dev", card], capture_output=True, check=False
            )
            if not addresses.stdout.strip():
                fault = fault or ip("addr", "add", "10.0.2.15/24", "dev", card)
                undo.append(("addr", "del", "10.0.2.15/24", "dev", card))
            words = ("default", "via", plan["gateway"], "dev", card, "onlink", "metric", METRIC)
            fault = fault or ip("route", "add", *words)
            undo.append(("route", "del", *words))
            ip("-6", "addr", "add", "fec0::4242/64", "dev", card, "nodad")
            ip("-6", "route", "add", "default", "via", "fe80::2", "dev", card, "metric", METRIC)
            undo += [
                ("-6", "route", "del", "default", "via", "fe80::2", "dev", card, "metric", METRIC),
                ("-6", "addr", "del", "fec0::4242/64", "dev", card),
            ]
            failed += [f"{card}: {fault}"] if fault else []
    try:
        yield "; ".join(failed)
    finally:
        for words in reversed(undo):
            ip(*words)


def targets(task):
    """Yield family, socket address and text of each place a task names."""
    port = task.get("port", 0)
    for address in task["to"]:
        if ":" not in address:
            yield socket.AF_INET, (address, port), address
        elif address.lower().startswith("fe80:"):
            for card in interfaces():
                yield socket.AF_INET6, (address, port, 0, socket.if_nametoindex(card)), f"{address}%{card}"
        else:
            yield socket.AF_INET6, (address, port, 0, 0), address


def tcp(task):
    """Connect: that a connection opens is enough."""
    said = "nowhere to go"
    for family, target, text in targets(task):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as door:
                door.settimeout(seconds)
                door.connect(target)
                reply = b""
                with contextlib.suppress(OSError):
                    door.sendall(bytes.fromhex(task.get("say", "")))
                    reply = door.recv(200)
                return "open", f"{text} port {task['port']} took the connection: {reply!r}"
        except OSError as error:
            said = f"{text} port {task['port']}: {error.strerror or error}"
    return "closed", said


def udp(task):
    """Send one datagram: an answer is needed, and with `want` one that begins so."""
    said, want = "nowhere to go", bytes.fromhex(task.get("want", ""))
    for family, target, text in targets(task):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as door:
                reply = next(replies(door, bytes.fromhex(task["say"]), target), None)
            if reply is None:
                raise socket.timeout("no answer")
        except OSError as error:
            said = f"{text} port {task['port']}: {error.strerror or error}"
            continue
        if reply.startswith(want):
            return "open", f"{text} port {task['port']} answered: {reply[:100]!r}"
        said = f"{text} port {task['port']} answered something else: {reply[:100]!r}"
    return "closed", said


def icmp(task):
    """Ping."""
    said = "nowhere to go"
    for number, (family, target, text) in enumerate(targets(task)):
        six = family == socket.AF_INET6
        ask, answer = (128, 129) if six else (8, 0)
        mark = os.urandom(16)
        packet = struct.pack(">BBHHH", ask, 0, 0, os.getpid() & 0xFFFF, number) + mark
        if not six:
            packet = packet[:2] + struct.pack(">H", checksum(packet)) + packet[4:]
        protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
        try:
            with socket.socket(family, socket.SOCK_RAW, protocol) as door:
                for reply in replies(door, packet, target):
                    kind = reply[0] if six else reply[(reply[0] & 15) * 4]
                    if kind == answer and mark in reply:
                        return "open", f"{text} answered the ping"
                said = f"{text}: no answer"
        except OSError as error:
            said = f"{text}: {error.strerror or error}"
    return "closed", said


def replies(door, packet, target):
    """Yield what comes until the time is up; ask again now and then, since a kernel may drop a ping."""
    end, again = time.monotonic() + seconds, 0
    while (now := time.monotonic()) < end:
        if now >= again:
            door.sendto(packet, target)
            again = now + AGAIN_S
        door.settimeout(max(0.01, min(again, end) - now))
        with contextlib.suppress(socket.timeout):
            yield door.recv(2000)


def checksum(data):
    """Return the Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def lookup(task):
    """Ask the system's resolver."""
    said = ""
    for name in task["names"]:
        try:
            found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
        except OSError as error:
            said = f"{name}: {error.strerror or error}"
        else:
            return "open", f"{name} has the address {found[0][4][0]}"
    return "closed", said


def proxy(task):
    """Send a request to the proxy, and more once it says 200."""
    time.sleep(max(0, task["at"] - time.monotonic()))
    try:
        door = socket.create_connection(("127.0.0.1", plan["door"]), 2 * seconds)
    except OSError as error:
        return "failed", f"no proxy at port {plan['door']}: {error.strerror or error}"
    with door:
        head = b""
        try:
            door.settimeout(2 * seconds)
            door.sendall(bytes.fromhex(task["say"][0]))
            while b"\r\n\r\n" not in head and len(head) < 8192:
                piece = door.recv(4096)
                if not piece:
                    break
                head += piece
            status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
            if not status or status[1] != b"200" or len(task["say"]) == 1:
                reason = re.search(rb"(?im)^x-vmkit-reason: ([^\r\n]*)", head)
                said = (reason[1] if reason else head[:100]).decode("utf-8", "replace")
                code = status[1].decode() if status else "no HTTP"
                is_open = bool(status) and (task.get("any", False) or code == "200")
                return "open" if is_open else "closed", f"{code}: {said}"
            door.sendall(bytes.fromhex(task["say"][1]))
            reply = door.recv(200)
        except OSError as error:
            reset = isinstance(error, ConnectionError)
            return "closed" if reset else "failed", f"{error.strerror or error} after {head[:60]!r}"
    if not reply or reply[0] == 21:  # a TLS alert
        return "closed", f"the tunnel was closed: {reply[:20].hex()}"
    return "open", f"the tunnel carried it: {reply[:60]!r}"


once = threading.Lock()


def sshd(task):
    """List where sshd listens in the name of a client: forwarded ports, agents, X11."""
    with once:  # three probes ask, and an emulated guest looks for seconds
        return "listed", "", sshd_sockets()


@functools.cache
def sshd_sockets():
    """Return the sockets at which processes called as sshd listen."""
    inodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().startswith("sshd"):
                for link in (process / "fd").iterdir():
                    with contextlib.suppress(OSError):
                        inodes.add(str(link.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for fields in table_of(table):
            if fields[3] == LISTEN and f"socket:[{fields[9]}]" in inodes:
                address, port = fields[1].split(":")
                found.append(f"tcp {address_of(address)} {int(port, 16)}")
    found += [
        "unix " + (fields[7] if len(fields) > 7 else "without a name")
        for fields in table_of("unix")
        if int(fields[3], 16) & UNIX_LISTENING and f"socket:[{fields[6]}]" in inodes
    ]
    return found


def table_of(name):
    """Return the rows of one of the kernel's tables of sockets."""
    try:
        lines = (Path("/proc/net") / name).read_text(errors="replace").splitlines()[1:]
    except OSError:
        return []
    return [line.split() for line in lines if len(line.split()) > 6]


def address_of(text):
    """Return an address from the kernel's hexadecimal words, which are in this computer's byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return socket.inet_ntop(
        socket.AF_INET6 if len(words) > 1 else socket.AF_INET, struct.pack(f"={len(words)}I", *words)
    )


def environment(task):
    """List names, and digests of values, of what every process was given."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            for pair in path.read_bytes()[: 1 << 20].split(b"\0"):
                name, sign, value = pair.partition(b"=")
                if sign and len(name) < 200:
                    found.add(f"{name.decode('utf-8', 'replace')} {hashlib.sha256(value).hexdigest()[:32]}")
    return "listed", "", sorted(found)


def shares(task):
    """List mounts of foreign kinds, and the devices that would carry them."""
    found = []
    with contextlib.suppress(OSError):
        for line in (root / "proc/mounts").read_text(errors="replace").splitlines():
            fields = line.split()
            if len(fields) > 2:
                found.append(f"mount {fields[2]} {fields[1]}")
    for path in sorted((root / "sys/bus/virtio/devices").glob("*/device")):
        with contextlib.suppress(OSError):
            found.append(f"virtio {path.read_text().strip()}")
    return "listed", "", [*found, *ports()]


def ports():
    """Return the names of the hypervisor's serial channels."""
    found = []
    for path in sorted((root / "sys/class/virtio-ports").glob("*/name")):
        with contextlib.suppress(OSError):
            found.append(f"port {path.read_text(errors='replace').strip()}")
    return found


def channels(task):
    """List the hypervisor's serial channels."""
    return "listed", "", ports()


def smbios(task):
    """List the texts that the hypervisor gave this machine."""
    found = []
    places = [*(root / "sys/class/dmi/id").glob("*"), root / "proc/cmdline"]
    places += [*(root / "sys/firmware/qemu_fw_cfg/by_name/opt").glob("**/raw"), root / "sys/firmware/dmi/tables/DMI"]
    for path in sorted(places):
        with contextlib.suppress(OSError):
            if path.is_file():
                with path.open("rb") as file:
                    texts = re.findall(rb"[\x20-\x7e]{4,}", file.read(1 << 16))
                found += [f"{path.name}: {text.decode()}" for text in texts]
    return "listed", "", found


KINDS = {
    "tcp": tcp, "udp": udp, "icmp": icmp, "lookup": lookup, "proxy": proxy, "sshd": sshd, "environment": environment,
    "shares": shares, "channels": channels, "smbios": smbios,
}  # fmt: skip


def answer(task):
    """Do one task; a flaw in here is an answer too."""
    try:
        seen, said, *found = KINDS[task["do"]](task)
    except Exception as error:  # one probe must not take the others with it
        seen, said, found = "failed", f"{type(error).__name__}: {error}", []
    return {"seen": seen, "said": said[:MAX_SAID], "list": [text[:MAX_SAID] for text in (found or [[]])[0][:MAX_LIST]]}


def main():
    """Run the plan, all at once but for the proxy, which gets a few at a time."""
    tasks = plan["tasks"]
    proxied = [task for task in tasks if task["do"] == "proxy"]
    pool = concurrent.futures.ThreadPoolExecutor
    with routes() as fault, pool(max(1, len(tasks))) as many, pool(8) as few:
        begun = time.monotonic()
        for number, task in enumerate(proxied):
            task["at"] = begun + number * plan.get("pace", PACE_S)
        running = {task["id"]: (few if task in proxied else many).submit(answer, task) for task in tasks}
        answers = {name: future.result() for name, future in running.items()}
    print(json.dumps({"schema": 1, "fault": fault[:MAX_SAID], "answers": answers}))


main()
