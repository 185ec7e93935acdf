"""Import the settings of srt, the Sandbox Runtime: its host names become rules, and what does not fit is named."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmkit.errors import NotFound, Refused, UsageError
from vmkit.host.files import read_bounded
from vmkit.host.text import printable
from vmkit.network.broad import narrow_names, refuse_broad, remark_on
from vmkit.network.groups import load_groups
from vmkit.network.policy import MAX_RULES
from vmkit.network.rules import HTTPS, Rule, matches, parse_target

_MAX_BYTES = 1 << 20
# The keys of srt 0.0.83. "All required": without one of them 0.0.83 does not start, and 0.0.21 goes on with no network.
_REQUIRED = {
    "network": ("allowedDomains", "deniedDomains"),
    "filesystem": ("denyRead", "allowWrite", "denyWrite"),
}
_KNOWN = {
    "": (
        "network filesystem ignoreViolations enableWeakerNestedSandbox allowNestedUserNamespaces allowPty "
        "enableWeakerNetworkIsolation allowAppleEvents mandatoryDenySearchDepth ripgrep bwrapPath socatPath seccomp "
        "git credentials javaAgentJarPath"
    ),
    "network": (
        "allowedDomains deniedDomains deniedDomainReasons strictAllowlist allowUnixSockets allowAllUnixSockets "
        "allowLocalBinding httpProxyPort socksProxyPort parentProxy mitmProxy tlsTerminate filterRequest "
        "deniedResolvedAddresses"
    ),
    "filesystem": "denyRead allowRead allowWrite denyWrite allowGitConfig disabled",
}
_WALL = "a virtual machine has no use for it: the wall is around the machine"
_WEAKER = "it makes srt's wall weaker; a virtual machine's is not changed by it"
_FATES = {
    "enableWeakerNestedSandbox": _WEAKER,
    "enableWeakerNetworkIsolation": _WEAKER,
    "allowPty": "a virtual machine has its own terminals",
    "allowUnixSockets": "sockets of this computer are out of a virtual machine's reach",
    "allowAllUnixSockets": "sockets of this computer are out of a virtual machine's reach",
    "allowAppleEvents": "programs of this computer are out of a virtual machine's reach",
    "allowLocalBinding": "a virtual machine listens on its own loopback as it likes",
}


@dataclass(frozen=True, kw_only=True)
class Remark:
    """What became of one setting."""

    name: str  # such as `network.allowedDomains: *.amazonaws.com`
    text: str


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What a machine's policy takes over, and a remark on everything else."""

    rules: tuple[Rule, ...]
    denied: tuple[str, ...]
    remarks: tuple[Remark, ...]
    narrow: tuple[Rule, ...] = ()  # the shipped hosts below the wildcards that were asked for: what to allow instead


def read_srt(path: Path) -> Imported:
    """Read a `.srt-settings.json`.

    Raises NotFound, UsageError when it cannot be read or is no JSON object, Refused when it is too large.
    """
    try:
        return parse_srt(read_bounded(path, max_bytes=_MAX_BYTES))
    except FileNotFoundError:
        raise NotFound(f'there is no "{path}"') from None
    except OSError as error:
        raise UsageError(f'"{path}" cannot be read', detail=error.strerror) from None
    except UsageError as error:
        raise UsageError(f'"{path}": {error.message}', detail=error.detail) from None


def parse_srt(content: bytes) -> Imported:
    """Read the text of srt's settings. Raises UsageError."""
    try:
        data: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError("not valid JSON", detail=printable(str(error))) from None
    if not isinstance(data, dict):
        raise UsageError("not srt's settings: they are one JSON object")
    network, filesystem = _section(data, "network"), _section(data, "filesystem")
    remarks = _missing("network", network) + _missing("filesystem", filesystem)
    domains = _texts(network, "allowedDomains")
    rules, more = _rules(domains)
    denied, most = _denied(_texts(network, "deniedDomains"))
    remarks += more + most + _paths(filesystem)
    for where, table in (("", data), ("network", network), ("filesystem", filesystem)):
        remarks += _others(where, table)
    return Imported(rules=tuple(rules), denied=tuple(denied), remarks=tuple(remarks), narrow=_narrow(domains))


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    section = data.get(name, {})
    if not isinstance(section, dict):
        raise UsageError(f'"{name}" must be an object')
    return section


