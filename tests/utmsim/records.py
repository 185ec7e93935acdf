"""The configuration as scripts see it, and what `update configuration` does with one (reference section 4.2)."""

import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.utmsim.faults import EventError
from tests.utmsim.registry import Entry, new_uuid

Table = dict[str, Any]
_MIB = 1 << 20
# What a script may write instead of the name of an enumerator: its four characters.
_CODES: dict[Any, str] = {
    "TcPp": "TCP", "UdPp": "UDP", "EmUd": "emulated", "ShRd": "shared", "HoSt": "host", "BrGd": "bridged",
    "SmOf": "none", "SmWv": "WebDAV", "SmVs": "VirtFS", "PtTy": "ptty", "TcP ": "tcp",
}  # fmt: skip
_PORTS = {"Ptty": "ptty", "TcpServer": "tcp"}


def record(entry: Entry) -> Table:
    """Return the record of a machine, its keys as JavaScript for Automation writes them."""
    config = entry.config
    system, information = config["System"], config["Information"]
    common = {
        "name": information["Name"],
        "icon": information.get("Icon", ""),
        "notes": information.get("Notes", ""),
        "memory": system["MemorySize"],
        "cpuCores": system["CPUCount"],
        "drives": [_drive(drive, entry) for drive in config["Drive"]],
        "networkInterfaces": [_network(i, network) for i, network in enumerate(config["Network"])],
        "serialPorts": [_serial(i, serial) for i, serial in enumerate(config["Serial"])],
    }
    if not entry.is_qemu:
        shares = [{"index": i, "readOnly": False} for i, _ in enumerate(entry.shares)]
        displays = [
            {"index": i, "dynamicResolution": display.get("DynamicResolution", True)}
            for i, display in enumerate(config["Display"])
        ]
        return common | {"directoryShares": shares, "displays": displays}
    return common | {
        "architecture": system["Architecture"],
        "machine": system["Target"],
        "hypervisor": config["QEMU"]["Hypervisor"],
        "uefi": config["QEMU"]["UEFIBoot"],
        "directoryShareMode": config["Sharing"]["DirectoryShareMode"].replace("None", "none"),
        "displays": [
            {
                "index": i,
                "hardware": display["Hardware"],
                "dynamicResolution": display["DynamicResolution"],
                "nativeResolution": display["NativeResolution"],
                "upscalingFilter": display["UpscalingFilter"].lower(),
                "downscalingFilter": display["DownscalingFilter"].lower(),
            }
            for i, display in enumerate(config["Display"])
        ],
        "qemuAdditionalArguments": [{"argumentString": text} for text in config["QEMU"]["AdditionalArguments"]],
    }


def _drive(drive: Table, entry: Entry) -> Table:
    removable = "ImageName" not in drive
    result: Table = {"id": drive["Identifier"], "removable": removable}
    if entry.is_qemu:
        result["interface"] = drive["Interface"].replace("None", "none")
    if not removable:
        file = entry.data / drive["ImageName"]
        result["hostSize"] = file.stat().st_size // _MIB if file.exists() else 0
    return result


def _network(index: int, network: Table) -> Table:
    result = {
        "index": index,
        "mode": network["Mode"].lower(),
        "address": network["MacAddress"],
        "hostInterface": network.get("BridgeInterface", ""),
    }
    if "Hardware" not in network:
        return result
    forwards = [
        {
            "protocol": forward["Protocol"],
            "hostAddress": forward.get("HostAddress", ""),
            "hostPort": forward["HostPort"],
            "guestAddress": forward.get("GuestAddress", ""),
            "guestPort": forward["GuestPort"],
        }
        for forward in network["PortForward"]
    ]
    return result | {"hardware": network["Hardware"], "portForwards": forwards}


def _serial(index: int, serial: Table) -> Table:
    result = {"index": index, "interface": _PORTS.get(serial["Mode"], "unavailable")}
    if "Target" in serial:
        result |= {"hardware": serial.get("Hardware", ""), "port": serial.get("TcpPort", 0)}
    return result


