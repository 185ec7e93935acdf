"""Read a property list of somebody else's, XML or binary, as Apple's Foundation would, in bounded time and memory.

Stricter than Foundation in three cases only: bombs (size, depth, number of values, entity declarations, shared binary
objects), a key that occurs twice, control characters.
"""

import re

from vmkit.bundle.plist_binary import MAGIC, MIN_BYTES, parse_binary
from vmkit.bundle.plist_values import MAX_BYTES, MAX_NODES, PlistError, Value
from vmkit.bundle.plist_xml import parse_xml

_BOMS = ((b"\x00\x00\xfe\xff", "utf-32-be"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"))
_UTF8_BOM = b"\xef\xbb\xbf"
_DECLARED = re.compile(rb"<\?xml[^?>]*?encoding=(?:\"([^\"]{0,40})\"|'([^']{0,40})')")
_ENCODINGS = {
    **dict.fromkeys(("utf-8", "utf8"), "utf-8"),
    **dict.fromkeys(("us-ascii", "ascii"), "ascii"),
    **dict.fromkeys(("iso-8859-1", "latin1"), "latin-1"),
    **dict.fromkeys(("windows-1252", "cp1252"), "cp1252"),
}


def parse_plist(content: bytes, *, max_bytes: int = MAX_BYTES, max_nodes: int = MAX_NODES) -> Value:
    """Return what a property list holds. Raises PlistError, whose text says why it is none."""
    if len(content) > max_bytes:
        raise PlistError(f"it is larger than {max_bytes} bytes")
    if content.startswith(MAGIC) and len(content) >= MIN_BYTES:
        return parse_binary(content, max_nodes=max_nodes)
    text = _decoded(content)
    if not text.lstrip(" \t\r\n").startswith("<"):
        raise PlistError("it is neither XML nor binary")
    return parse_xml(text, max_nodes=max_nodes)


def _decoded(content: bytes) -> str:
    """Decode as Foundation does: by the byte order mark, else by the XML declaration, else as UTF-8."""
    for bom, encoding in _BOMS:
        if content.startswith(bom):
            return _decode(content[len(bom) :], encoding, errors="surrogatepass")
    if content.startswith(_UTF8_BOM):
        return _decode(content[len(_UTF8_BOM) :], "utf-8", errors="surrogateescape")
    declared = _DECLARED.match(content)
    name = (declared[1] or declared[2] or b"").decode("latin-1").lower() if declared else "utf-8"
    if name not in _ENCODINGS:
        raise PlistError("it declares an encoding that it is not in, or that we do not read")
    # A string that is no UTF-8 spoils only itself, and only when a key asks for it.
    return _decode(content, _ENCODINGS[name], errors="surrogateescape")


def _decode(content: bytes, encoding: str, *, errors: str) -> str:
    try:
        return content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise PlistError(f"it is not {encoding.upper()}") from error
