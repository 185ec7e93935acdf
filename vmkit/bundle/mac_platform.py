"""What makes one Mac, or one machine of Virtualization.framework, differ from all others: small binary property lists.

Apple calls them opaque. What they hold was read in those that the framework wrote; they are decoded before they are
believed, and never taken for more than they say.
"""

import plistlib
import secrets
from dataclasses import dataclass

from vmkit.bundle.plist import parse_plist
from vmkit.bundle.plist_values import PlistError, Value
from vmkit.errors import Refused
from vmkit.host.text import printable

MAX_BYTES = 4096
OLDEST_GUEST = (12, 0, 0)  # Virtualization.framework runs no older macOS

_PLATFORM_VERSION = 2  # that of VirtualMac2,1
_SECOND_MODEL = (13, 0, 0)  # guests of macOS 13 and newer get a model of their own; 12 has its own too


@dataclass(frozen=True, kw_only=True, slots=True)
class HardwareModel:
    """What a virtual Mac is built like. `minimum_os` is the oldest macOS that it runs on and in."""

    minimum_os: tuple[int, ...]
    platform_version: int
    representation: int


def hardware_model(guest_version: tuple[int, ...]) -> bytes:
    """Return the hardware model that a restore image of this version is installed on."""
    newest = _SECOND_MODEL if guest_version >= _SECOND_MODEL[:1] else OLDEST_GUEST
    return _binary(
        {"DataRepresentationVersion": 1, "MinimumSupportedOS": list(newest), "PlatformVersion": _PLATFORM_VERSION}
    )


def read_hardware_model(content: bytes) -> HardwareModel:
    """Decode a hardware model. Raises Refused with the reason."""
    what = "hardware model"
    found = _dictionary(content, what)
    minimum = found.get("MinimumSupportedOS")
    if not isinstance(minimum, list) or not 1 <= len(minimum) <= 3:
        raise _refused(what, "it does not say the macOS that it needs")
    return HardwareModel(
        minimum_os=tuple(_number(number, what) for number in minimum),
        platform_version=_number(found.get("PlatformVersion"), what),
        representation=_number(found.get("DataRepresentationVersion"), what),
    )


def make_machine_identifier() -> bytes:
    """Return the identity of a Mac that no other has: a fresh ECID. Every machine and every clone needs its own."""
    return machine_identifier(secrets.randbelow((1 << 63) - 1) + 1)


def machine_identifier(ecid: int) -> bytes:
    """Return the identity of the Mac with this ECID."""
    return _binary({"ECID": ecid})


def read_machine_identifier(content: bytes) -> int:
    """Return the ECID in the identity of a Mac. Raises Refused with the reason."""
    what = "machine identifier"
    ecid = _number(_dictionary(content, what).get("ECID"), what)
    if ecid == 0:
        raise _refused(what, "its ECID is zero")
    return ecid


def make_generic_identifier() -> bytes:
    """Return the identity of a machine that is no Mac: sixteen fresh bytes."""
    return generic_identifier(secrets.token_bytes(16))


def generic_identifier(uuid: bytes) -> bytes:
    """Return the identity of the machine with these sixteen bytes."""
    return _binary({"UUID": uuid})


def read_generic_identifier(content: bytes) -> bytes:
    """Return the sixteen bytes in the identity of a machine that is no Mac. Raises Refused with the reason."""
    what = "machine identifier"
    found = _dictionary(content, what).get("UUID")
    if not isinstance(found, bytes) or len(found) != 16:
        raise _refused(what, "it holds no UUID")
    return found


def _binary(content: dict[str, object]) -> bytes:
    return plistlib.dumps(content, fmt=plistlib.FMT_BINARY)


def _dictionary(content: bytes, what: str) -> dict[str, Value]:
    if len(content) > MAX_BYTES or not content.startswith(b"bplist00"):
        raise _refused(what, "it is no binary property list")
    try:
        found = parse_plist(content)
    except PlistError as error:
        raise _refused(what, str(error)) from error
    if not isinstance(found, dict):
        raise _refused(what, "it is no dictionary")
    return found


def _number(value: "Value | None", what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _refused(what, "a number in it is missing or none")
    return value


def _refused(what: str, reason: str) -> Refused:
    return Refused(f"this is no {what} of Virtualization.framework", detail=printable(reason))
