"""Reading a request's head; what is hostile in one is in tests/integration/test_proxy_hostile.py."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmkit.network.http_request import Denied, Request, read_request


def read(content: bytes, *, limit: int = 1 << 16) -> Request:
    async def run() -> Request:
        reader = asyncio.StreamReader(limit=limit)
        reader.feed_data(content)
        reader.feed_eof()
        return await read_request(reader)

    return asyncio.run(run())


def test_tunnel() -> None:
    request = read(
        b"CONNECT Good.example:8443 HTTP/1.1\r\nHost: good.example:8443\r\nProxy-Connection: keep-alive\r\n\r\n"
    )

    assert request == Request(host=b"Good.example", port=8443)
    assert request.is_tunnel


@pytest.mark.parametrize("path", [b"", b"/", b"/debian/dists?x=%20&y=1"])
def test_page_is_asked_for_anew(path: bytes) -> None:
    request = read(
        b"GET http://plain.example"
        + path
        + b" HTTP/1.1\r\nHost: plain.example:80\r\nConnection: a, b\r\nA: 1\r\nB: 2\r\n"
        b"Keep-Alive: 5\r\nTE: x\r\nTrailer: x\r\nUpgrade: h2c\r\nExpect: 100-continue\r\nContent-Length: 0\r\nC: \t3 \r\n\r\n"
    )

    assert (request.host, request.port, request.is_tunnel) == (b"plain.example", 80, False)
    assert request.forward == (
        b"GET " + (path or b"/") + b" HTTP/1.1\r\nhost: plain.example\r\nc: 3\r\nconnection: close\r\n\r\n"
    )


def test_64_headers_and_16_kib_are_enough() -> None:
    head = b"CONNECT a.example:443 HTTP/1.1\r\n" + b"X: y\r\n" * 64 + b"\r\n"
    room = (16 << 10) - len(b"CONNECT a.example:443 HTTP/1.1\r\nX: \r\n")

    assert read(head).port == 443
    assert read(b"CONNECT a.example:443 HTTP/1.1\r\nX: " + b"y" * room + b"\r\n\r\n").port == 443
    with pytest.raises(Denied, match="longer than 16 KiB"):
        read(b"CONNECT a.example:443 HTTP/1.1\r\nX: " + b"y" * (room + 3) + b"\r\n\r\n")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_denied_or_too_few(content: bytes) -> None:
    with pytest.raises((Denied, EOFError)):
        read(content)


@settings(deadline=None)
@given(st.text(alphabet="aA1:/.@#?\r\n\t\0 %-[]", max_size=40), st.sampled_from(["CONNECT ", "GET http://", "GET "]))
def test_what_is_forwarded_has_one_host_and_one_end(text: str, method: str) -> None:
    try:
        request = read(f"{method}{text} HTTP/1.1\r\nHost: {text}\r\n\r\n".encode())
    except (Denied, EOFError):
        return
    assert request.forward.count(b"\r\n\r\n") == (0 if request.is_tunnel else 1)
    assert request.forward.lower().count(b"host:") <= 1
