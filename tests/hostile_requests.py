"""What a taken-over guest may say to a proxy, as data: hosts, ports, heads, addresses behind names, TLS."""

from tests.proxyworld import (
    client_hello,
    connect_to,
    extension,
    fragments,
    handshake,
    hello_body,
    made_hello,
    record,
    sni,
)

HELLO = client_hello()

HOSTS = [
    # NUL and other bytes that end a name for one parser and not for the other
    b"evil.example\0.wild.example", b"good.example\0", b"\0good.example", b"good.example\0.evil.example",
    b"good.example%00", b"evil.example%00.wild.example", b"%67ood.example", b"good%2eexample", b"good.example%0d%0a",
    b"good.example\t", b"\tgood.example", b"good.example\x0b", b"good.example\x7f", b"good.example\x1b[0m",
    b"good.example\r", b"good.example\n", b"good.example\x85",
    # dots, hyphens, lengths
    b"good.example.", b"good.example..", b".good.example", b"good..example", b"a.wild.example.", b".", b"..", b"",
    b"-good.example", b"good-.example", b"_good.example", b"good_example.example", b"a" * 64 + b".wild.example",
    b"a." * 130 + b"wild.example", b"*.wild.example", b"*", b"*.example", b"*.good.example",
    # not quite a name of the policy
    b"evil.example", b"EVIL.EXAMPLE", b"evilgood.example", b"good.example.evil.example", b"good.exampleevil",
    b"sub.good.example", b"wild.example", b"evilwild.example", b"a.wild.example.evil.example", b"good", b"example",
    # other scripts that look the same or fold to the same
    "g\u043e\u043ed.example".encode(), "\uff47ood.example".encode(), "good\u3002example".encode(), "good\u00ad.example".encode(),
    "good\u200d.example".encode(), "GOOD.EXAMPLE\u0130".encode(), b"xn--gd-4ka.example", b"xn--.example",
    b"\xef\xbb\xbfgood.example", b"good.example\xc2\xa0", b"good.ex\xffmple",
    # a user, a path, a query where a name belongs
    b"good.example@evil.example", b"evil.example@good.example", b"user:word@good.example",
    b"good.example:443@evil.example", b"evil.example#good.example", b"evil.example?good.example",
    b"evil.example/good.example", b"evil.example\\good.example", b"evil.example;good.example",
    b"evil.example,good.example", b"good.example:443:443", b'"good.example"', b"<good.example>", b"$(good.example)",
    b"http://good.example", b"unix:/run/good.example", b"good.example&evil.example", b"good.example|evil.example",
    # addresses, which no rule opens: 127.0.0.1 even has one
    b"127.0.0.1", b"127.0.0.1.", b"127.1", b"127.0.1", b"0", b"0.0.0.0", b"2130706433", b"0x7f000001", b"0x7f.1",
    b"0x7f.0.0.1", b"0177.0.0.1", b"017700000001", b"127.0.0.1%00", b"0300.0250.1.1", b"1.2.3.4", b"203.0.113.66",
    b"169.254.169.254", b"10.0.0.1", b"192.168.1.1", b"172.16.0.1", b"100.64.0.1", b"255.255.255.255",
    b"127.0.0.1.nip.io", "\uff11\uff12\uff17.0.0.1".encode(), "\u2460\u2461\u2466.0.0.1".encode(),
    b"[::1]", b"[::]", b"::1", b"[::ffff:127.0.0.1]", b"[::ffff:7f00:1]", b"[::127.0.0.1]", b"[fe80::1%25eth0]",
    b"[fe80::1%eth0]", b"[fd00::1]", b"[64:ff9b::7f00:1]", b"[2002:7f00:1::]", b"[::1", b"::1]", b"[good.example]",
    b"[]", b"[v1.fe80::a+en1]", b"0:0:0:0:0:0:0:1",
    # names of this computer and of clouds
    b"localhost", b"LOCALHOST", b"localhost.localdomain", b"ip6-localhost", b"metadata.google.internal",
    b"host.docker.internal",
]  # fmt: skip

PORTS = [
    b"0", b"-1", b"+443", b"00443", b"0443", b"65536", b"65979", b"99999", b"4294967739", b"443.0", b"0x1bb", b"443/",
    b"443 ", b" 443", b"443\t", b"443\0", b"443%00", b"443,80", b"443-444", b"", b"https", "\uff14\uff14\uff13".encode(), b"4" * 5000,
    b"22", b"25", b"53", b"80", b"444", b"8443",
]  # fmt: skip


