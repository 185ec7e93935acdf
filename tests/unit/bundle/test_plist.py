"""Property lists: what Foundation reads, what it does not, and what we refuse on purpose."""

import contextlib
import plistlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmkit.bundle.plist import parse_plist
from vmkit.bundle.plist_values import MAX_BYTES, NULL, Odd, PlistError

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "x.dtd">\n'


def xml(body: str) -> bytes:
    return f'{HEAD}<plist version="1.0">{body}</plist>\n'.encode()


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("<string>a</string>", "a"),
        ("<string/>", ""),
        ("<string>a &amp; &lt;b&gt; &#233;&#x1F600;</string>", "a & <b> é😀"),
        ("<string>a<![CDATA[<b>&amp;]]>c</string>", "a<b>&amp;c"),
        ("<true/>", True),
        ("<false></false>", False),
        ("<integer>4</integer>", 4),
        ("<integer>+4</integer>", 4),
        ("<integer>- 4</integer>", -4),
        ("<integer>0x1F</integer>", 31),
        ("<integer> 4</integer>", 4),
        ("<integer>9223372036854775807</integer>", 2**63 - 1),
        ("<integer>4 </integer>", Odd("integer", corrupt=True)),
        ("<integer></integer>", Odd("integer", corrupt=True)),
        ("<integer>4.0</integer>", Odd("integer", corrupt=True)),
        ("<integer>9223372036854775808</integer>", Odd("integer", corrupt=True)),
        ("<real>4.5</real>", 4.5),
        ("<real>4.5 </real>", Odd("real", corrupt=True)),
        ("<real>0x10</real>", Odd("real", corrupt=True)),
        ("<data>\n\tYm9v\n\taw==\n</data>", b"book"),
        ("<date>2020-01-01T00:00:00Z</date>", Odd("date")),
        ("<string>$null</string>", NULL),
        ("<dict/>", {}),
        ("<array><!-- c --><string>a</string></array>", ["a"]),
        ("<dict><key>a</key><array/></dict>", {"a": []}),
    ],
)
def test_values_are_read_as_foundation_reads_them(body: str, value: object) -> None:
    found = parse_plist(xml(body))

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "body",
    [
        "<string>a",
        "<string>a</array>",
        "<integer/>",
        "<string>a & b</string>",
        "<string>&other;</string>",
        "<string>&#xD800;</string>",
        "<dict><key>a</key></dict>",
        "<dict><string>a</string><string>b</string></dict>",
        "<dict><key/><string>b</string></dict>",
        "<string>a</string><string>b</string>",
        "<unknown/>",
        "",
    ],
)
def test_what_is_no_property_list_is_refused(body: str) -> None:
    with pytest.raises(PlistError):
        parse_plist(xml(body))


@pytest.mark.parametrize("content", [b"", b"{ a = b; }", b"<", b"bplist00", b"\x00" * 100, b"\xff\xfe", b"<?xml"])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(PlistError):
        parse_plist(content)


@pytest.mark.parametrize(
    ("encoding", "bom"),
    [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")],
)
def test_a_byte_order_mark_counts_more_than_the_declaration(encoding: str, bom: bytes) -> None:
    text = xml("<string>é😀</string>").decode()

    assert parse_plist(bom + text.encode(encoding)) == "é😀"


def test_utf_16_without_a_mark_is_refused() -> None:
    with pytest.raises(PlistError):
        parse_plist(xml("<string>a</string>").decode().encode("utf-16-le"))


def test_a_declared_encoding_is_used() -> None:
    content = '<?xml version="1.0" encoding="ISO-8859-1"?><plist><string>é</string></plist>\n'.encode("latin-1")

    assert parse_plist(content) == "é"


def test_a_string_that_is_no_unicode_spoils_only_itself() -> None:
    content = xml("<array><string>?</string><true/></array>").replace(b"?</string>", b"\xff</string>")

    assert parse_plist(content) == [Odd("string", corrupt=True), True]


@pytest.mark.parametrize("binary", [False, True])
def test_a_key_that_occurs_twice_is_refused(*, binary: bool) -> None:
    content = xml("<dict><key>a</key><true/><key>a</key><false/></dict>")
    if binary:
        content = plistlib.dumps({"a": True, "b": False}, fmt=plistlib.FMT_BINARY).replace(b"Qb", b"Qa")

    with pytest.raises(PlistError, match="twice"):
        parse_plist(content)


@pytest.mark.parametrize("body", ["\x01", "\x1b[31m", "\x7f", "\x85", "&#1;", "&#x9b;", "&#0;", "<![CDATA[\x08]]>"])
def test_a_control_character_is_refused(body: str) -> None:
    with pytest.raises(PlistError, match="control character"):
        parse_plist(xml(f"<string>{body}</string>"))


def test_a_control_character_is_refused_in_binary() -> None:
    with pytest.raises(PlistError, match="control character"):
        parse_plist(plistlib.dumps({"a": "\x1b"}, fmt=plistlib.FMT_BINARY))


def bomb_of_references() -> bytes:
    """30 arrays, each naming the next one twice: 2^30 values."""
    value: list[object] = ["x"]
    for _ in range(14):
        value = [value, value]
    return plistlib.dumps(value, fmt=plistlib.FMT_BINARY)


ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    b"<plist><string>&b;</string></plist>\n"
)


@pytest.mark.parametrize(
    "content",
    [
        xml("<array>" * 200_000),
        xml("<array>" * 17 + "</array>" * 17),
        b"<plist>" * 100_000,
        xml("<array>" + "<true/>" * 6000 + "</array>"),
        xml("<string>" + "a" * MAX_BYTES + "</string>"),
        ENTITIES,
        b'<!DOCTYPE plist [<!ENTITY a SYSTEM "file:///etc/passwd">]><plist><string>&a;</string></plist>\n',
        bomb_of_references(),
    ],
    ids=["deep", "17", "plists", "wide", "large", "entities", "external", "references"],
)
def test_a_bomb_is_refused(content: bytes) -> None:
    with pytest.raises(PlistError):
        parse_plist(content)


def test_a_binary_cycle_is_refused() -> None:
    content = bytearray(plistlib.dumps([["x"]], fmt=plistlib.FMT_BINARY))
    content[content.index(b"\xa1\x01") + 1] = 0  # the outer array's only element is the array itself

    with pytest.raises(PlistError):
        parse_plist(bytes(content))


PLAIN = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=40)
    | st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40).filter(lambda text: "$null" not in text),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcXYZ é😀", min_size=1, max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(value=PLAIN, form=st.sampled_from([plistlib.FMT_XML, plistlib.FMT_BINARY]))
def test_what_plistlib_writes_is_read_back(value: object, form: plistlib.PlistFormat) -> None:
    assert parse_plist(plistlib.dumps(value, fmt=form)) == value


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300), binary=st.booleans())
def test_random_bytes_are_read_or_refused(content: bytes, *, binary: bool) -> None:
    with contextlib.suppress(PlistError):
        parse_plist(b"bplist00" + content if binary else content)
