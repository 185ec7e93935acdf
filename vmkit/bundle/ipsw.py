"""Judge a restore image (IPSW) without a Mac: a zip whose two manifests say what it is, and what it can be put on.

Of a file of many GiB only the zip's directory and the two manifests are read, each to a limit. Which keys Apple's
manifests have was read in other people's tools; no IPSW of Apple's has been seen by the tests.
"""

import io
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from vmkit.bundle.mac_platform import OLDEST_GUEST, hardware_model
from vmkit.bundle.plist import parse_plist
from vmkit.bundle.plist_values import PlistError, Value
from vmkit.errors import NotFound, Refused
from vmkit.host.text import printable

VIRTUAL_MAC = "VirtualMac2,1"
VIRTUAL_BOARD = "vma2macosap"

_BUILD_MANIFEST, _RESTORE = "BuildManifest.plist", "Restore.plist"
_MAX_READ = 64 << 20  # the zip's directory and the manifests; a directory of 100,000 entries takes some 10 MiB
_MAX_ENTRIES = 100_000
_MAX_MANIFEST, _MAX_NODES = 32 << 20, 1_000_000
_LOCAL_HEADER = b"PK\x03\x04"
_VERSION = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){0,2}")
_BUILD = re.compile(r"[0-9]{1,3}[A-Z][0-9]{1,6}[a-z]?")
_PRODUCT = re.compile(r"[A-Za-z]{1,20}[0-9]{1,3},[0-9]{1,3}")
_OTHER_DEVICES = ("iPhone", "iPad", "iPod", "AppleTV", "Watch", "AudioAccessory", "RealityDevice")


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoreImage:
    """A macOS that can be installed on a virtual Mac."""

    version: str  # "15.6.1"
    build: str  # "24G90"
    products: tuple[str, ...]

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers."""
        return tuple(map(int, self.version.split(".")))

    @property
    def hardware_model(self) -> bytes:
        """The hardware model that it is installed on, which also says the oldest macOS of the host."""
        return hardware_model(self.release)


def check_ipsw(path: Path) -> RestoreImage:
    """Return what the restore image holds.

    Raises NotFound, or Refused with the one reason why it cannot be used. Reads a few MiB, however long the file is.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise _refused(path, "it is not a file")
    try:
        with path.open("rb") as file:
            manifests = _manifests(path, _Bounded(file))
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise NotFound(f'"{path}" cannot be read', detail=error.strerror) from error
    build, restore = (_plist(path, name, content) for name, content in manifests.items())
    for key in ("ProductVersion", "ProductBuildVersion"):
        if build.get(key) != restore.get(key):
            raise _refused(path, f"its two manifests name a different {key}")
    products = _products(path, build, restore)
    _require_virtual_mac(path, products, build)
    image = RestoreImage(
        version=_text(path, build, "ProductVersion", _VERSION),
        build=_text(path, build, "ProductBuildVersion", _BUILD),
        products=products,
    )
    if image.release < OLDEST_GUEST[:1]:
        raise _refused(path, f"macOS {image.version} is too old: a guest is macOS {OLDEST_GUEST[0]} or newer")
    return image


