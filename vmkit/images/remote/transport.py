"""Requests to one registry: its address and certificates, its challenge, redirects, and another try where time heals.

Credentials go to the registry itself and to nobody it redirects to. Bytes are taken as they are sent, never decoded.
"""

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from vmkit import __version__
from vmkit.errors import Refused, UsageError
from vmkit.host.text import printable
from vmkit.images.remote.auth import Authorizer
from vmkit.images.remote.base import Absent, Denied, RegistryFailed, Unreachable
from vmkit.images.remote.credentials import Credential
from vmkit.images.remote.reference import is_loopback

_CONNECT_S, _READ_S = 15.0, 60.0
_ATTEMPTS = 5
_LONGEST_PAUSE_S = 30.0
_MAX_REDIRECTS = 5
_MAX_ERROR_BYTES = 64 << 10
_MAX_TOKEN_BYTES = 1 << 20
_SMALL_S = 120.0  # for an answer that is held in memory, however slowly it comes
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}

Body = bytes | Callable[[], Iterator[bytes]] | None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """How a registry is reached. `plain_http` None: http on loopback, https elsewhere."""

    host: str
    plain_http: bool | None = None
    ca_file: Path | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is spoken to without TLS."""
        return (is_loopback(self.host) and not self.ca_file) if self.plain_http is None else self.plain_http

    @property
    def base(self) -> str:
        """The address without a path."""
        return f"{'http' if self.is_plain else 'https'}://{self.host}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that was small enough to hold. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """The connections to one registry, for all threads of one transfer; close it at the end."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        scopes: tuple[str, ...],
        find_credential: Callable[[str], Credential | None],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        read_timeout_s: float = _READ_S,
    ) -> None:
        import httpx  # noqa: PLC0415  # 100 ms and more that only a transfer pays

        self.endpoint, self._sleep, self.clock = endpoint, sleep, clock
        verify = _tls(endpoint)
        # A proxy from the environment is for the world outside; loopback is reached directly.
        direct = {
            f"all://{host}": httpx.HTTPTransport(verify=verify, trust_env=False)
            for host in ("localhost", "127.0.0.1", "[::1]")
        }
        self._client = httpx.Client(
            headers={"User-Agent": f"vmkit/{__version__}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(read_timeout_s, connect=_CONNECT_S),
            verify=verify,
            mounts=direct,
            follow_redirects=False,
        )
        self._authorizer = Authorizer(
            host=endpoint.host,
            plain_http=endpoint.is_plain,
            scopes=scopes,
            find=find_credential,
            ask=self._ask_for_token,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def small(
        self,
        method: str,
        url: str,
        *,
        ok: set[int],
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        again: bool = True,
    ) -> Answer:
        """Ask, and return an answer whose status is in `ok`. Raises Absent, Denied, RegistryFailed, Unreachable."""
        with self.opened(method, url, headers=headers, body=body, again=again) as response:
            if response.status_code not in ok:
                raise self.failed(response, url)
            content = b"" if method == "HEAD" else self._read(response, max_bytes=max_bytes)
            found = {name.lower(): value for name, value in response.headers.items()}
            return Answer(status=response.status_code, headers=found, body=content)

    @contextlib.contextmanager
    def opened(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Body = None, again: bool = True
    ) -> Iterator[Any]:
        """Give the response to a request, whatever its status, unread. `again`: it may be sent more than once."""
        import httpx  # noqa: PLC0415  # as above

        try:
            response = self._tried(method, url, headers or {}, body, again=again)
            try:
                yield response
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise Unreachable(
                f'"{self.endpoint.host}" does not answer as it should',
                detail=printable(f"{method} {_without_query(url)}: {type(error).__name__}: {error}", max_chars=400),
                hint=_hint(self.endpoint, error),
            ) from error

    def failed(self, response: Any, url: str) -> Exception:
        """Return the error for an answer that is none, with what the registry says in it."""
        status, host = response.status_code, self.endpoint.host
        said = _registry_words(self._read(response, max_bytes=_MAX_ERROR_BYTES, strict=False))
        detail = (
            f"{response.request.method} {printable(_without_query(url), max_chars=300)}: HTTP {status} {said}".rstrip()
        )
        if status in {401, 403}:
            return Denied(f'"{host}" does not allow this', detail=detail, hint=f"docker login {host}")
        if status == 404:
            return Absent(f'"{host}" has no such image', detail=detail)
        if status in _WORTH_ANOTHER_TRY:
            return Unreachable(f'"{host}" answers with an error', detail=detail, hint="try again later")
        return RegistryFailed(f'"{host}" did not do as asked', detail=detail)

    def resolve(self, location: str, *, what: str) -> str:
        """Return an address of the registry's own that it gave us for `what`. Raises Refused for anybody else's."""
        try:
            url = urljoin(self.endpoint.base, location)
            theirs, ours = urlsplit(url), urlsplit(self.endpoint.base)
            fine = len(url) <= 16384 and _origin(theirs) == _origin(ours) and not (theirs.username or theirs.password)
        except ValueError:
            fine, url = False, location
        if not fine or printable(url) != url or " " in url:
            raise Refused(
                f'"{self.endpoint.host}" wants {what} to go elsewhere',
                detail=printable(_without_query(url), max_chars=300),
                hint="a registry behind a proxy has to know its own address",
            )
        return url

    def _tried(self, method: str, url: str, headers: Mapping[str, str], body: Body, *, again: bool) -> Any:
        import httpx  # noqa: PLC0415  # as above

        for attempt in range(_ATTEMPTS):
            is_last = attempt == _ATTEMPTS - 1 or not again
            try:
                response = self._sent(method, url, headers, body)
            except httpx.TransportError as error:
                if is_last or _is_final(error):
                    raise
                self._sleep(0.5 * 2**attempt)
                continue
            if response.status_code not in _WORTH_ANOTHER_TRY or is_last:
                return response
            response.close()
            self._sleep(_pause(response.headers.get("retry-after", ""), attempt))
        raise AssertionError  # the last attempt returns or raises

    def _sent(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> Any:
        """Send once, once more after a challenge, and then where the answer redirects to, without credentials."""
        response = self._send(method, url, headers, body, used := self._authorizer.header)
        if response.status_code == 401:
            response.close()
            authorization = self._authorizer.answer(response.headers.get_list("www-authenticate"), used=used)
            response = self._send(method, url, headers, body, authorization)
        for _ in range(_MAX_REDIRECTS):
            if method not in {"GET", "HEAD"} or not response.has_redirect_location:
                return response
            response.close()
            url = self._redirected(url, response.headers["location"])
            ours = self._authorizer.header if _origin(urlsplit(url)) == self._origin else None
            response = self._send(method, url, headers, None, ours)
        response.close()
        raise Refused(f'"{self.endpoint.host}" redirects more than {_MAX_REDIRECTS} times')

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: Body, authorization: str | None) -> Any:
        sent = {**headers, "Authorization": authorization} if authorization else dict(headers)
        content = body() if callable(body) else body
        return self._client.send(self._client.build_request(method, url, headers=sent, content=content), stream=True)

    @property
    def _origin(self) -> tuple[str, str | None, int | None]:
        return _origin(urlsplit(self.endpoint.base))

    def _redirected(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            parts = urlsplit(target)
            # Over http only what the user lets this registry do, and from there to nobody else's computer.
            fine = parts.scheme == "https" or (
                parts.scheme == "http" and self.endpoint.is_plain and _origin(parts)[:2] == self._origin[:2]
            )
            fine = fine and bool(parts.hostname) and not (parts.username or parts.password)
        except ValueError:
            fine, target = False, location
        if not fine or printable(target) != target:
            raise Refused(
                f'"{self.endpoint.host}" redirects to an address that is not asked',
                detail=printable(_without_query(target), max_chars=300),
            )
        return target

    def _ask_for_token(self, url: str, *, authorization: str | None, form: bytes | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        response = self._send("POST" if form else "GET", url, headers, form, authorization)
        try:
            return response.status_code, self._read(response, max_bytes=_MAX_TOKEN_BYTES)
        finally:
            response.close()

    def _read(self, response: Any, *, max_bytes: int, strict: bool = True) -> bytes:
        """Return the body. Raises Refused over `max_bytes`, or cuts it when not `strict`."""
        content, begun = bytearray(), self.clock()
        for block in response.iter_raw():
            content += block
            if self.clock() - begun > _SMALL_S:
                raise Unreachable(f'"{self.endpoint.host}" is too slow', detail=f"{len(content)} bytes came in time")
            if len(content) > max_bytes:
                if not strict:
                    break
                raise Refused(f'"{self.endpoint.host}" sends more than {max_bytes} bytes where less would do')
        return bytes(content[:max_bytes])


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    import httpx  # noqa: PLC0415  # as above

    context = httpx.create_ssl_context()
    if endpoint.ca_file is not None:
        try:
            context.load_verify_locations(cafile=endpoint.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f'"{endpoint.ca_file}" is not a file of certificates',
                detail=printable(str(error), max_chars=200),
                hint=f"vmkit config set 'registry.\"{endpoint.host}\".ca_file' FILE",
            ) from error
    return context


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _pause(retry_after: str, attempt: int) -> float:
    asked = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() and len(retry_after) < 6 else 0.0
    return float(min(max(asked, 0.5 * 2**attempt), _LONGEST_PAUSE_S))


def _is_final(error: Exception) -> bool:
    """Tell whether time does not heal it: a certificate stays wrong, and so does a server without TLS."""
    return "CERTIFICATE" in str(error) or "WRONG_VERSION_NUMBER" in str(error)


def _hint(endpoint: Endpoint, error: Exception) -> str:
    setting = f'vmkit config set \'registry."{endpoint.host}".'
    if "CERTIFICATE" in str(error):
        return f"{setting}ca_file' FILE, with the authority that signed its certificate"
    if "SSL" in str(error) and not endpoint.is_plain:
        return f"{setting}plain_http' true, if it speaks no TLS and nobody is between you and it"
    return "check the network and any proxy; the same command goes on from where it was"


def _registry_words(body: bytes) -> str:
    """Return what the error body of a registry says: codes and messages."""
    import json  # noqa: PLC0415  # only a failure needs it

    try:
        errors = json.loads(body)["errors"]
        words = [f"{error.get('code', '')} {error.get('message', '')}".strip() for error in errors[:3]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    return printable("; ".join(words), max_chars=300)


def _without_query(url: str) -> str:
    return url.partition("?")[0]  # a query may hold what lets others in
