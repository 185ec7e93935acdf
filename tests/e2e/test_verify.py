"""`vmkit verify` on a default machine: every wall holds; each control removed by hand turns its own row red, no other."""

import contextlib
import dataclasses
import json
import plistlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.harness import Lab, eventually
from tests.keeperworld import Kept, keeper_inside
from tests.removed import REMOVED, without
from vmkit.drivers.qmp import Qmp
from vmkit.errors import ToolFailed
from vmkit.host.paths import Paths
from vmkit.machines.store import MachineStore
from vmkit.network import keeper as keeper_module
from vmkit.network.dial import resolve
from vmkit.network.selftest import own_addresses, resolving
from vmkit.workflows.keep import Keeper

pytestmark = pytest.mark.vm

NAME = "walls"
CANARY = ("VMKIT_TEST_CANARY", "a value that only this computer has")


@pytest.fixture(scope="module")
def walls(lab: Lab) -> Iterator[Lab]:
    lab.run("create", NAME, "-t", "debian", "--egress", "strict", "--cpus", "2", "--memory", "1G", "--disk", "8G")
    yield lab
    lab.run("delete", "--force", NAME)


@pytest.fixture(autouse=True)
def _nothing_left_of_a_failed_test() -> None:
    """Keep the machine of this file, which the other files' tests would clear away."""


def verify(lab: Lab, *, code: int | None = None, env: dict[str, str] | None = None) -> dict[str, Any]:
    done = lab.run("verify", NAME, "--json", code=code, env=env)
    assert done.stdout, done.stderr.decode()
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict


def rows(verdict: dict[str, Any]) -> dict[str, str]:
    """Return the rows that are not green."""
    return {wall["id"]: wall["state"] for wall in verdict["walls"] if wall["state"] != "holds"}


def told(verdict: dict[str, Any]) -> str:
    return "\n".join(
        f"{one['wall']}/{one['id']}: {one['observed']} (control {one['control']}): {one['evidence']}"
        for one in verdict["probes"]
        if not one["passed"]
    )


def root(lab: Lab, script: str) -> str:
    return lab.exec(NAME, "sudo", "sh", "-c", script)


def opened(lab: Lab) -> MachineStore:
    return MachineStore(Paths(config=lab.home, data=lab.home, cache=lab.home / "cache"))


def test_every_wall_of_a_default_machine_holds_and_nothing_of_the_proof_stays(walls: Lab) -> None:
    before = walls.json("net", "show", NAME), walls.exec(NAME, "ip", "route")

    verdict = verify(walls)

    assert rows(verdict) == {}, told(verdict)
    assert verdict["passed"]
    assert verdict["control"] == {"shown": True, "reason": None, "broken": []}
    assert all(probe["control"] == "open" for probe in verdict["probes"])
    assert len(verdict["walls"]) == 20
    assert (walls.json("net", "show", NAME), walls.exec(NAME, "ip", "route")) == before
    assert "fec0::4242" not in walls.exec(NAME, "ip", "-6", "addr")


# A process that is called as sshd is, with a socket that the real one would have for a client.
SSHD = """
cat >/run/pretend.py <<'END'
import os, socket, sys, time
open("/proc/self/comm", "w").write("sshd-session")
if sys.argv[1].isdigit():
    kept = socket.create_server(("127.0.0.1", int(sys.argv[1])))
else:
    kept = socket.socket(socket.AF_UNIX); kept.bind(sys.argv[1]); kept.listen()
print("ready", flush=True)
time.sleep(600)
END
mkfifo /run/pretend.fifo
nohup python3 /run/pretend.py WHAT >/run/pretend.fifo 2>/dev/null </dev/null &
echo $! >/run/pretend.pid
head -n 1 /run/pretend.fifo
"""
SSHD_AWAY = "kill $(cat /run/pretend.pid); rm -f /run/pretend.* /run/pretend-agent"
NAMES = """
cp -P /etc/resolv.conf /run/resolv.kept
rm /etc/resolv.conf
echo nameserver 127.0.0.1 >/etc/resolv.conf
cat >/run/names.py <<'END'
import socket, struct
door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
door.bind(("127.0.0.1", 53))
open("/run/names.ready", "w")
while True:
    asked, guest = door.recvfrom(2000)
    end = asked.index(0, 12) + 5
    count = int(asked[end - 4:end - 2] == b"\\0\\1")
    head = asked[:2] + struct.pack(">HHHHH", 0x8180, 1, count, 0, 0) + asked[12:end]
    door.sendto(head + b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\xcb\\0\\x71\\1" * count, guest)
END
nohup python3 /run/names.py >/dev/null 2>&1 </dev/null &
echo $! >/run/names.pid
while [ ! -e /run/names.ready ]; do sleep 0.1; done
"""
NAMES_AWAY = "kill $(cat /run/names.pid); rm -f /run/names.* /etc/resolv.conf; mv /run/resolv.kept /etc/resolv.conf"
TEXT = "/sys/class/dmi/id/product_serial"

IN_GUEST = {
    "name-service": (NAMES, NAMES_AWAY),
    "ssh-agent": (SSHD.replace("WHAT", "/run/pretend-agent"), SSHD_AWAY),
    "environment": (
        f"nohup env '{CANARY[0]}={CANARY[1]}' sleep 600 >/dev/null 2>&1 </dev/null & echo $! >/run/canary.pid",
        "kill $(cat /run/canary.pid)",
    ),
    "smbios": (
        f"echo /home/somebody/machines/a.utm >/run/text && mount --bind /run/text {TEXT}",
        f"umount {TEXT}",
    ),
}


