"""Reading a ClientHello from whatever bytes come."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.proxyworld import client_hello, extension, fragments, handshake, hello_body, made_hello, record, sni
from vmkit.errors import Refused
from vmkit.network.hello import Hello, read_hello


def read(content: bytes) -> Hello:
    async def run() -> Hello:
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        reader.feed_eof()
        return await read_hello(reader)

    return asyncio.run(run())


@pytest.mark.parametrize("size", [1, 3, 64, 1 << 14])
def test_name_and_bytes_are_found_in_fragments(size: int) -> None:
    hello = fragments(client_hello("good.example"), size)

    assert read(hello + b"what follows") == Hello(hello, b"good.example")


def test_outer_name_counts_with_encrypted_hello() -> None:
    hello = record(handshake(hello_body(extension(0xFE0D, bytes(99)), sni(b"outer.example"))))

    assert read(hello).server_name == b"outer.example"


def test_end_in_the_middle_is_the_end() -> None:
    with pytest.raises(EOFError):
        read(client_hello()[:100])


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_are_refused_or_too_few(content: bytes) -> None:
    with pytest.raises((Refused, EOFError)):
        read(content)


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 200))
def test_any_change_is_refused_or_names_one_host(noise: bytes, at: int) -> None:
    hello = made_hello(b"good.example")

    try:
        found = read(hello[:at] + noise + hello[at + len(noise) :])
    except (Refused, EOFError):
        return
    assert found.server_name in found.raw