class _Bounded(io.RawIOBase):
    """A file of which no more than `_MAX_READ` bytes are read, wherever they lie."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._left = _MAX_READ

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        content = self._file.read(self._left + 1 if size is None or size < 0 else min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise _TooMuchError
        return content


class _TooMuchError(Exception):
    """More would have to be read than any restore image needs."""


def _manifests(path: Path, file: _Bounded) -> dict[str, bytes]:
    """Return the two manifests, the build manifest first."""
    if file.read(len(_LOCAL_HEADER)) != _LOCAL_HEADER:
        raise _refused(path, "it is not a zip archive, as every IPSW is")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > _MAX_ENTRIES:
                raise _refused(path, f"it has {len(entries)} entries, more than any restore image")
            return {name: _read(path, archive, name, entries) for name in (_BUILD_MANIFEST, _RESTORE)}
    except _TooMuchError:
        raise _refused(path, f"its directory or its manifests are larger than {_MAX_READ >> 20} MiB") from None
    except zipfile.BadZipFile as error:
        if "CRC" in str(error):
            raise _refused(path, f"it is damaged: {error}") from error
        raise _refused(path, "it is truncated or damaged: the zip's directory is not whole", hint=_AGAIN) from error
    except (zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise _refused(path, f"it is damaged: {error}", hint=_AGAIN) from error


_AGAIN = "download it again, and see that the download ends"


def _read(path: Path, archive: zipfile.ZipFile, name: str, entries: list[zipfile.ZipInfo]) -> bytes:
    found = [entry for entry in entries if entry.filename == name]
    if not found:
        raise _refused(path, f'it has no "{name}": it is a zip, but no IPSW')
    if len(found) > 1:
        raise _refused(path, f'it has "{name}" twice')
    (entry,) = found
    if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refused(path, f'its "{name}" is encrypted, or packed in a way that Apple does not use')
    if entry.file_size > _MAX_MANIFEST:
        raise _refused(path, f'its "{name}" would unpack to {entry.file_size >> 20} MiB')
    with archive.open(entry) as member:
        content = member.read(_MAX_MANIFEST + 1)
    if len(content) > _MAX_MANIFEST:
        raise _refused(path, f'its "{name}" unpacks to more than it says')
    return content


def _plist(path: Path, name: str, content: bytes) -> dict[str, Value]:
    try:
        found = parse_plist(content, max_bytes=_MAX_MANIFEST, max_nodes=_MAX_NODES)
    except PlistError as error:
        raise _refused(path, f'its "{name}" is not a property list: {error}') from error
    if not isinstance(found, dict):
        raise _refused(path, f'its "{name}" is not a dictionary')
    return found


def _products(path: Path, build: dict[str, Value], restore: dict[str, Value]) -> tuple[str, ...]:
    """Return the products that both manifests name; the second may be silent."""
    named = []
    for manifest in (build, restore):
        found = manifest.get("SupportedProductTypes", [])
        if not isinstance(found, list) or len(found) > 1000:
            raise _refused(path, '"SupportedProductTypes" is no list of products')
        named.append([text for text in found if isinstance(text, str) and _PRODUCT.fullmatch(text)])
    if not named[0]:
        raise _refused(path, f'its "{_BUILD_MANIFEST}" names no supported products')
    return tuple(product for product in named[0] if not named[1] or product in named[1])


def _require_virtual_mac(path: Path, products: tuple[str, ...], build: dict[str, Value]) -> None:
    if VIRTUAL_MAC not in products:
        shown = ", ".join(products[:3]) or "nothing that its manifests agree on"
        others = [product for product in products if product.startswith(_OTHER_DEVICES)]
        if others:
            raise _refused(path, f"it is for {others[0]}, not for a Mac")
        if products and all(product.startswith("iBridge") for product in products):
            raise _refused(path, f"it is for the T2 chip of Intel Macs ({shown}), another architecture")
        raise _refused(path, f"it does not support the virtual Mac ({VIRTUAL_MAC}), but {shown}")
    identities = build.get("BuildIdentities")
    boards = set()
    for identity in identities if isinstance(identities, list) else ():
        info = identity.get("Info") if isinstance(identity, dict) else None
        board = info.get("DeviceClass") if isinstance(info, dict) else None
        boards.add(board.lower() if isinstance(board, str) else None)
    if VIRTUAL_BOARD not in boards:
        raise _refused(path, f"it names the virtual Mac, and has no build for its board ({VIRTUAL_BOARD})")


def _text(path: Path, manifest: dict[str, Value], key: str, pattern: re.Pattern[str]) -> str:
    found = manifest.get(key)
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise _refused(path, f'its "{key}" is missing or is none')
    return found


def _refused(path: Path, reason: str, *, hint: str | None = None) -> Refused:
    return Refused(
        f'"{printable(path.name, max_chars=100)}" cannot install a macOS guest',
        detail=printable(reason),
        hint=hint or "--installer latest takes the newest one from Apple",
    )