def update(entry: Entry, given: Table) -> None:
    """Change a configuration as `update configuration` does. The caller saves. Raises EventError."""
    config = entry.config
    information, system = config["Information"], config["System"]
    _scalar(given, "name", information, "Name")
    _scalar(given, "notes", information, "Notes")
    if given.get("icon"):
        information |= {"Icon": given["icon"], "IconCustom": False}
    _scalar(given, "memory", system, "MemorySize")
    _scalar(given, "cpuCores", system, "CPUCount")
    if entry.is_qemu:
        _update_qemu(config, given)
    for key, name, matched, change, make in (
        ("drives", "Drive", "id", _change_drive, _make_drive),
        ("networkInterfaces", "Network", "index", _change_network, _make_network),
        ("serialPorts", "Serial", "index", _change_serial, _make_serial),
        ("displays", "Display", "index", _change_display, _make_display),
    ):
        if key in given:
            config[name] = _replaced(entry, config[name], given[key], matched, change, make)


def _scalar(given: Table, key: str, table: Table, name: str) -> None:
    """Take a value over when there is one: an empty one cannot be set."""
    value = given.get(key)
    if value not in (None, "", 0) or isinstance(value, bool):
        if type(value) is not type(table.get(name, value)):
            raise EventError(f"Can\u2019t make {value!r} into the type of {key}.", -1700)
        table[name] = value


def _update_qemu(config: Table, given: Table) -> None:
    system, qemu = config["System"], config["QEMU"]
    before = system["Architecture"], system["Target"]
    _scalar(given, "architecture", system, "Architecture")
    _scalar(given, "machine", system, "Target")
    if before != (system["Architecture"], system["Target"]):
        config |= {"Display": [], "Drive": [], "Network": [], "Serial": [], "Sound": []}
    _scalar(given, "hypervisor", qemu, "Hypervisor")
    _scalar(given, "uefi", qemu, "UEFIBoot")
    if mode := given.get("directoryShareMode"):
        config["Sharing"]["DirectoryShareMode"] = str(_CODES.get(mode, mode)).replace("none", "None")
    if "qemuAdditionalArguments" in given:
        qemu["AdditionalArguments"] = [item["argumentString"] for item in given["qemuAdditionalArguments"]]


def _replaced(
    entry: Entry,
    old: list[Table],
    given: list[Table],
    matched: str,
    change: Callable[[Entry, Table, Table], None],
    make: Callable[[Entry, Table], Table],
) -> list[Table]:
    """Change the elements that are mentioned, add those without a number, drop all others."""
    kept: dict[int, Table] = {}
    new = []
    for item in given:
        if item.get(matched) in (None, ""):
            new.append(make(entry, item))
            change(entry, new[-1], item)
            continue
        if matched == "id":
            position = next((i for i, drive in enumerate(old) if drive["Identifier"] == item["id"]), None)
            if position is None:
                raise EventError(f"Identifier \u2018{item['id']}\u2019 cannot be found.")
        else:
            position = int(item["index"])
            if not 0 <= position < len(old):
                raise EventError(f"The index {position} cannot be found.")
        kept[position] = old[position]
        change(entry, old[position], item)
    return [kept[i] for i in sorted(kept)] + new


def _make_drive(entry: Entry, given: Table) -> Table:
    drive: Table = {"Identifier": new_uuid(), "ReadOnly": bool(given.get("removable"))}
    if entry.is_qemu:
        interface = "VirtIO" if entry.config["System"]["Target"].startswith("virt") else "IDE"
        kind = "CD" if given.get("removable") else "Disk"
        drive |= {"ImageType": kind, "Interface": interface, "InterfaceVersion": 1}
    if not given.get("removable"):
        drive["ImageName"] = _make_image(entry, drive["Identifier"], given)
    return drive


