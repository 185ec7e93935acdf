"""The scripting dictionary inside UTM.app: our own few lines, with the terms that vmkit looks for."""

_COMMANDS = {
    "import": "coreimpo",
    "export": "UTM exPt",
    "duplicate": "coreclon",
    "delete": "coredelo",
    "make": "corecrel",
    "start": "UTM VmSt",
    "suspend": "UTM VmSu",
    "stop": "UTM VmEd",
    "update configuration": "UTM UpCo",
    "update registry": "UTM UpRg",
    "query ip": "UTM QyIp",
    "execute": "UTM ExEc",
}
_PARAMETERS = {"start": (("recovery", "ReCo", "boolean"), ("saving", "SvVm", "boolean"))}
_RECORDS = {
    "qemu configuration": (
        "name", "notes", "architecture", "machine", "memory", "cpu cores", "hypervisor", "uefi", "directory share mode",
        "drives", "network interfaces", "serial ports", "displays", "qemu additional arguments",
    ),
    "apple configuration": (
        "name", "notes", "memory", "cpu cores", "directory shares", "drives", "network interfaces", "serial ports",
        "displays",
    ),
}  # fmt: skip
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!-- Made by utmsim, in the form of a scripting dictionary; not UTM's file. The codes mean nothing. -->
<dictionary title="UTM Terminology">
"""
# Only after 5.0.3 (pull request 7862). The names are guessed; only that there are such terms is known.
_LATER = """  <enumeration name="operating system" code="OpSy">
    <enumerator name="linux" code="OsLx"/>
    <enumerator name="macos" code="OsMc"/>
  </enumeration>
"""
_LATER_PROPERTIES = (("operating system", "operating system"), ("ipsw", "file"))


def dictionary(*, later: bool) -> str:
    """Return the XML: of 5.0.3, or of a UTM whose `make` can make macOS guests (names guessed)."""
    commands = "".join(_command(name, code) for name, code in _COMMANDS.items())
    records = "".join(_record(name, terms, later=later) for name, terms in _RECORDS.items())
    return (
        f'{_HEAD} <suite name="UTM Suite" code="UTM!">\n{commands} </suite>\n'
        f' <suite name="UTM Configuration Suite" code="UTMc">\n{_LATER if later else ""}{records} </suite>\n</dictionary>\n'
    )


def _command(name: str, code: str) -> str:
    parameters = "".join(
        f'   <parameter name="{term}" code="{letters}" type="{kind}" optional="yes"/>\n'
        for term, letters, kind in _PARAMETERS.get(name, ())
    )
    return f'  <command name="{name}" code="{code}">\n{parameters}  </command>\n'


def _record(name: str, terms: tuple[str, ...], *, later: bool) -> str:
    properties = [(term, "text") for term in terms]
    if later and name == "apple configuration":
        properties += _LATER_PROPERTIES
    lines = "".join(f'   <property name="{term}" type="{kind}"/>\n' for term, kind in properties)
    return f'  <record-type name="{name}">\n{lines}  </record-type>\n'
