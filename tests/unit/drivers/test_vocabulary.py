from pathlib import Path

import pytest

from vmkit.drivers.vocabulary import MakesMacos, parse_vocabulary, read_vocabulary
from vmkit.errors import HostLacks, Refused, ToolFailed

HEAD = '<?xml version="1.0"?>\n<!DOCTYPE dictionary SYSTEM "file://localhost/System/Library/DTDs/sdef.dtd">\n'
OLD = HEAD + '<dictionary><suite name="UTM Suite"><command name="make" code="corecrel"/></suite></dictionary>'
NOW = HEAD + (
    '<dictionary xmlns:xi="http://www.w3.org/2003/XInclude">'
    '<xi:include href="file:///System/Library/ScriptingDefinitions/CocoaStandard.sdef"/>'
    '<suite name="UTM Suite"><command name="import"/><command name="export"/></suite>'
    '<suite name="UTM Registry Suite"><command name="update registry"/></suite>'
    "</dictionary>"
)


def later(properties: str) -> bytes:
    return (
        HEAD + '<dictionary><suite name="UTM Configuration Suite"><command name="reload configuration"/>'
        '<enumeration name="guest os"><enumerator name="linux"/><enumerator name="macOS"/></enumeration>'
        f'<record-type name="apple configuration">{properties}</record-type></suite></dictionary>'
    ).encode()


def test_a_utm_before_4_6_neither_imports_nor_exports():
    known = parse_vocabulary(OLD.encode())

    assert (known.imports, known.exports, known.updates_registry, known.reloads) == (False, False, False, False)


def test_the_dictionary_of_5_0_3_is_understood():
    known = parse_vocabulary(NOW.encode())

    assert (known.imports, known.exports, known.updates_registry, known.reloads) == (True, True, True, False)
    assert known.makes_macos is None


def test_the_words_for_a_macos_guest_are_read_and_not_guessed():
    words = '<property name="system" type="guest os"/><property name="restore image" type="file"/>'

    assert parse_vocabulary(later(words)).makes_macos == MakesMacos(
        system_property="system", enumerator="macOS", ipsw_property="restore image"
    )
    assert parse_vocabulary(later(words)).reloads


@pytest.mark.parametrize(
    "words",
    [
        "",
        '<property name="system" type="guest os"/>',
        '<property name="system" type="guest os"/><property name="ipsw" type="text"/>',
        '<property name="system" type="text"/><property name="ipsw" type="file"/>',
        '<property name="system" type="guest os"/><property name="source" type="file"/>',
    ],
)
def test_without_both_properties_make_cannot_create_a_macos_guest(words):
    assert parse_vocabulary(later(words)).makes_macos is None


@pytest.mark.parametrize(
    "sdef",
    [
        b"",
        b"not XML",
        NOW.encode()[:-3],
        b'<!DOCTYPE dictionary [<!ENTITY a "aa">]><dictionary>&a;</dictionary>',
        '<!DOCTYPE dictionary [<!ENTITY a SYSTEM "file:///etc/passwd">]><dictionary>&a;</dictionary>'.encode("utf-16"),
        b"<dictionary>" + b"<command/>" * 20_001 + b"</dictionary>",
    ],
)
def test_a_dictionary_that_is_none_is_refused(sdef):
    with pytest.raises(ToolFailed, match="scripting dictionary"):
        parse_vocabulary(sdef)


def test_a_utm_without_a_dictionary_is_told(tmp_path):
    with pytest.raises(HostLacks, match="no scripting dictionary"):
        read_vocabulary(tmp_path / "UTM.app")


def test_a_dictionary_is_read_up_to_a_limit(tmp_path):
    folder = tmp_path / "UTM.app/Contents/Resources"
    folder.mkdir(parents=True)
    Path(folder / "UTM.sdef").write_bytes(b" " * (2 << 20))

    with pytest.raises(Refused, match="larger than"):
        read_vocabulary(tmp_path / "UTM.app")