def test_controls_removed_in_the_guest_turn_their_own_rows_red(walls: Lab) -> None:
    """One by one they are in tests/integration/test_verify.py, without a machine: each run costs an emulated guest."""
    with contextlib.ExitStack() as stack:
        for remove, restore in IN_GUEST.values():
            root(walls, remove)
            stack.callback(root, walls, restore)
        verdict = verify(walls, code=6, env=dict([CANARY]))

    assert rows(verdict) == dict.fromkeys(IN_GUEST, "leaks"), told(verdict)


@contextlib.contextmanager
def monitor(lab: Lab) -> Iterator[Qmp]:
    machines = opened(lab)
    with Qmp(machines.vm(machines.open(NAME)).sockets / "qmp.sock", timeout_s=30) as qmp:
        yield qmp


CHANNEL = "org.spice-space.webdav.0"


@contextlib.contextmanager
def shared_folders(lab: Lab) -> Iterator[None]:
    with monitor(lab) as qmp:
        qmp.execute("chardev-add", id="more", backend={"type": "null", "data": {}})
        qmp.execute("device_add", driver="virtserialport", id="moreport", chardev="more", name=CHANNEL)
    try:
        eventually(lambda: CHANNEL in root(lab, "cat /sys/class/virtio-ports/*/name"), "the guest sees the channel")
        yield
    finally:
        with monitor(lab) as qmp:
            qmp.execute("device_del", id="moreport")
            eventually(lambda: _removed(qmp), "the channel goes")


@contextlib.contextmanager
def another_address(lab: Lab) -> Iterator[None]:
    port = lab.json("info", NAME)["machine"]["address"]["port"]
    rule = f"hostfwd_add net0 tcp:{own_addresses()[0]}:{port}-:22"
    with monitor(lab) as qmp:
        qmp.execute("human-monitor-command", **{"command-line": rule})
    try:
        yield
    finally:
        with monitor(lab) as qmp:
            remove = rule.replace("hostfwd_add", "hostfwd_remove").rpartition("-")[0]
            qmp.execute("human-monitor-command", **{"command-line": remove})


@contextlib.contextmanager
def log_for_others(lab: Lab) -> Iterator[None]:
    log = opened(lab).open(NAME).folder / "network.jsonl"
    log.chmod(0o666)
    try:
        yield
    finally:
        log.chmod(0o600)


def _removed(qmp: Qmp) -> bool:
    try:
        qmp.execute("chardev-remove", id="more")
    except ToolFailed:
        return False
    return True


def test_controls_removed_on_this_computer_turn_their_own_rows_red(walls: Lab) -> None:
    with shared_folders(walls), another_address(walls), log_for_others(walls):
        verdict = verify(walls, code=6)

    assert rows(verdict) == dict.fromkeys(("shared-folders", "forward", "host-files"), "leaks"), told(verdict)


@contextlib.contextmanager
def own_keeper(lab: Lab) -> Iterator[None]:
    """Keep the machine from inside this process."""
    machines = opened(lab)
    machine = machines.open(NAME)
    Keeper(machine, machines=machines).end()
    with keeper_inside(Kept(home=lab.home, sshd=None, machines=machines, machine=machine), resolve=resolving(resolve)):
        yield


@pytest.mark.parametrize(
    "name", ["an unlisted name is allowed", "private addresses are allowed", "the name in the hello is not compared"]
)
def test_a_control_removed_from_the_keeper_turns_its_own_row_red(walls: Lab, name: str) -> None:
    removed = REMOVED[name]
    parse = keeper_module.parse_policy
    keeper_module.parse_policy = lambda *words, **named: removed.policy(parse(*words, **named))
    try:
        with without(removed), own_keeper(walls):
            verdict = verify(walls, code=6)
    finally:
        keeper_module.parse_policy = parse

    assert rows(verdict) == {removed.wall: "leaks"}, told(verdict)


def test_a_machine_that_is_to_have_no_way_out_has_no_door(walls: Lab) -> None:
    machines = opened(walls)
    machine = machines.open(NAME)
    machines.save(dataclasses.replace(machine, egress="airgap"))
    Keeper(machine, machines=machines).end()
    try:
        verdict = verify(walls, code=0)
    finally:
        machines.save(machine)
        Keeper(machine, machines=machines).end()

    door = [probe for probe in verdict["probes"] if probe["wall"] == "door"]
    assert door
    assert all(probe["expected"] == probe["observed"] == "closed" for probe in door), told(verdict)


@pytest.mark.long
def test_a_network_card_that_is_not_isolated_turns_its_own_row_red(walls: Lab) -> None:
    """The last one: it boots the guest again."""
    walls.run("stop", NAME)
    bundle = opened(walls).open(NAME).bundle / "config.plist"
    kept = bundle.read_bytes()
    config = plistlib.loads(kept)
    config["Network"][0]["IsolateFromHost"] = False
    bundle.write_bytes(plistlib.dumps(config))
    try:
        walls.run("start", NAME)
        verdict = verify(walls, code=6)
    finally:
        walls.run("stop", NAME, code=None)
        bundle.write_bytes(kept)

    assert rows(verdict) == {"network-card": "leaks"}, told(verdict)
    open_probes = {
        one["id"] for one in verdict["probes"] if one["observed"] == "open" and one["wall"] == "network-card"
    }
    assert {"host-tcp", "host-udp", "host-listeners"} <= open_probes, told(verdict)