def _make_image(entry: Entry, identifier: str, given: Table) -> str:
    form = "qcow2" if entry.is_qemu and not given.get("raw") else "raw"
    suffix = ".qcow2" if form == "qcow2" else ".img"
    entry.data.mkdir(exist_ok=True)
    if source := given.get("source"):
        name = Path(source).with_suffix(suffix).name
        _run("qemu-img", "convert", "-O", form, str(source), str(entry.data / name))
        return name
    name = identifier + suffix
    _run("qemu-img", "create", "-q", "-f", form, str(entry.data / name), f"{int(given.get('guestSize', 0))}M")
    return name


def _change_drive(_entry: Entry, drive: Table, given: Table) -> None:
    if given.get("interface"):
        drive["Interface"] = given["interface"].replace("none", "None")


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EventError(done.stderr.strip())


def _make_network(entry: Entry, _given: Table) -> Table:
    octets = secrets.token_bytes(6)
    mac = ":".join(f"{octet:02X}" for octet in bytes([octets[0] & 0xFC | 0x02]) + octets[1:])
    if not entry.is_qemu:
        return {"Mode": "Shared", "MacAddress": mac}
    network = {"Mode": "Shared", "Hardware": "virtio-net-pci", "MacAddress": mac}
    return network | {"IsolateFromHost": False, "PortForward": []}


def _change_network(entry: Entry, network: Table, given: Table) -> None:
    if mode := given.get("mode"):
        network["Mode"] = str(_CODES.get(mode, mode)).capitalize()
    for key, name in (("hardware", "Hardware"), ("address", "MacAddress"), ("hostInterface", "BridgeInterface")):
        if given.get(key) and (entry.is_qemu or key != "hardware"):
            network[name] = given[key]
    if "portForwards" in given and entry.is_qemu:
        network["PortForward"] = [_forward(item) for item in given["portForwards"]]


def _forward(given: Table) -> Table:
    protocol = given.get("protocol", "TCP")
    forward: Table = {"Protocol": _CODES.get(str(protocol), str(protocol))}
    forward |= {"HostPort": int(given["hostPort"]), "GuestPort": int(given["guestPort"])}
    forward |= {"HostAddress": given["hostAddress"]} if given.get("hostAddress") else {}
    return forward | ({"GuestAddress": given["guestAddress"]} if given.get("guestAddress") else {})


def _make_serial(entry: Entry, _given: Table) -> Table:
    return {"Mode": "Ptty", "Target": "Auto"} if entry.is_qemu else {"Mode": "Ptty"}


def _change_serial(entry: Entry, serial: Table, given: Table) -> None:
    if word := given.get("interface"):
        serial["Mode"] = {"ptty": "Ptty", "tcp": "TcpServer"}.get(_CODES.get(word, str(word)), serial["Mode"])
    if entry.is_qemu:
        serial |= {"TcpPort": int(given["port"])} if given.get("port") else {}
        serial |= {"Hardware": given["hardware"], "Target": "Manual"} if given.get("hardware") else {}


def _make_display(entry: Entry, _given: Table) -> Table:
    if not entry.is_qemu:
        return {"WidthPixels": 1920, "HeightPixels": 1200, "PixelsPerInch": 80, "DynamicResolution": True}
    display = {"Hardware": "virtio-vga", "DynamicResolution": True, "NativeResolution": False}
    return display | {"UpscalingFilter": "Linear", "DownscalingFilter": "Linear"}


def _change_display(entry: Entry, display: Table, given: Table) -> None:
    names = {"dynamicResolution": "DynamicResolution"}
    if entry.is_qemu:
        names |= {"nativeResolution": "NativeResolution", "hardware": "Hardware"}
        for key, name in (("upscalingFilter", "UpscalingFilter"), ("downscalingFilter", "DownscalingFilter")):
            if given.get(key):
                display[name] = given[key].capitalize()
    display |= {name: given[key] for key, name in names.items() if given.get(key) not in (None, "")}