def head(line: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([line, *headers]) + b"\r\n\r\n"


TO_GOOD = b"CONNECT good.example:443 HTTP/1.1"
GET_PLAIN = b"GET http://plain.example/ HTTP/1.1"
HOST_PLAIN = b"Host: plain.example"

HEADS = {
    # the request line
    "http09": b"GET /\r\n", "http09-absolute": b"GET http://plain.example/\r\n", "http09-connect": b"CONNECT good.example:443\r\n",
    "no-version": b"CONNECT good.example:443 \r\n\r\n", "http12": head(b"CONNECT good.example:443 HTTP/1.2"),
    "http20": head(b"CONNECT good.example:443 HTTP/2.0"), "http-long": head(b"CONNECT good.example:443 HTTP/1.1.1"),
    "version-lower": head(b"CONNECT good.example:443 http/1.1"), "method-lower": head(b"connect good.example:443 HTTP/1.1"),
    "method-mixed": head(b"Connect good.example:443 HTTP/1.1"), "two-blanks": head(b"CONNECT  good.example:443 HTTP/1.1"),
    "tabs": head(b"CONNECT\tgood.example:443\tHTTP/1.1"), "blank-before": head(b" " + TO_GOOD),
    "blank-after": head(TO_GOOD + b" "), "crlf-before": b"\r\n" + head(TO_GOOD), "two-targets": head(b"CONNECT good.example:443 evil.example:443 HTTP/1.1"),
    "no-port": head(b"CONNECT good.example HTTP/1.1"), "connect-url": head(b"CONNECT https://good.example:443 HTTP/1.1"),
    "connect-url-path": head(b"CONNECT http://good.example:443/ HTTP/1.1"), "connect-path": head(b"CONNECT / HTTP/1.1"),
    "connect-nothing": head(b"CONNECT HTTP/1.1"), "line-20k": head(b"CONNECT " + b"a" * 20_000 + b":443 HTTP/1.1"),
    "line-endless": b"C" * 200_000,
    # methods
    **{f"method-{word.decode()}": head(word + b" http://plain.example/ HTTP/1.1", HOST_PLAIN)
       for word in (b"POST", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"PROPFIND", b"MERGE", b"G", b"GETS", b"LINK")},
    "options-star": head(b"OPTIONS * HTTP/1.1", HOST_PLAIN), "h2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    # line ends
    "bare-lf": b"CONNECT good.example:443 HTTP/1.1\nHost: good.example\n\n", "bare-cr": b"CONNECT good.example:443 HTTP/1.1\rHost: good.example\r\r",
    "lf-in-headers": TO_GOOD + b"\r\nHost: good.example\nX: y\r\n\r\n", "cr-in-header": head(TO_GOOD, b"X: a\rHost: evil.example"),
    "double-cr": TO_GOOD + b"\r\r\n\r\r\n", "nul-in-header": head(TO_GOOD, b"X: a\0b"), "crlf-in-target": head(b"CONNECT good.example:443\r\nX: HTTP/1.1"),
    # headers
    "fold": head(TO_GOOD, b"Host: good.example", b" evil.example"), "fold-first": head(TO_GOOD, b" Host: good.example"),
    "fold-tab": head(TO_GOOD, b"X: a", b"\tb"), "blank-before-colon": head(TO_GOOD, b"Host : good.example"),
    "no-colon": head(TO_GOOD, b"Host"), "no-name": head(TO_GOOD, b": x"), "name-bytes": head(TO_GOOD, b"H\xc3\xb6st: x"),
    "value-escape": head(TO_GOOD, b"X: \x1b[2J"), "65-headers": head(TO_GOOD, *[b"X: y"] * 65),
    "10000-headers": head(TO_GOOD, *[b"X: y"] * 10_000), "header-64k": head(TO_GOOD, b"X: " + b"y" * (64 << 10)),
    "header-17k": head(TO_GOOD, b"X: " + b"y" * (17 << 10)), "headers-endless": TO_GOOD + b"\r\n" + b"X: y\r\n" * 50_000,
    "host-twice": head(TO_GOOD, b"Host: good.example", b"Host: good.example"), "host-two": head(TO_GOOD, b"Host: good.example", b"host: evil.example"),
    "host-other": head(TO_GOOD, b"Host: evil.example"), "host-other-port": head(TO_GOOD, b"Host: good.example:80"),
    "host-list": head(TO_GOOD, b"Host: good.example, evil.example"), "host-empty": head(TO_GOOD, b"Host:"),
    "connect-length": head(TO_GOOD, b"Content-Length: 5") + b"hello", "connect-chunked": head(TO_GOOD, b"Transfer-Encoding: chunked"),
    # plain HTTP
    "origin-form": head(b"GET / HTTP/1.1", HOST_PLAIN), "get-https": head(b"GET https://good.example/ HTTP/1.1", b"Host: good.example"),
    "get-ftp": head(b"GET ftp://plain.example/ HTTP/1.1", HOST_PLAIN), "get-file": head(b"GET file:///etc/passwd HTTP/1.1", HOST_PLAIN),
    "get-upper": head(b"GET HTTP://plain.example/ HTTP/1.1", HOST_PLAIN), "get-slashes": head(b"GET //plain.example/ HTTP/1.1", HOST_PLAIN),
    "get-three-slashes": head(b"GET http:///plain.example/ HTTP/1.1", HOST_PLAIN), "get-backslash": head(b"GET http:\\\\plain.example/ HTTP/1.1", HOST_PLAIN),
    "get-evil": head(b"GET http://evil.example/ HTTP/1.1", b"Host: evil.example"), "get-tls-host": head(b"GET http://good.example/ HTTP/1.1", b"Host: good.example"),
    "get-443": head(b"GET http://good.example:443/ HTTP/1.1", b"Host: good.example:443"), "get-8080": head(b"GET http://plain.example:8080/ HTTP/1.1", HOST_PLAIN),
    "get-userinfo": head(b"GET http://plain.example@evil.example/ HTTP/1.1", b"Host: plain.example"),
    "get-userinfo-port": head(b"GET http://plain.example:80@evil.example/ HTTP/1.1", b"Host: plain.example"),
    "get-query-host": head(b"GET http://evil.example?plain.example/ HTTP/1.1", HOST_PLAIN), "get-dot": head(b"GET http://plain.example./ HTTP/1.1", b"Host: plain.example."),
    "get-loopback": head(b"GET http://127.0.0.1/ HTTP/1.1", b"Host: 127.0.0.1"), "get-metadata": head(b"GET http://169.254.169.254/latest/meta-data/ HTTP/1.1", b"Host: 169.254.169.254"),
    "get-ipv6": head(b"GET http://[::1]/ HTTP/1.1", b"Host: [::1]"), "get-other-host": head(GET_PLAIN, b"Host: evil.example"),
    "get-evil-host-good": head(b"GET http://evil.example/ HTTP/1.1", HOST_PLAIN), "get-no-host": head(GET_PLAIN), "get-two-hosts": head(GET_PLAIN, HOST_PLAIN, b"Host: evil.example"),
    "get-body": head(GET_PLAIN, HOST_PLAIN, b"Content-Length: 5") + b"hello", "get-two-lengths": head(GET_PLAIN, HOST_PLAIN, b"Content-Length: 0", b"Content-Length: 44"),
    "get-length-list": head(GET_PLAIN, HOST_PLAIN, b"Content-Length: 0, 44"), "get-length-plus": head(GET_PLAIN, HOST_PLAIN, b"Content-Length: +0"),
    "get-chunked": head(GET_PLAIN, HOST_PLAIN, b"Transfer-Encoding: chunked") + b"0\r\n\r\n", "get-chunked-tab": head(GET_PLAIN, HOST_PLAIN, b"Transfer-Encoding:\tchunked"),
    "get-chunked-blank": head(GET_PLAIN, HOST_PLAIN, b"Transfer-Encoding : chunked"), "get-identity": head(GET_PLAIN, HOST_PLAIN, b"transfer-encoding: identity"),
    "get-xchunked": head(GET_PLAIN, HOST_PLAIN, b"Transfer-Encoding: xchunked"), "get-both": head(GET_PLAIN, HOST_PLAIN, b"Content-Length: 0", b"Transfer-Encoding: chunked"),
    "get-fragment": head(b"GET http://plain.example/#x HTTP/1.1", HOST_PLAIN), "get-path-blank": head(b"GET http://plain.example/a b HTTP/1.1", HOST_PLAIN),
    "get-path-escape": head(b"GET http://plain.example/\x1b HTTP/1.1", HOST_PLAIN), "get-path-utf8": head("GET http://plain.example/ü HTTP/1.1".encode(), HOST_PLAIN),
    # not HTTP at all
    "socks4": b"\4\1\1\xbb\xcb\0\x71\x42user\0", "socks4a": b"\4\1\1\xbb\0\0\0\1user\0good.example\0", "socks5": b"\5\1\0",
    "socks5-connect": b"\5\1\0\5\1\0\3\x1agood.example\0.evil.example\1\xbb", "tls": HELLO, "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "smtp": b"EHLO good.example\r\n", "proxy-v1": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + head(TO_GOOD),
    "proxy-v2": b"\r\n\r\n\0\r\nQUIT\n" + bytes(20), "zeros": bytes(4096), "high": b"\xff" * 4096, "blank-lines": b"\r\n" * 200,
    "redis": b"*1\r\n$4\r\nPING\r\n", "digits": b"1" * 100, "dns": b"\0\x1d\xaa\xaa\1\0\0\1\0\0\0\0\0\0\4good\7example\0\0\1\0\1",
}  # fmt: skip

BAD_ADDRESSES = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1",
    "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%1", "febf::1", "fec0::2", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "2001:0:cb00:7101::80ff:fffe", "2001:0:7f00:1::1",
    "2001:db8::5efe:127.0.0.1", "localhost", "127.1", "", "good.example",
]  # fmt: skip

