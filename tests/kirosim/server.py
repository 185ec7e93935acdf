"""Serve the release mirror and the authorization service on loopback, with faults on demand."""

import json
import re
import socket
import ssl
import sys
import threading
import urllib.parse
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.kirosim import page
from tests.kirosim.service import DEVICE_GRANT, EMAIL, PROFILES, Decision, Service

_MAX_BODY = 64 << 10


@dataclass
class Faults:
    """What goes wrong when an archive is asked for."""

    cut_after: int | None = None  # hang up after so many bytes of one answer
    cuts: int = 1  # how many times
    ignore_ranges: bool = False
    html: bool = False
    status: int | None = None
    redirect_to: str | None = None


class Server:
    """A running kirosim. `requests` keeps method, path and Range of every request for tests to look at.

    `listener`: a socket to serve on instead of a port of this computer; with `tls`, over TLS.
    """

    def __init__(
        self,
        *,
        mirror: Path | None = None,
        service: Service | None = None,
        port: int = 0,
        listener: socket.socket | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.mirror, self.service, self.faults = mirror, service or Service(), Faults()
        self.requests: list[tuple[str, str, str | None]] = []
        self.lock = threading.Lock()
        self._http = _Http(("127.0.0.1", port), partial(_Handler, self), bind_and_activate=listener is None)
        if listener:
            self._http.socket.close()
            self._http.socket = listener
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._http.server_port

    @property
    def address(self) -> str:
        """Its address on this computer."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def releases(self) -> str:
        """What to set VMKIT_KIRO_RELEASES to."""
        return f"{self.address}/stable"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that hang up; show everything else."""
        if not isinstance(sys.exc_info()[1], ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as socketserver calls it


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "kirosim", ""

    def __init__(self, owner: Server, *arguments: object) -> None:
        self.owner = owner
        super().__init__(*arguments)  # type: ignore[arg-type]  # what socketserver passes

    def log_message(self, *_: object) -> None:
        """Stay quiet: the fake's output is compared byte for byte."""

    def do_GET(self) -> None:
        path, query = self._split()
        self._remember(path)
        if path.startswith("/stable/"):
            self._file(path.removeprefix("/stable/"))
        elif path in {"/", "/start", "/start/", "/device", "/account/device"}:
            self._device_page(query.get("user_code", ""))
        elif path == "/kirosim/pending":
            self._json(200, {"kirosim": "a stand-in for the Kiro service", "pending": self.owner.service.pending()})
        elif path in {"/userinfo", "/profiles"}:
            self._for_token(path)
        else:
            self._json(404, {"error": "not_found"})

    def do_POST(self) -> None:
        path, _ = self._split()
        self._remember(path)
        routes = {
            "/register": self._register,
            "/device_authorization": self._device_authorization,
            "/token": self._token,
            "/oauth/device/authorization": self._social_authorization,
            "/oauth/device/poll": self._social_poll,
            "/chat": self._chat,
            "/device": self._decide_on_page,
            "/kirosim/decide": self._decide,
        }
        body = self._body()
        if body is None:
            self._json(400, {"error": "invalid_request"})
        elif path not in routes:
            self._json(404, {"error": "not_found"})
        else:
            routes[path](body)

    # RFC 8628, for Builder ID and Identity Center

    def _register(self, _: dict[str, str]) -> None:
        self._json(201, self.owner.service.register())

    def _device_authorization(self, body: dict[str, str]) -> None:
        service, client, start_url = self.owner.service, body.get("client_id", ""), body.get("start_url", "")
        if not service.knows(client):
            return self._json(401, {"error": "invalid_client"})
        if not start_url.startswith("https://"):
            return self._json(400, {"error": "invalid_request"})
        made = service.authorize(client, start_url=start_url)
        return self._json(
            200,
            {
                "device_code": made.device_code,
                "user_code": made.user_code,
                "verification_uri": made.complete_url.partition("?")[0],
                "verification_uri_complete": made.complete_url,
                "expires_in": service.lifetime_s,
                "interval": service.interval_s,
            },
        )

    def _token(self, body: dict[str, str]) -> None:
        service, client = self.owner.service, body.get("client_id", "")
        if body.get("grant_type") != DEVICE_GRANT:
            return self._json(400, {"error": "unsupported_grant_type"})
        if not service.knows(client):
            return self._json(401, {"error": "invalid_client"})
        told, found = service.poll(client, body.get("device_code", ""))
        if told == "approved" and found:
            return self._json(200, service.tokens(found))
        return self._json(400, {"error": told})

    # the social flow, with the names that were recorded

    def _social_authorization(self, body: dict[str, str]) -> None:
        provider = body.get("loginProvider", "")
        if provider not in {"Google", "GitHub"}:
            return self._json(400, {"error": "invalid_request"})
        service = self.owner.service
        made = service.authorize(body.get("clientId", ""), start_url="", provider=provider)
        return self._json(
            200,
            {
                "deviceCode": made.device_code,
                "userCode": made.user_code,
                "verificationUriComplete": made.complete_url,
                "expiresInMilliseconds": int(service.lifetime_s * 1000),
                "intervalInMilliseconds": int(service.interval_s * 1000),
            },
        )

    def _social_poll(self, body: dict[str, str]) -> None:
        service = self.owner.service
        told, found = service.poll(body.get("clientId", ""), body.get("deviceCode", ""))
        if told == "approved" and found:
            tokens = service.tokens(found)
            return self._json(
                200,
                {
                    "status": "authorized",
                    "accessToken": tokens["access_token"],
                    "refreshToken": tokens["refresh_token"],
                },
            )
        return self._json(200, {"status": "invalid_token" if told == "invalid_grant" else told})

    def _for_token(self, path: str) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.owner.service.holder(token) is None:
            return self._json(401, {"error": "invalid_token"})
        return self._json(200, {"email": EMAIL} if path == "/userinfo" else {"profiles": PROFILES})

    def _chat(self, body: dict[str, str]) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.owner.service.holder(token) is None:
            return self._json(401, {"error": "invalid_token"})
        return self._json(200, {"reply": f"kirosim: a reply of the simulated service to: {body.get('prompt', '')}"})

    # the page, and the same for tests

    def _device_page(self, user_code: str) -> None:
        found = self.owner.service.find(user_code) if user_code else None
        self._html(page.consent(found) if found else page.enter_code(wrong=bool(user_code)))

    def _decide_on_page(self, body: dict[str, str]) -> None:
        found = self.owner.service.find(body.get("user_code", ""))
        if found is None or body.get("decision") not in {Decision.APPROVED, Decision.DENIED}:
            return self._html(page.enter_code(wrong=True), status=400)
        self.owner.service.decide(found.user_code, Decision(body["decision"]))
        return self._html(page.consent(found))

    def _decide(self, body: dict[str, str]) -> None:
        if body.get("decision") not in set(Decision):
            return self._json(400, {"error": "invalid_request"})
        done = self.owner.service.decide(body.get("user_code", ""), Decision(body["decision"]))
        return self._json(200 if done else 404, {"decided": done})

    # files

    def _file(self, name: str) -> None:
        faults, root = self.owner.faults, self.owner.mirror
        is_archive = not name.endswith(".json")
        if is_archive and faults.redirect_to:
            return self._answer(302, b"", "text/plain", {"Location": faults.redirect_to})
        if is_archive and faults.status:
            return self._answer(faults.status, b"", "text/plain")
        if is_archive and faults.html:
            return self._html("<!doctype html><p>Welcome to the hotel.</p>")
        path = root / name if root and ".." not in name.split("/") else None
        if path is None or not path.is_file():
            return self._json(404, {"error": "not_found"})
        content, start = path.read_bytes(), 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and not faults.ignore_ranges:
            start = int(asked[1])
            if start >= len(content):
                return self._answer(416, b"", "text/plain", {"Content-Range": f"bytes */{len(content)}"})
        extra = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        extra["Accept-Ranges"] = "bytes"
        kind = "application/octet-stream" if is_archive else "application/json"
        return self._answer(206 if start else 200, content[start:], kind, extra, may_cut=is_archive)

    # plumbing

    def _split(self) -> tuple[str, dict[str, str]]:
        parts = urllib.parse.urlsplit(self.path)
        return urllib.parse.unquote(parts.path), dict(urllib.parse.parse_qsl(parts.query))

    def _remember(self, path: str) -> None:
        self.owner.requests.append((self.command, path, self.headers.get("Range")))

    def _body(self) -> dict[str, str] | None:
        length = self.headers.get("Content-Length") or "0"
        if not length.isdigit() or int(length) > _MAX_BODY:
            self.close_connection = True
            return None
        content = self.rfile.read(int(length)).decode("utf-8", "replace")
        if (self.headers.get("Content-Type") or "").startswith("application/json"):
            try:
                found = json.loads(content)
            except ValueError:
                return None
            return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else None
        return dict(urllib.parse.parse_qsl(content))

    def _json(self, status: int, value: dict[str, object]) -> None:
        self._answer(status, json.dumps(value).encode(), "application/json")

    def _html(self, text: str, *, status: int = 200) -> None:
        self._answer(status, text.encode(), "text/html; charset=utf-8")

    def _answer(
        self, status: int, content: bytes, kind: str, extra: dict[str, str] | None = None, *, may_cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(extra or {})}.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        cut = self._take_cut(len(content)) if may_cut else None
        self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.close_connection = True

    def _take_cut(self, length: int) -> int | None:
        with self.owner.lock:
            faults = self.owner.faults
            if faults.cut_after is None or faults.cuts <= 0 or faults.cut_after >= length:
                return None
            faults.cuts -= 1
            return faults.cut_after
