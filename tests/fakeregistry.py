"""A registry on loopback that keeps to the OCI distribution protocol until a test tells it not to."""

import base64
import contextlib
import hashlib
import json
import re
import ssl
import threading
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass
class Faults:
    """What goes wrong. Digests and paths name what with."""

    answers: dict[str, list[int]] = field(default_factory=dict)  # part of METHOD PATH → statuses to give first
    flipped: set[str] = field(default_factory=set)  # blobs whose last byte is another
    longer: set[str] = field(default_factory=set)  # blobs that do not end where they should
    cut_after: int | None = None  # hang up after so many bytes of a blob
    cuts: int = 1
    ignore_ranges: bool = False
    other_range: bool = False
    redirect_blobs: str | None = None
    upload_location: str | None = None
    manifest: bytes | None = None  # instead of every manifest asked for by tag
    says_digest: str | None = None
    referrers_api: bool = False
    forget_index: int = 0  # this many writes of an index are lost to somebody else's
    drips: bool = False  # blobs come ten bytes at a time


@dataclass
class FakeRegistry:
    """Serve blobs and manifests of any repository. `login`: user and password; `bearer`: tokens instead of Basic."""

    login: tuple[str, str] | None = None
    bearer: bool = False
    realm: str | None = None
    accept_token: bool = True
    tls: ssl.SSLContext | None = None
    faults: Faults = field(default_factory=Faults)
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._http.daemon_threads = True
        if self.tls:
            self._http.socket = self.tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.host = f"127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def asked(self, method: str, part: str = "") -> list[tuple[str, dict[str, str]]]:
        return [(path, headers) for verb, path, headers in self.requests if verb == method and part in path]

    def keep(self, repository: str, content: bytes) -> str:
        self.blobs.setdefault(repository, {})[digest_of(content)] = content
        return digest_of(content)

    def tag(
        self,
        repository: str,
        version: str,
        content: bytes,
        media_type: str = "application/vnd.oci.image.manifest.v1+json",
    ) -> None:
        self.manifests[repository, version] = self.manifests[repository, digest_of(content)] = (media_type, content)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are sent apart: each answer would wait 40 ms

    def __init__(self, world: FakeRegistry, *arguments) -> None:
        self.world = world
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
            super().handle()

    def do_HEAD(self) -> None:
        self.serve()

    do_GET = do_POST = do_PUT = do_HEAD  # noqa: N815  # names that http.server looks for

    def serve(self) -> None:
        world, parts = self.world, urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with world.lock:
            world.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
            for part, statuses in world.faults.answers.items():
                if part in f"{self.command} {self.path}" and statuses:
                    return self.answer(
                        statuses.pop(0), json.dumps({"errors": [{"code": "OOPS", "message": "\x1b[31mno"}]}).encode()
                    )
        if parts.path == "/token":
            return self.token()
        if world.login and not self.allowed():
            realm = world.realm or f"http://{world.host}/token"
            way = (
                f'Bearer realm="{realm}",service="fake",scope="repository:stolen:pull"'
                if world.bearer
                else 'Basic realm="x"'
            )
            return self.answer(401, b"{}", {"WWW-Authenticate": way})
        match = re.fullmatch(r"/v2/(.+)/(blobs/uploads|blobs|manifests|referrers)/(.*)", parts.path)
        if not match:
            return self.answer(404, b"{}")
        what = {
            "blobs/uploads": self.upload,
            "blobs": self.blob,
            "manifests": self.manifest,
            "referrers": self.referrers,
        }
        return what[match[2]](match[1], match[3], parse_qs(parts.query))

    def allowed(self) -> bool:
        got, world = self.headers.get("authorization", ""), self.world
        return got == ("Bearer good" if world.bearer else self.basic())

    def basic(self) -> str:
        return "Basic " + base64.b64encode(":".join(self.world.login).encode()).decode()

    def token(self) -> None:
        if self.headers.get("authorization", "") != self.basic() and b"refresh_token=again" not in self.body:
            return self.answer(401, b"{}")
        return self.answer(200, json.dumps({"token": "good" if self.world.accept_token else "bad"}).encode())

    def upload(self, repository: str, rest: str, query: dict[str, list[str]]) -> None:
        world = self.world
        if self.command == "POST":
            digest, other = query.get("mount", [""])[0], query.get("from", [""])[0]
            if digest in world.blobs.get(other, {}):
                world.keep(repository, world.blobs[other][digest])
                return self.answer(201, b"", {"Location": f"/v2/{repository}/blobs/{digest}"})
            where = world.faults.upload_location or f"/v2/{repository}/blobs/uploads/{uuid.uuid4()}?_state=x"
            return self.answer(202, b"", {"Location": where})
        if digest_of(self.body) != query["digest"][0]:
            return self.answer(400, json.dumps({"errors": [{"code": "DIGEST_INVALID"}]}).encode())
        world.keep(repository, self.body)
        return self.answer(201, b"")

    def blob(self, repository: str, digest: str, _: object) -> None:
        faults, content = self.world.faults, self.world.blobs.get(repository, {}).get(digest)
        if content is None:
            return self.answer(404, b"{}")
        if self.command == "HEAD":
            return self.answer(200, content)
        if faults.redirect_blobs and "elsewhere" not in repository:
            return self.answer(307, b"", {"Location": faults.redirect_blobs.format(digest=digest)})
        if digest in faults.flipped:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if digest in faults.longer:
            content += bytes(1 << 20)
        status, headers, asked = 200, {}, re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        if asked and not faults.ignore_ranges:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start + faults.other_range}-{len(content) - 1}/{len(content)}"
            status, content = 206, content[start:]
        return self.answer(status, content, headers, cut=True)

    def manifest(self, repository: str, version: str, _: object) -> None:
        world = self.world
        if self.command == "PUT":
            headers, said = (
                {"Docker-Content-Digest": world.faults.says_digest or digest_of(self.body)},
                json.loads(self.body),
            )
            if said.get("mediaType") == INDEX and world.faults.forget_index > 0:
                world.faults.forget_index -= 1
                return self.answer(201, b"", headers)
            if world.faults.referrers_api and "subject" in said:
                headers["OCI-Subject"] = said["subject"]["digest"]
            world.tag(repository, version, self.body, self.headers["content-type"])
            return self.answer(201, b"", headers)
        found = world.manifests.get((repository, version))
        if found is None:
            return self.answer(404, b"{}")
        content = world.faults.manifest if world.faults.manifest is not None else found[1]
        headers = {"Content-Type": found[0], "Docker-Content-Digest": world.faults.says_digest or digest_of(content)}
        return self.answer(200, content, headers)

    def referrers(self, repository: str, digest: str, _: object) -> None:
        if not self.world.faults.referrers_api:
            return self.answer(404, b"404 page not found", {"Content-Type": "text/plain"})
        listed = []
        for (name, version), (media_type, content) in self.world.manifests.items():
            said = json.loads(content)
            if name == repository and version.startswith("sha256:") and said.get("subject", {}).get("digest") == digest:
                listed.append(
                    {
                        "mediaType": media_type,
                        "digest": version,
                        "size": len(content),
                        "artifactType": said["artifactType"],
                    }
                )
        content = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).encode()
        return self.answer(200, content, {"Content-Type": INDEX})

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        faults = self.world.faults
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut and faults.cut_after is not None and faults.cuts > 0 and len(content) > faults.cut_after:
            faults.cuts -= 1
            content = content[: faults.cut_after]
            self.close_connection = True
        if cut and faults.drips:
            for start in range(0, len(content), 10):
                self.wfile.write(content[start : start + 10])
                time.sleep(0.01)
            return
        self.wfile.write(content)