SAID_IN_TUNNEL = {
    "sni-evil": client_hello("evil.example"), "sni-parent": made_hello(b"example"), "sni-child": client_hello("a.good.example"),
    "sni-wild": client_hello("a.wild.example"), "no-sni": client_hello(None), "sni-dot": made_hello(b"good.example."),
    "sni-nul": made_hello(b"good.example\0.evil.example"), "sni-nul-end": made_hello(b"good.example\0"), "sni-empty": made_hello(b""),
    "sni-number": made_hello(b"127.0.0.1"), "sni-blank": made_hello(b" good.example"), "two-names": made_hello(b"good.example", b"evil.example"),
    "same-name-twice": made_hello(b"good.example", b"good.example"), "no-names": made_hello(),
    "two-extensions": record(handshake(hello_body(sni(b"good.example"), sni(b"evil.example")))),
    "name-kind": record(handshake(hello_body(sni(b"good.example", kind=1)))),
    "no-extensions": record(handshake(hello_body()[:-2])), "ech-outer-evil": record(handshake(hello_body(sni(b"evil.example"), extension(0xFE0D, bytes(64))))),
    "ech-no-outer": record(handshake(hello_body(extension(0xFE0D, bytes(64))))),
    "fragments-evil": fragments(client_hello("evil.example"), 7), "second-hello-joined": record(handshake(hello_body(sni(b"good.example"))) * 2),
    "plain-http": b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "second-connect": connect_to("evil.example"), "ssh": b"SSH-2.0-x\r\n",
    "zeros": bytes(64), "alert": record(b"\2\x28", kind=21), "data": record(b"hello", kind=23), "ccs": record(b"\1", kind=20),
    "sslv2": b"\x80\x2e\1\3\1\0\x15\0\0\0\x10" + bytes(40), "server-hello": record(handshake(hello_body(sni(b"good.example")), kind=2)),
    "empty-record": record(b"") * 10, "record-too-long": record(b"\1", length=0x4001), "record-length-lies": record(b"\1\0\0\5", length=0x3000),
    "version": b"\x16\2\0" + HELLO[3:], "hello-2mb": record(handshake(bytes(100), length=2 << 20)),
    "hello-17k": b"".join(record(part) for part in (handshake(bytes(16000), length=17 << 10), bytes(2000))),
    "hello-short": record(handshake(hello_body(sni(b"good.example")), length=20)), "session-lies": record(handshake(b"\3\3" + bytes(32) + b"\xff\0")),
    "name-length-lies": record(handshake(hello_body(extension(0, b"\0\x10\0\xff\xffgood.example")))),
    "list-length-lies": record(handshake(hello_body(extension(0, b"\0\x02\0\0\x0cgood.example")))),
    "extension-lies": record(handshake(hello_body(b"\0\0\xff\xff"))), "tail": record(handshake(hello_body(sni(b"good.example"), tail=b"x"))),
    "one-byte": b"\x16", "half": HELLO[: len(HELLO) // 2], "nothing": b"", "tiny-fragments": fragments(record(handshake(bytes(8000))), 1),
}  # fmt: skip
