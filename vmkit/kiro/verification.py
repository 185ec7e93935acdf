"""Whether a verification URL that a guest printed may be shown: it is compared, and then made anew from our own parts.

Shapes: Kiro CLI's device flow up to 2.24. A look-alike host, an address of somebody else's organisation, or a code that
is not the printed one is how people get phished (RFC 8628, 5.4).
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from vmkit.errors import UsageError
from vmkit.host.text import printable

BUILDER_ID = "https://view.awsapps.com/start"
PORTAL = "https://app.kiro.dev/account/device"

CODE = re.compile(r"[A-Z0-9]{4}-[A-Z0-9]{4}")
_START_URL = re.compile(r"https://(?P<host>[a-z0-9-]+(?:\.[a-z0-9-]+)+)(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?(?:#/?)?")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+){1,2}-[0-9]{1,2}")
_MAX_URL_CHARS = 512


class Method(StrEnum):
    """By which account a user logs in."""

    FREE = "free"
    PRO = "pro"
    GOOGLE = "google"
    GITHUB = "github"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The login that the user asked for on this computer; `start_url` and `region` are the organisation's (pro)."""

    method: Method = Method.FREE
    start_url: str | None = None
    region: str | None = None

    @property
    def is_social(self) -> bool:
        """Whether Kiro's own portal is asked, not an AWS one."""
        return self.method in (Method.GOOGLE, Method.GITHUB)

    @property
    def page(self) -> str:
        """The page where the code is confirmed."""
        return PORTAL if self.is_social else self.start_url or BUILDER_ID

    @property
    def host(self) -> str:
        """The one host that may ask for this login."""
        return str(urlsplit(self.page).hostname)

    def url(self, code: str) -> str:
        """Return the verification URL for a code, made of nothing that a guest printed but the code."""
        if self.is_social:
            return f"{PORTAL}?user_code={code}&login_provider={_PROVIDERS[self.method]}"
        return f"{self.page}/#/device?user_code={code}"

    def spellings(self, code: str) -> tuple[str, ...]:
        """Return every way to write that URL that Kiro is known or likely to have; each leads to the same page."""
        if self.is_social:
            names = (_PROVIDERS[self.method], _PROVIDERS[self.method].capitalize())
            return (
                f"{PORTAL}?user_code={code}",
                *(f"{PORTAL}?user_code={code}&login_provider={name}" for name in names),
                *(f"{PORTAL}?login_provider={name}&user_code={code}" for name in names),
            )
        return (self.url(code), f"{self.page}#/device?user_code={code}")


_PROVIDERS = {Method.GOOGLE: "Google", Method.GITHUB: "GitHub"}


def checked_wish(
    license_: str, *, social: str | None = None, identity_provider: str | None = None, region: str | None = None
) -> Wanted:
    """Return the login that these flags ask for. Raises UsageError."""
    if social is not None:
        if social not in (Method.GOOGLE, Method.GITHUB):
            raise UsageError(f'--social "{printable(social, max_chars=20)}" is unknown', hint="google or github")
        if license_ != Method.FREE or identity_provider or region:
            raise UsageError("--social goes without --license pro, --identity-provider and --region")
        return Wanted(method=Method(social))
    if license_ not in (Method.FREE, Method.PRO):
        raise UsageError(f'--license "{printable(license_, max_chars=20)}" is unknown', hint="free or pro")
    if license_ == Method.FREE:
        if identity_provider or region:
            raise UsageError("--identity-provider and --region are for --license pro")
        return Wanted()
    if not (identity_provider and region):
        raise UsageError("--license pro needs --identity-provider URL and --region R")
    match = _START_URL.fullmatch(identity_provider)
    if not match or len(identity_provider) > _MAX_URL_CHARS:
        raise UsageError(
            f'--identity-provider "{printable(identity_provider, max_chars=80)}" is not a start URL',
            hint="as your organisation gives it: https://NAME.awsapps.com/start",
        )
    if not _REGION.fullmatch(region):
        raise UsageError(f'--region "{printable(region, max_chars=40)}" is no AWS region', hint="such as us-east-1")
    return Wanted(method=Method.PRO, start_url=f"https://{match['host']}{match['path']}", region=region)


def why_refused(url: str, *, wanted: Wanted, code: str | None) -> str | None:
    """Return why a URL that a guest printed is not the one of this login, or None when it is.

    Without a `code` yet, only its own is looked at.
    """
    own = CODE.findall(url)
    if len(own) == 1 and url in wanted.spellings(own[0]):
        return None if code in (None, own[0]) else f"its code is {own[0]}, the printed one is {code}"
    if not url.isascii() or not url.isprintable():
        return "it holds characters that a URL cannot hold"
    try:
        parts = urlsplit(url[:_MAX_URL_CHARS])
        host, port = parts.hostname, parts.port
    except ValueError:
        return "it is no URL"
    wrong = {
        f"it is longer than {_MAX_URL_CHARS} characters": len(url) > _MAX_URL_CHARS,
        "it is not https": parts.scheme != "https",
        "it hides its host behind a user name": "@" in parts.netloc or "\\" in url,
        "it names a port": port is not None or ":" in parts.netloc,
        f"its host is not {wanted.host}": host != wanted.host or parts.netloc != wanted.host,
        "it holds two codes": len(set(own)) > 1,
    }
    form = f"it is not of the form {wanted.url('XXXX-XXXX')}"
    return next((reason for reason, applies in wrong.items() if applies), form)
