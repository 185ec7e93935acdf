"""Who Kiro CLI in a guest says that it is logged in as: `kiro-cli whoami --format json` (2.2 to 2.22)."""

import json
from dataclasses import dataclass

from vmkit.host.text import printable
from vmkit.kiro.verification import BUILDER_ID, Method, Wanted

WHOAMI = ("whoami", "--format", "json")
WHOAMI_S = 60.0  # behind a closed network it was seen to hang for 16 s

_MAX_CHARS = 200


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A login, as the guest tells it. `method` is None for what vmkit cannot log in with (an API key, another IdP)."""

    method: Method | None
    kind: str
    account: str | None = None  # the e-mail address
    start_url: str | None = None
    region: str | None = None

    @property
    def text(self) -> str:
        """One line for people."""
        place = f" ({self.start_url})" if self.method is Method.PRO and self.start_url else ""
        return f"{_NAMES.get(self.kind, self.kind)}{place}{f', {self.account}' if self.account else ''}"

    def is_wanted(self, wanted: Wanted) -> bool:
        """Tell whether this is the login that was asked for."""
        if self.method is not wanted.method:
            return False
        return wanted.start_url is None or _same(self.start_url, wanted.start_url)

    def to_json(self) -> dict[str, object]:
        """Return the identity's part of `auth status`."""
        method = "social" if self.method in (Method.GOOGLE, Method.GITHUB) else self.method
        return {"account": self.account, "method": method, "start_url": self.start_url, "region": self.region}


_METHODS = {
    "BuilderId": Method.FREE,
    "IamIdentityCenter": Method.PRO,
    "SocialGoogle": Method.GOOGLE,
    "SocialGithub": Method.GITHUB,
}
_NAMES = {
    "BuilderId": "Builder ID",
    "IamIdentityCenter": "IAM Identity Center",
    "SocialGoogle": "Google",
    "SocialGithub": "GitHub",
    "ApiKey": "an API key",
    "ExternalIdP": "an external identity provider",
}


def parse_whoami(output: str) -> Identity | None:
    """Return the identity that `whoami --format json` tells, or None when it tells none.

    For an organisation Kiro prints a block of text after the JSON: only the first value is read.
    """
    try:
        said, _ = json.JSONDecoder().raw_decode(output[output.index("{") :])
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(kind := said.get("accountType"), str):
        return None
    if kind == "Social":
        kind += str(said.get("provider", "")).capitalize()
    start_url = _text(said.get("startUrl"))
    return Identity(
        method=_METHODS.get(kind),
        kind=printable(kind, max_chars=40),
        account=_text(said.get("email")),
        start_url=None if kind == "BuilderId" or _same(start_url, BUILDER_ID) else start_url,
        region=_text(said.get("region")),
    )


def _text(value: object) -> str | None:
    return printable(value, max_chars=_MAX_CHARS) if isinstance(value, str) and value else None


def _same(one: str | None, other: str) -> bool:
    return one is not None and _bare(one) == _bare(other)


def _bare(url: str) -> str:
    return url.partition("#")[0].rstrip("/")
