"""A signed statement has one spelling: every other one is refused, before anything of it is used."""

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmkit.errors import Refused
from vmkit.images.signing.statement import MAX_SEQUENCE, Statement, parse_statement, render_statement

STATEMENT = Statement(
    name="kiro:1.4.0",
    digest="sha256:" + "ab" * 32,
    sequence=1_795_344_725_984,
    created=dt.datetime(2026, 11, 22, 10, 0, 0, tzinfo=dt.UTC),
    expires=dt.datetime(2027, 11, 22, 10, 0, 0, tzinfo=dt.UTC),
)
CONTENT = render_statement(STATEMENT)


def changed(**predicate: object) -> bytes:
    value = json.loads(CONTENT)
    value["predicate"] |= predicate
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_it_is_an_in_toto_statement_of_the_manifest():
    value = json.loads(CONTENT)

    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert value["subject"] == [{"name": "kiro:1.4.0", "digest": {"sha256": "ab" * 32}}]
    assert value["predicate"]["line"] == "kiro"
    assert value["predicate"]["expires"] == "2027-11-22T10:00:00Z"


def test_what_is_written_is_read():
    assert parse_statement(CONTENT) == STATEMENT


@pytest.mark.parametrize(
    "sequence",
    ["-1", str(MAX_SEQUENCE + 1), str(1 << 63), "1" + "0" * 5000, "true", "1.0", "1e3", '"1"', "null", "[1]", "NaN"],
    ids=lambda text: text[:20],
)
def test_a_sequence_that_is_none_is_refused(sequence):
    with pytest.raises(Refused):
        parse_statement(changed(sequence=0).replace(b'"sequence":0', b'"sequence":' + sequence.encode()))


def test_the_largest_sequence_is_one():
    assert parse_statement(changed(sequence=MAX_SEQUENCE)).sequence == MAX_SEQUENCE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        CONTENT + b"\n",
        CONTENT.replace(b":", b": ", 1),
        CONTENT[:-1] + b',"_type":"https://in-toto.io/Statement/v1"}',
        CONTENT.replace(b'"line":"kiro"', b'"line":"other"'),
        CONTENT.replace(b'"line":"kiro"', b'"line":"other","line":"kiro"'),
        CONTENT.replace(b"https://in-toto.io/Statement/v1", b"https://in-toto.io/Statement/v2"),
        CONTENT.replace(b"kiro:1.4.0", b"../../x:1"),
        CONTENT.replace(b"kiro:1.4.0", b"kiro"),
        CONTENT.replace(b"ab" * 32, b"AB" * 32),
        CONTENT.replace(b"2027-11-22T10:00:00Z", b"2027-13-22T10:00:00Z"),
        CONTENT.replace(b"2027-11-22T10:00:00Z", b"never"),
        changed(more=1),
        changed(expires=None),
        CONTENT + b" " * (17 << 10),
    ],
)
def test_every_other_spelling_is_refused(content):
    with pytest.raises(Refused):
        parse_statement(content)


@given(st.binary(max_size=200), st.integers(0, len(CONTENT)), st.integers(0, 40))
def test_no_change_of_the_bytes_reads_as_the_same_statement(inserted, at, removed):
    content = CONTENT[:at] + inserted + CONTENT[at + removed :]

    try:
        read = parse_statement(content)
    except Refused:
        return
    assert render_statement(read) == content
