"""Answer a registry's challenge: Basic, or Bearer with a token bought from the server that the challenge names.

A challenge is hearsay: the token server gets this registry's credentials only when it belongs to it, over https.
"""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit

from vmkit.errors import Refused
from vmkit.host.text import printable
from vmkit.images.layout import parse_object
from vmkit.images.remote.base import Denied, RegistryFailed
from vmkit.images.remote.credentials import Credential
from vmkit.images.remote.reference import is_loopback, split_host

_MAX_CHALLENGE = 8192
_TOKEN = re.compile(r"[!-~]{1,65536}")
_WORDS = re.compile(
    r"[\s,]*(?:(?P<key>[A-Za-z0-9_-]{1,40})\s*=\s*"
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))|(?P<scheme>[A-Za-z][A-Za-z0-9-]{0,40})(?=[\s,]|$))'
)


class AskTokenServer(Protocol):
    """Send a request to a token server: nothing but what is given, no redirects."""

    def __call__(self, url: str, *, authorization: str | None, form: bytes | None) -> tuple[int, bytes]:
        """Return the status and the body of the answer, whose size is bounded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """One way in that a server offers. `scheme` is in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """Return what `WWW-Authenticate` offers; what cannot be read ends the reading."""
    found: list[Challenge] = []
    for header in headers[:8]:
        text, position = header[:_MAX_CHALLENGE], 0
        while match := _WORDS.match(text, position):
            position = match.end()
            if match["scheme"]:
                found.append(Challenge(scheme=match["scheme"].lower(), parameters={}))
            elif found:
                value = match["plain"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
                found[-1].parameters.setdefault(match["key"].lower(), value)
    return tuple(found)


class Authorizer:
    """Keeps one way in to one repository, for all threads. `scopes` is what a token is asked for."""

    def __init__(
        self,
        *,
        host: str,
        plain_http: bool,
        scopes: tuple[str, ...],
        find: Callable[[str], Credential | None],
        ask: AskTokenServer,
    ) -> None:
        self._host, self._plain_http, self._scopes, self._find, self._ask = host, plain_http, scopes, find, ask
        self._lock = threading.Lock()
        self._header: str | None = None

    @property
    def header(self) -> str | None:
        """What to send now."""
        return self._header

    def answer(self, headers: Sequence[str], *, used: str | None) -> str:
        """Return what to send after a request with `used` was challenged. Raises Denied, Refused, RegistryFailed."""
        with self._lock:
            if self._header != used and self._header is not None:
                return self._header  # another thread was first
            # The token may have run out; a password does not.
            if used is not None and used.startswith("Basic "):
                raise self._denied("the registry does not accept the credentials there are")
            challenges = {challenge.scheme: challenge for challenge in reversed(parse_challenges(headers))}
            if "bearer" in challenges:
                self._header = "Bearer " + self._token(challenges["bearer"])
            elif "basic" in challenges:
                credential = self._find(self._host)
                if credential is None or not credential.user:
                    raise self._denied("the registry asks for credentials, and there are none")
                self._header = credential.basic()
            else:
                raise RegistryFailed(f'"{self._host}" asks for credentials in a way that vmkit does not know')
            return self._header

    def _token(self, challenge: Challenge) -> str:
        realm = challenge.parameters.get("realm", "")
        parts = self._checked(realm)
        credential = self._credential_for(parts)
        service = challenge.parameters.get("service", "")[:512]
        # Our own scopes, not the challenge's: a registry must not have us buy it a token for another repository.
        wanted = [("service", service), *(("scope", scope) for scope in self._scopes)]
        if credential is not None and credential.refresh_token:
            form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", credential.refresh_token),
                ("client_id", "vmkit"),
            ]
            joined = [("service", service), ("scope", " ".join(self._scopes))]
            status, body = self._ask(realm, authorization=None, form=urlencode(form + joined).encode())
        else:
            query = "&".join(part for part in (parts.query, urlencode(wanted)) if part)
            url = urlunsplit(parts._replace(query=query))
            status, body = self._ask(url, authorization=credential.basic() if credential else None, form=None)
        if status in {401, 403}:
            raise self._denied("the token server does not accept the credentials there are", status=status)
        if status != 200:
            raise RegistryFailed(f'the token server "{_shown(parts)}" answered with HTTP {status}')
        answer = parse_object(body, what="the answer of the token server")
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise RegistryFailed(f'the token server "{_shown(parts)}" gave no token')
        return token

    def _checked(self, realm: str) -> SplitResult:
        try:
            parts = urlsplit(realm)
            port_is_one = parts.port != 0
        except ValueError:
            raise Refused(f'"{self._host}" names a token server that cannot be') from None
        # Over http only where the user has allowed it, and then to nobody but this host.
        may = parts.scheme == "https" or (parts.scheme == "http" and self._plain_http and self._is_same_host(parts))
        fine = port_is_one and parts.hostname and not (parts.username or parts.password or parts.fragment)
        if not may or not fine or len(realm) > 2048 or printable(realm) != realm or " " in realm:
            raise Refused(
                f'"{self._host}" names a token server that is not asked: it has to be an https:// address',
                detail=printable(realm, max_chars=200),
            )
        return parts

    def _credential_for(self, parts: SplitResult) -> Credential | None:
        """Return what the token server may see: the registry's credentials, if it is of its house, else its own."""
        if self._is_same_host(parts) or (parts.scheme == "https" and is_of_one_house(self._host, parts.hostname or "")):
            return self._find(self._host)
        return self._find(_shown(parts))

    def _is_same_host(self, parts: SplitResult) -> bool:
        ours, theirs = split_host(self._host)[0], (parts.hostname or "").lower()
        return ours.strip("[]") == theirs or (is_loopback(self._host) and is_loopback(theirs))

    def _denied(self, message: str, *, status: int = 401) -> Denied:
        return Denied(f'"{self._host}": {message}', detail=f"HTTP {status}", hint=f"docker login {self._host}")


def is_of_one_house(registry: str, token_server: str) -> bool:
    """Tell whether a token server may be taken for a registry's own: `auth.x.io` and `x.io` for `registry.x.io`.

    Errs on the side of no: without the list of public suffixes, `co.uk` is known by its shape only.
    """
    name = split_host(registry)[0].lower()
    labels, theirs = name.split("."), token_server.lower()
    if name.startswith("[") or all(label.isdigit() for label in labels):
        return False
    at_least = 3 if len(labels) > 1 and len(labels[-1]) == 2 and len(labels[-2]) <= 3 else 2
    if len(labels) < at_least:
        return theirs == name
    house = ".".join(labels[1:] if len(labels) > at_least else labels)
    return theirs == house or theirs.endswith("." + house)


def _shown(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"{host}:{parts.port}" if parts.port else host
