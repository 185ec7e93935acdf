"""A small RFC 8628 authorization service: who asked, what was decided, what each poll is told. No network here."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

BUILDER_START_URL = "https://view.awsapps.com/start"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
EMAIL = "agent@kirosim.invalid"
PROFILES = ({"name": "KirosimProfile", "arn": "arn:aws:codewhisperer:us-east-1:000000000000:profile/KIROSIM"},)

_SLOWER_S = 5.0  # RFC 8628 section 3.5
_EARLY = 0.8  # of the interval: jitter on the way is not impatience
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628 section 6.1: no vowels, no words


class Decision(StrEnum):
    """What became of a request for authorization."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    SLOW_DOWN = "slow_down"  # a test's wish: the next poll is told so, whatever its pace


@dataclass
class Authorization:
    """One request: the secret device code, the code for people, and the answer so far."""

    device_code: str
    user_code: str
    client_id: str
    provider: str  # "Builder ID", "IAM Identity Center", "Google", "GitHub"
    complete_url: str
    expires_at: float
    interval_s: float
    decision: Decision = Decision.PENDING
    last_poll: float | None = None
    redeemed: bool = False
    polls: list[str] = field(default_factory=list)  # what each poll was told


class Service:
    """Keep authorizations in memory. Methods may be called from any thread."""

    def __init__(
        self,
        *,
        lifetime_s: float = 600.0,
        interval_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        new_code: Callable[[], str] | None = None,
        on_request: Callable[[Authorization], None] = lambda _: None,
    ) -> None:
        self.lifetime_s, self.interval_s = lifetime_s, interval_s
        self._clock, self.on_request = clock, on_request
        self._new_code = new_code or random_user_code
        self._lock = threading.Lock()
        self._clients: set[str] = set()
        self._by_user_code: dict[str, Authorization] = {}
        self._tokens: dict[str, Authorization] = {}

    def register(self) -> dict[str, object]:
        """Register a public client (RFC 7591)."""
        client = secrets.token_urlsafe(16)
        with self._lock:
            self._clients.add(client)
        return {"client_id": client, "client_secret": secrets.token_urlsafe(24), "client_secret_expires_at": 0}

    def knows(self, client_id: str) -> bool:
        """Tell whether a client was registered."""
        return client_id in self._clients

    def authorize(self, client_id: str, *, start_url: str, provider: str | None = None) -> Authorization:
        """Start a device authorization. The URL it carries has the form that the real service's has."""
        code = self._new_code()
        if provider:
            url = f"https://app.kiro.dev/account/device?user_code={code}&login_provider={provider}"
        else:
            url = f"{start_url.rstrip('/')}/#/device?user_code={code}"
        authorization = Authorization(
            device_code=secrets.token_urlsafe(32),
            user_code=code,
            client_id=client_id,
            provider=provider or ("Builder ID" if start_url == BUILDER_START_URL else "IAM Identity Center"),
            complete_url=url,
            expires_at=self._clock() + self.lifetime_s,
            interval_s=self.interval_s,
        )
        with self._lock:
            self._by_user_code[code] = authorization
        self.on_request(authorization)
        return authorization

    def poll(self, client_id: str, device_code: str) -> tuple[str, Authorization | None]:
        """Answer one poll: an RFC 8628 error code, or `approved`, once."""
        with self._lock:
            found = next((one for one in self._by_user_code.values() if one.device_code == device_code), None)
            if found is None or found.client_id != client_id or found.redeemed:
                return "invalid_grant", None
            told = self._judge(found)
            found.polls.append(told)
            return told, found

    def tokens(self, authorization: Authorization) -> dict[str, object]:
        """Give out tokens for an approved authorization."""
        access, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._tokens[access] = authorization
        return {"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600}

    def holder(self, access_token: str) -> Authorization | None:
        """Return whose token it is."""
        return self._tokens.get(access_token)

    def find(self, user_code: str) -> Authorization | None:
        """Return the request with this code, as a person may type it, or None."""
        wanted = user_code.strip().upper()
        found = self._by_user_code.get(wanted)
        if found and found.decision is Decision.PENDING and self._clock() >= found.expires_at:
            found.decision = Decision.EXPIRED
        return found

    def decide(self, user_code: str, decision: Decision) -> bool:
        """Approve, deny, expire or slow down a request. Return whether it was still open."""
        found = self.find(user_code)
        if found is None or found.decision is not Decision.PENDING:
            return False
        with self._lock:
            found.decision = decision
        return True

    def pending(self) -> list[str]:
        """Return the codes that wait for a decision, oldest first."""
        return [code for code in list(self._by_user_code) if self._by_user_code[code].decision is Decision.PENDING]

    def _judge(self, found: Authorization) -> str:
        now, before = self._clock(), found.last_poll
        found.last_poll = now
        if found.decision is Decision.SLOW_DOWN:
            found.decision = Decision.PENDING
            found.interval_s += _SLOWER_S
            return "slow_down"
        if found.decision is Decision.DENIED:
            return "access_denied"
        if found.decision is Decision.EXPIRED or now >= found.expires_at:
            found.decision = Decision.EXPIRED
            return "expired_token"
        if before is not None and now - before < found.interval_s * _EARLY:
            found.interval_s += _SLOWER_S
            return "slow_down"
        if found.decision is Decision.APPROVED:
            found.redeemed = True
            return "approved"
        return "authorization_pending"


def random_user_code() -> str:
    """Return a code such as `BCDF-GHJK`."""
    letters = [secrets.choice(_LETTERS) for _ in range(8)]
    return "".join(letters[:4]) + "-" + "".join(letters[4:])
