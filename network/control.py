"""The control of `vmkit verify`: a network of its own in which every door is open, and the probe program in it.

Runs as root of a user namespace with network, mount and process namespaces of its own, so that nothing of the computer
is touched. Reads one JSON object (`program`, `plan`, `folder`, `text`) and prints what the probe program prints, with
`unable`: the probes whose door could not be built here, and why. Standard library only.
"""

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

SSHD_PORTS = (6010, 2222)  # an X11 display, and a forward that nobody asked for
HTTP_OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


def run(*words):
    """Run a program; return what went wrong, or nothing."""
    try:
        done = subprocess.run(words, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip() or "failed"


def give_addresses(tasks):
    """Give every address that is tried to this namespace; return why not, by address."""
    refused = {}
    fault = run("ip", "link", "set", "lo", "up")
    if fault:
        sys.exit(f"no network of its own: {fault}")
    for address in sorted({address for task in tasks for address in task.get("to", ())}):
        long = "128" if ":" in address else "32"
        words = ("-6", "addr", "add", f"{address}/64" if address.startswith("fe80:") else f"{address}/{long}")
        words = words if ":" in address else words[1:]
        fault = run("ip", *words, "dev", "lo", *(["nodad"] if ":" in address else []))
        if fault:
            refused[address] = fault
    return refused


def listeners(tasks):
    """Open a door for every port that is tried, TCP and UDP, both families; serve each on a thread."""
    tcp_ports = {task["port"] for task in tasks if task["do"] == "tcp"}
    udp_ports = {task["port"] for task in tasks if task["do"] == "udp"} | {53}
    for family, everywhere in ((socket.AF_INET, ""), (socket.AF_INET6, "::")):
        for kind, ports in ((socket.SOCK_STREAM, tcp_ports), (socket.SOCK_DGRAM, udp_ports)):
            for port in ports:
                with contextlib.suppress(OSError):  # no IPv6 here: `unable` says so
                    door = socket.socket(family, kind)
                    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    door.bind((everywhere, port))
                    serve = serve_tcp if kind == socket.SOCK_STREAM else serve_udp
                    if kind == socket.SOCK_STREAM:
                        door.listen(50)
                    threading.Thread(target=serve, args=(door, port), daemon=True).start()


def serve_tcp(door, port):
    """Greet who connects."""
    while True:
        guest, _ = door.accept()
        with guest, contextlib.suppress(OSError):
            guest.sendall(b"the control's door\n")
            guest.shutdown(socket.SHUT_WR)
            guest.settimeout(1)
            while guest.recv(4096):
                pass


def serve_udp(door, port):
    """Answer: as a name service, as a TFTP server with the file, or with anything."""
    while True:
        asked, guest = door.recvfrom(2000)
        if port == 53 and len(asked) > 12:
            end = asked.index(b"\0", 12) + 5
            wants_v4 = asked[end - 4 : end - 2] == b"\0\1"
            head = asked[:2] + struct.pack(">HHHHH", 0x8180, 1, int(wants_v4), 0, 0)
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xcb\0\x71\1" if wants_v4 else b""
            door.sendto(head + asked[12:end] + record, guest)
        else:
            door.sendto(b"\0\3\0\1the control's file" if port == 69 else b"the control's door", guest)


def serve_proxy(port):
    """Accept every request, whatever it is, and answer whatever comes after."""
    door = socket.create_server(("127.0.0.1", port), backlog=200)

    def visit(guest):
        with guest, contextlib.suppress(OSError):
            guest.recv(8192)
            guest.sendall(HTTP_OK)
            guest.settimeout(5)
            if guest.recv(8192):
                guest.sendall(b"the control's door")

    def accept():
        while True:
            guest, _ = door.accept()
            threading.Thread(target=visit, args=(guest,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def pretend_sshd():
    """Leave a process that is called as sshd is, with the sockets it would have for agent, X11 and a forward."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            Path("/proc/self/comm").write_text("sshd-session")
            kept = [socket.create_server(("127.0.0.1", port)) for port in SSHD_PORTS]
            agent = socket.socket(socket.AF_UNIX)
            agent.bind("agent.sock")
            agent.listen()
            os.write(writer, b"ready" if kept else b"")
            time.sleep(600)  # it dies with the namespace
        finally:
            os._exit(0)
    os.close(writer)
    if os.read(reader, 10) != b"ready":
        sys.exit("no process that looks like sshd could be made")


def pretend_files(folder, text):
    """Write what the kernel would show of a shared folder, serial channels and a talkative firmware."""
    for path, content in {
        "proc/mounts": "share /mnt/share 9p rw 0 0\n",
        "proc/cmdline": "quiet\n",
        "sys/class/virtio-ports/vport0p1/name": "com.redhat.spice.0\n",
        "sys/class/dmi/id/product_serial": f"{text}\n",
    }.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def name_service(folder):
    """Let this namespace's own programs ask this namespace's own name service."""
    for name, content in (("resolv.conf", "nameserver 127.0.0.1\n"), ("nsswitch.conf", "hosts: files dns\n")):
        (folder / name).write_text(content)
        fault = run("mount", "--bind", str(folder / name), f"/etc/{name}")
        if fault and name == "resolv.conf":
            return fault
    return ""


def main():
    """Build the doors, run the program, say what could not be built."""
    given = json.load(sys.stdin)
    plan, folder = given["plan"], Path(given["folder"])
    tasks = plan["tasks"]
    os.chdir(folder)
    pretend_sshd()
    pretend_files(folder, given["text"])
    refused = give_addresses(tasks)
    unable = {
        task["id"]: refused[task["to"][0]] for task in tasks if task.get("to") and set(task["to"]) <= set(refused)
    }
    fault = name_service(folder)
    if fault:
        unable |= {task["id"]: fault for task in tasks if task["do"] == "lookup"}
    listeners(tasks)
    serve_proxy(plan["door"])
    plan |= {"root": str(folder), "interfaces": ["lo"], "routes": False, "pace": 0}
    source = f"PLAN = {json.dumps(plan)!r}\n{given['program']}"
    done = subprocess.run([sys.executable, "-I", "-"], input=source.encode(), capture_output=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.decode("utf-8", "replace")[-500:] or f"the program exited with {done.returncode}")
    print(json.dumps(json.loads(done.stdout) | {"unable": unable}))


main()
