"""Read a machine of tart's or lume's: a folder with `config.json`, a disk and the firmware's memory.

The formats were read in their sources: Sources/tart/{VMConfig,VMDirectory}.swift of cirruslabs/tart, and
libs/lume/src/FileSystem/{VMConfig,VMDirectory}.swift of trycua/cua.
"""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from vmkit.bundle.foreign_machine import (
    ForeignDisk,
    ForeignMachine,
    LookAtDisk,
    read_file,
    refuse,
    require_cpus,
    require_file,
    require_hardware_model,
    require_mac,
    require_machine_identifier,
    require_memory,
    require_unlocked,
)
from vmkit.host.text import printable

CONFIG_JSON = "config.json"
DISK, NVRAM = "disk.img", "nvram.bin"

_MAX_BYTES = 64 << 10
_ARCHES = {"arm64": "aarch64", "amd64": "x86_64"}
_TART_SYSTEMS = {"darwin": "macos", "linux": "linux"}
_LUME_SYSTEMS = {"macos": "macos", "linux": "linux"}
_SUSPENDED = "state.vzvmsave"
_UNFINISHED = ".provisioning"


def read_json_machine(path: Path, *, look: LookAtDisk) -> ForeignMachine:
    """Return the machine in a folder with `config.json`. Raises Refused, with the reason."""
    config = _config(path)
    if isinstance(config.get("display"), str):
        return _read_lume(path, config, look)
    if "cpuCountMin" in config or "ecid" in config:
        return _read_tart(path, config, look)
    raise refuse(path, f"its {CONFIG_JSON} is neither tart's nor lume's")


def _read_tart(path: Path, config: dict[str, Any], look: LookAtDisk) -> ForeignMachine:
    hint = f"tart stop {printable(path.name, max_chars=60)}"
    if config.get("version") != 1:
        raise refuse(path, f"its {CONFIG_JSON} is of version {printable(str(config.get('version')), max_chars=20)}")
    if (path / _SUSPENDED).exists():
        raise refuse(path, "it is suspended", hint="run it once more with tart and shut it down")
    require_unlocked(path / CONFIG_JSON, of=path, hint=hint)
    system = _one_of(path, config, "os", _TART_SYSTEMS, default="darwin")
    return _machine(
        path,
        config,
        look,
        kind="tart",
        system=system,
        arch=_one_of(path, config, "arch", _ARCHES, default="arm64"),
        identifier_key="ecid",
        disk_format=str(config.get("diskFormat", "raw")),
    )


def _read_lume(path: Path, config: dict[str, Any], look: LookAtDisk) -> ForeignMachine:
    if (path / _UNFINISHED).exists():
        raise refuse(path, "lume has not finished making it")
    hint = f"lume stop {printable(path.name, max_chars=60)}"
    require_unlocked(path / CONFIG_JSON, of=path, hint=hint)
    machine = _machine(
        path,
        {**config, "os": str(config.get("os", "")).lower()},
        look,
        kind="lume",
        system=_one_of(path, {"os": str(config.get("os", "")).lower()}, "os", _LUME_SYSTEMS),
        arch="aarch64",  # lume runs on Apple silicon only
        identifier_key="machineIdentifier",
        disk_format="raw",
    )
    size = config.get("diskSize")
    if size is not None and size != machine.disk_bytes:
        raise refuse(path, f"its {CONFIG_JSON} gives its disk another size than it has")
    return machine


def _machine(
    path: Path,
    config: dict[str, Any],
    look: LookAtDisk,
    *,
    kind: str,
    system: str,
    arch: str,
    identifier_key: str,
    disk_format: str,
) -> ForeignMachine:
    model = identifier = None
    if system == "macos":
        if arch != "aarch64":
            raise refuse(path, "a macOS guest of Intel's architecture runs nowhere")
        model = require_hardware_model(_base64(path, config, "hardwareModel"), of=path)
        identifier = require_machine_identifier(_base64(path, config, identifier_key), of=path)
    found_format, size = look(require_file(path / DISK, of=path))
    if found_format != disk_format or found_format == "qcow2":
        raise refuse(path, f"its disk should be {printable(disk_format, max_chars=20)} and is {found_format}")
    memory = config.get("memorySize")
    mode = config.get("networkMode", "nat")
    return ForeignMachine(
        kind=kind,
        path=path,
        name=path.name,
        backend="apple",
        system=system,
        arch=arch,
        cpus=require_cpus(config.get("cpuCount"), of=path),
        memory_mib=require_memory(memory >> 20 if isinstance(memory, int) else memory, of=path),
        mac=require_mac(config.get("macAddress"), of=path),
        disks=(ForeignDisk(path=path / DISK, format=found_format, virtual_bytes=size),),
        boot="mac" if system == "macos" else "uefi",
        firmware=require_file(path / NVRAM, of=path),
        hardware_model=model,
        machine_identifier=identifier,
        dropped=() if mode == "nat" else ("its bridged network: it gets UTM's shared one",),
    )


def _config(path: Path) -> dict[str, Any]:
    content = read_file(path / CONFIG_JSON, of=path, max_bytes=_MAX_BYTES)
    try:
        found = json.loads(content, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise refuse(path, f"its {CONFIG_JSON} is not JSON: {printable(str(error), max_chars=120)}") from error
    if not isinstance(found, dict):
        raise refuse(path, f"its {CONFIG_JSON} is not an object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _one_of(path: Path, config: dict[str, Any], key: str, known: dict[str, str], *, default: str | None = None) -> str:
    value = config.get(key, default)
    if not isinstance(value, str) or value not in known:
        raise refuse(
            path, f'its "{key}" is "{printable(str(value), max_chars=40)}"', hint=f"one of: {', '.join(known)}"
        )
    return known[value]


def _base64(path: Path, config: dict[str, Any], key: str) -> bytes:
    value = config.get(key)
    try:
        if not isinstance(value, str):
            raise ValueError(key)  # noqa: TRY301, TRY004  # worded once, below
        return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        raise refuse(path, f'its "{key}" is missing or not base64') from None
