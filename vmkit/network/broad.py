"""Names that are really everything: wildcards under which strangers own names, and hosts that everybody shares."""

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmkit.errors import Refused
from vmkit.host.files import read_bounded
from vmkit.host.resources import data_folder
from vmkit.network.groups import load_groups
from vmkit.network.rules import matches

_MAX_LIST_BYTES = 4 << 20


def refuse_broad(host: str) -> None:
    """Raise Refused, with the reason and the narrow names to use, for `*.x` when strangers own names below x."""
    if not host.startswith("*."):
        return
    why = _why_broad(host[2:])
    if why:
        raise Refused(
            f'"{host}" is no rule: it allows almost anything', detail=why, hint=f"instead: {narrow_names(host)}"
        )


def narrow_names(pattern: str) -> str:
    """Return what to allow in place of a wildcard, in words."""
    domain = pattern.removeprefix("*.")
    inside = [
        f"{', '.join(names)} (group {group})"
        for group, rules in load_groups().items()
        if (names := list(dict.fromkeys(rule.host for rule in rules if matches(f"*.{domain}", rule.host))))
    ]
    if inside and "." in domain:
        return "; ".join(inside)
    known = _table("domains").get(domain)
    return str(known["instead"]) if known else f"the exact name that is needed, such as NAME.{domain}"


def remark_on(host: str) -> str | None:
    """Return why an exact name is broader than it looks, or None."""
    shared = _table("shared").get(host)
    if shared or any(rule.host == host for rules in load_groups().values() for rule in rules):
        return str(shared) if shared else None
    suffix = _suffixes().publicsuffix(host)
    if suffix == host:
        return "everybody's names are under this one, and their content is often here too"
    if suffix is not None and "." in suffix and _is_rented(suffix):
        return f"names under {suffix} are rented: whoever owns this one today chose its name"
    domain = next((domain for domain in _table("domains") if matches(f"*.{domain}", host)), None)
    return f"{_table('domains')[domain]['why']}: {domain}" if domain else None


def _why_broad(domain: str) -> str | None:
    if _suffixes().is_public(domain):
        return f'"{domain}" is a public suffix: anyone can get a name under it'
    known = _table("domains").get(domain)
    if known:
        return f'"{domain}": {known["why"]}'
    below = next((rule for rule in _listed() if rule.endswith(f".{domain}")), None)
    if below:
        return f'it covers "{below.removeprefix("*.")}", and anyone can get a name under that'
    beneath = next((other for other in _table("domains") if matches(f"*.{domain}", other)), None)
    return f'it covers "{beneath}": {_table("domains")[beneath]["why"]}' if beneath else None


@functools.cache
def _suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415  # reads 10,000 lines; only wildcards need it

    return PublicSuffixList()


@functools.cache
def _sections() -> tuple[frozenset[str], frozenset[str]]:
    """Return the list's lines: those of registries, and those of companies that rent names out."""
    import publicsuffixlist  # noqa: PLC0415  # as above

    text = read_bounded(Path(publicsuffixlist.PSLFILE), max_bytes=_MAX_LIST_BYTES).decode()
    registries, _, companies = text.partition("===BEGIN PRIVATE DOMAINS===")
    return _rules(registries), _rules(companies)


def _rules(text: str) -> frozenset[str]:
    lines = (line.strip() for line in text.splitlines())
    return frozenset(line for line in lines if line and not line.startswith(("//", "!")))


def _listed() -> list[str]:
    registries, companies = _sections()
    return sorted(registries | companies, key=lambda rule: (len(rule), rule))


def _is_rented(suffix: str) -> bool:
    companies = _sections()[1]
    return suffix in companies or f"*.{suffix.partition('.')[2]}" in companies


@functools.cache
def _table(name: str) -> Mapping[str, Any]:
    content = read_bounded(data_folder("network") / "broad.toml", max_bytes=_MAX_LIST_BYTES).decode()
    table: Mapping[str, Any] = tomllib.loads(content)[name]
    return table
