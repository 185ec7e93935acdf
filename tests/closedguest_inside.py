"""Runs in the namespaces of `closedguest`: a port to the proxy, the removed controls, then the guest's command."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    given = json.loads(sys.argv[1])
    program = sys.stdin.buffer.read()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/sys"], check=True)
    show("/sys/class/virtio-ports/vport0p1/name", "org.qemu.guest_agent.0")
    show("/sys/class/dmi/id/product_name", "Standard PC (Q35 + ICH9, 2009)")
    removed = set(given["removed"])
    if "door" not in removed:
        door = socket.create_server(("127.0.0.1", given["door"]), backlog=100)
        threading.Thread(target=relay_all, args=(door, given["socket"]), daemon=True).start()
    for name in removed - {"door"}:
        REMOVED[name](program)
    done = subprocess.run(["sh", "-c", given["wire"]], input=program, check=False)
    sys.exit(done.returncode)


def relay_all(door: socket.socket, path: str) -> None:
    while True:
        guest, _ = door.accept()
        threading.Thread(target=relay, args=(guest, path), daemon=True).start()


def relay(guest: socket.socket, path: str) -> None:
    proxy = socket.socket(socket.AF_UNIX)
    with guest, proxy, contextlib.suppress(OSError):
        proxy.connect(path)
        other = threading.Thread(target=carry, args=(proxy, guest))
        other.start()
        carry(guest, proxy)
        other.join()


def carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def show(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text + "\n")


def card(program: bytes) -> None:
    """Let the gateway answer."""
    subprocess.run(["ip", "addr", "add", "10.0.2.2/32", "dev", "lo"], check=True)
    door = socket.create_server(("10.0.2.2", 80))
    threading.Thread(target=lambda: [door.accept() for _ in range(9)], daemon=True).start()


def resolver(program: bytes) -> None:
    """Answer every name with an address."""
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind(("127.0.0.1", 53))

    def serve() -> None:
        while True:
            asked, guest = door.recvfrom(2000)
            end = asked.index(b"\0", 12) + 5
            count = int(asked[end - 4 : end - 2] == b"\0\1")
            head = asked[:2] + struct.pack(">HHHHH", 0x8180, 1, count, 0, 0) + asked[12:end]
            door.sendto(head + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xcb\0\x71\1" * count, guest)

    threading.Thread(target=serve, daemon=True).start()
    Path("/sys/resolv.conf").write_text("nameserver 127.0.0.1\n")
    Path("/sys/nsswitch.conf").write_text("hosts: files dns\n")
    for name in ("resolv.conf", "nsswitch.conf"):
        subprocess.run(["mount", "--bind", f"/sys/{name}", f"/etc/{name}"], check=True)


def sshd(*ports: int, agent: str = "") -> None:
    """Leave a process that looks like sshd, with these sockets."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        Path("/proc/self/comm").write_text("sshd-session")
        kept = [socket.create_server(("127.0.0.1", port)) for port in ports]
        if agent:
            kept.append(socket.socket(socket.AF_UNIX))
            kept[-1].bind(agent)
            kept[-1].listen()
        os.write(writer, b"x")
        time.sleep(300)
    os.read(reader, 1)


REMOVED = {
    "card": card,
    "resolver": resolver,
    "agent": lambda _: sshd(agent="\0vmkit-test-agent"),
    "x11": lambda _: sshd(6010),
    "forwards": lambda _: sshd(8022),
    "shares": lambda _: show("/sys/bus/virtio/devices/virtio7/device", "0x0009"),
    "webdav": lambda _: show("/sys/class/virtio-ports/vport0p2/name", "org.spice-space.webdav.0"),
    "clipboard": lambda _: show("/sys/class/virtio-ports/vport0p2/name", "com.redhat.spice.0"),
    "smbios": lambda _: show("/sys/class/dmi/id/product_serial", "/home/somebody/machines/a.utm"),
}


main()