def _texts(section: dict[str, Any], key: str) -> list[str]:
    texts = section.get(key, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or len(texts) > MAX_RULES:
        raise UsageError(f'"{key}" must be a list of texts, {MAX_RULES} at most')
    return list(dict.fromkeys(texts))


def _missing(name: str, section: dict[str, Any]) -> list[Remark]:
    text = "missing, and required: srt 0.0.83 does not start without it, 0.0.21 falls back to no network at all"
    return [Remark(name=f"{name}.{key}", text=text) for key in _REQUIRED[name] if key not in section]


def _rules(domains: list[str]) -> tuple[list[Rule], list[Remark]]:
    rules, remarks = list[Rule](), list[Remark]()
    for domain in domains:
        name = f"network.allowedDomains: {printable(domain, max_chars=100)}"
        try:
            host, port = parse_target(domain)
            refuse_broad(host)
        except (Refused, UsageError) as error:
            why = f"not taken over: {error.detail or error.message}"
            remarks.append(Remark(name=name, text=f"{why}; {error.hint}" if error.hint else why))
            continue
        rules.append(Rule(host=host, ports=(port or HTTPS,), added_by="user"))
        remark = _remark(host)
        if remark:
            remarks.append(Remark(name=name, text=remark))
    return rules, remarks


def _remark(host: str) -> str | None:
    if not host.startswith("*."):
        broad = remark_on(host)
        return f"broad: {broad}" if broad else None
    known = any(rule.host.endswith(host[1:]) for rules in load_groups().values() for rule in rules)
    named = f"; known below it: {narrow_names(host)}" if known else ""
    return f"broad: every name below it, also those made tomorrow{named}"


def _narrow(domains: list[str]) -> tuple[Rule, ...]:
    wildcards = [domain.lower() for domain in domains if domain.startswith("*.")]
    known = (rule for rules in load_groups().values() for rule in rules)
    return tuple(rule for rule in known if any(matches(domain, rule.host) for domain in wildcards))


def _denied(domains: list[str]) -> tuple[list[str], list[Remark]]:
    denied, remarks = list[str](), list[Remark]()
    for domain in domains:
        try:
            host, _ = parse_target(domain)
            denied.append(host)
        except (Refused, UsageError) as error:
            name = f"network.deniedDomains: {printable(domain, max_chars=100)}"
            remarks.append(Remark(name=name, text=f"not taken over: {error.detail or error.message}"))
    return denied, remarks


def _paths(filesystem: dict[str, Any]) -> list[Remark]:
    remarks = []
    for path in _texts(filesystem, "allowWrite"):
        text = "not needed: the guest writes to its own disk, and nothing of this computer's is in it"
        if "Library/Application Support/kiro-cli" in path:
            text = "where Kiro keeps its data on macOS; a Linux guest's is ~/.local/share/kiro-cli, on its own disk"
        remarks.append(Remark(name=f"filesystem.allowWrite: {printable(path, max_chars=100)}", text=text))
    text = "not needed: files of this computer are not there"
    said = (key for key in ("denyRead", "denyWrite", "allowRead") if filesystem.get(key))
    return [*remarks, *(Remark(name=f"filesystem.{key}", text=text) for key in said)]


def _others(where: str, table: dict[str, Any]) -> list[Remark]:
    known = _KNOWN[where].split()
    handled = {
        "network",
        "filesystem",
        "allowedDomains",
        "deniedDomains",
        "allowWrite",
        "denyRead",
        "denyWrite",
        "allowRead",
    }
    remarks = []
    for key in table:
        name = printable(f"{where}.{key}" if where else key, max_chars=100)
        if key not in known:
            near = difflib.get_close_matches(key[:80], known, n=1, cutoff=0.6)
            asked = f'; did you mean "{near[0]}"?' if near else ""
            remarks.append(Remark(name=name, text=f"unknown to srt, which ignores it{asked}"))
        elif key not in handled:
            remarks.append(Remark(name=name, text=f"not taken over: {_FATES.get(key, _WALL)}"))
    return remarks
