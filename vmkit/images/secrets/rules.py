"""What a secret looks like (data): a cheap hint that finds the place, then a pattern that has to fit there.

Every byte of a disk is looked at, so hints are what CPython's `re` does fast: one letter, searched for once for all the
rules that share it, and then what must stand before and behind it. VERSION goes up with every change: images record it.
"""

import base64
import binascii
import re
from dataclasses import dataclass

VERSION = 1
OWN = "own-secret"  # the rule of secrets that a machine has to have while it lives
MAX_MATCH_BYTES = 8 << 10  # how far a pattern looks, before and after its hint

_ANCHORS = b'_-=":.XJVlSIAw'  # the fewer, the fewer searches; the rarer in programs and text, the faster


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A kind of secret. `title` is for people; `encoded`: the pattern fits what base64 at the hint decodes to.

    The hint: the letter `anchor`, right after what `before` fits (of one width), and followed by what `after` fits.
    """

    id: str
    title: str
    before: bytes
    anchor: bytes
    after: bytes
    pattern: re.Pattern[bytes]
    encoded: bool = False

    @property
    def hint(self) -> bytes:
        """What stands behind the anchor, as a regular expression that looks back too."""
        seen = self.before + re.escape(self.anchor)
        return (rb"(?<=" + seen + rb")" if self.before else b"") + self.after


def _at(id_: str, title: str, hint: tuple[bytes, bytes, bytes], pattern: bytes, *, encoded: bool = False) -> Rule:
    before, anchor, after = hint
    compiled = re.compile(pattern)
    return Rule(id=id_, title=title, before=before, anchor=anchor, after=after, pattern=compiled, encoded=encoded)


def _word(text: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the hint for a word: cut at the best anchor that it has, else at its first byte."""
    anchor = next((bytes([letter]) for letter in _ANCHORS if letter in text), text[:1])
    before, after = text.split(anchor, 1)
    return re.escape(before), anchor, re.escape(after)


# A line's end as it is, or as JSON and environment files write it. A body has to follow: programs that read keys hold
# the first line too.
_END = rb"(?:\\r|\\n|\r|\n| ){1,6}"
_HEADERS = rb"(?:[A-Za-z-]{4,20}: [^\r\n\\]{0,80}" + _END + rb"){0,4}"
_PEM = rb"-----BEGIN (?:[A-Z0-9]{2,9} ){0,3}PRIVATE KEY(?: BLOCK)?-----" + _END + _HEADERS + rb"[A-Za-z0-9+/=]{40}"
_LOGIN = (
    rb'(?i:\\?"(?:access_?token|refresh_?token|id_?token|client_?secret|secret_?access_?key|session_?token)\\?")'
    rb'\s{0,4}:\s{0,4}\\?"[A-Za-z0-9._~+/=:-]{16}'
)
_AWS_ID = rb"(?<![A-Za-z0-9/+=])A[KS]IA[A-Z2-7]{16}(?![A-Za-z0-9/+=])"
_AWS_SECRET = rb"(?i:aws_secret_access_key|aws_session_token)[\"']?\s{0,4}[=:]\s{0,4}[\"']?[A-Za-z0-9/+=]{40}"
_GITHUB = rb"(?<![A-Za-z0-9_])gh[pousr]_[A-Za-z0-9]{36}"
_GITHUB_PAT = rb"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"
_GITLAB = rb"gl(?:pat|ptt|dt|rt|cbt|ft|soat)-[A-Za-z0-9_-]{20}"
_NPM = rb"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9_])"
_SLACK = rb"(?:xox[abeprs]|xapp)-[0-9A-Za-z]{1,16}-[0-9A-Za-z-]{10}"
_JWT = rb"eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{20}"
_KIRO = rb"(?:kirocli|codewhisperer):[a-z-]{1,20}:(?:token|device-registration)[\x00-\xff]{0,16}?\{\s{0,4}\""
_NETRC = rb"machine\s{1,4}\S{1,255}\s{1,16}login\s{1,4}\S{1,255}\s{1,16}password\s{1,4}\S{4}"
_URL = rb"https?://[A-Za-z0-9._~%+-]{1,64}:[A-Za-z0-9._~%+-]{12,255}@[A-Za-z0-9.-]{3}"
# A digit and a letter in the value: what somebody was given, not what a script refers to.
_ENVIRONMENT = (
    rb"(?<![A-Za-z0-9_$])(?:[A-Z][A-Z0-9_]{0,40})?(?:TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY)="
    rb"[\"']?(?=[A-Za-z0-9+/_.~=-]{0,64}[0-9])(?=[A-Za-z0-9+/_.~=-]{0,64}[A-Za-z])[A-Za-z0-9+/_.~=-]{16}"
)


def _encodings(text: bytes) -> tuple[bytes, ...]:
    """Return what base64 makes of `text` wherever it begins: the characters that no neighbour has a part in."""
    found = []
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + text)
        found.append(encoded[(shift * 8 + 5) // 6 : (shift + len(text)) * 8 // 6])
    return tuple(found)


def _encoded(id_: str, title: str, text: bytes, pattern: bytes) -> tuple[Rule, ...]:
    said = f"{title}, in base64"
    return tuple(_at(f"{id_}-base64", said, _word(one), pattern, encoded=True) for one in _encodings(text))


# fmt: off  # one rule a line is how a table is read
RULES: tuple[Rule, ...] = (
    _at("private-key", "a private key", (b"PRIVATE KEY", b"-", b"----"), _PEM),
    _at(
        "openssh-key",
        "an OpenSSH private key",
        _word(b"b3BlbnNzaC1rZXktdjEA"),
        rb"b3BlbnNzaC1rZXktdjEA[A-Za-z0-9+/=\s]{60}",
    ),
    _at(
        "openssh-key",
        "an OpenSSH private key",
        (b"openssh", b"-", rb"key-v1\0"),
        rb"openssh-key-v1\0\0\0\0[\x04-\x20][a-z0-9]",
    ),
    _at(
        "putty-key",
        "a PuTTY private key",
        _word(b"PuTTY-User-Key-File-"),
        rb"PuTTY-User-Key-File-[123]: [a-z0-9-]{5,40}\r?\n",
    ),
    _at("aws-id", "an AWS access key", (b"A[KS]", b"I", b"A[A-Z2-7]"), _AWS_ID),
    _at("aws-secret", "an AWS secret key", (b"(?i:secret)", b"_", b"(?i:access_key)"), _AWS_SECRET),
    _at("aws-secret", "an AWS session token", (b"(?i:session)", b"_", b"(?i:token)"), _AWS_SECRET),
    _at(
        "aws-login",
        "a token of AWS's login",
        (b"ao[ar]", b"A", b"AAAA"),
        rb"(?<![A-Za-z0-9+/])ao[ar]AAAAA[A-Za-z0-9_+/:=-]{60}",
    ),
    _at("github-token", "a GitHub token", (b"gh[pousr]", b"_", b""), _GITHUB),
    _at("github-token", "a GitHub token", (b"github", b"_", b"pat_"), _GITHUB_PAT),
    _at("gitlab-token", "a GitLab token", (b"[abdfrt]t", b"-", b"[A-Za-z0-9_-]{20}"), _GITLAB),
    _at("npm-token", "an npm token", (b"npm", b"_", b""), _NPM),
    _at(
        "npm-token", "an npm token", (b"", b"_", b"authToken"), rb"_authToken\s{0,4}=\s{0,4}[\"']?[A-Za-z0-9_/+=.-]{16}"
    ),
    _at("pypi-token", "a PyPI token", (b"pypi", b"-", b"AgE"), rb"pypi-AgE[A-Za-z0-9_-]{50}"),
    _at("slack-token", "a Slack token", (b"(?:xox[abeprs]|xapp)", b"-", b""), _SLACK),
    _at(
        "slack-token",
        "a Slack webhook",
        (b"hooks", b".", rb"slack\.com/"),
        rb"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9+/]{40}",
    ),
    _at(
        "google-key",
        "a Google API key",
        (b"A", b"I", b"za"),
        rb"(?<![A-Za-z0-9_])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])",
    ),
    _at("google-token", "a Google token", (b"ya29", b".", b""), rb"(?<![A-Za-z0-9])ya29\.[A-Za-z0-9_-]{50}"),
    _at("web-token", "a JSON web token", (b"", b".", b"eyJ"), _JWT),
    _at("login-token", "a login's token", (rb"(?i:oken|cret|_key|sKey)", b'"', rb"\s{0,4}:"), _LOGIN),
    _at("login-token", "a login's token", (rb"(?i:oken|cret|_key|sKey)\\", b'"', rb"\s{0,4}:"), _LOGIN),
    _at("kiro-login", "Kiro's login", (b"", b":", b"(?:token|device-registration)"), _KIRO),
    _at("kiro-login", "Kiro's login database", _word(b"tableauth_kvauth_kv"), b"tableauth_kvauth_kv"),
    _at("kiro-key", "a Kiro API key", (b"ksk", b"_", b""), rb"(?<![A-Za-z0-9_])ksk_[A-Za-z0-9_-]{16}"),
    _at("netrc", "a password in .netrc", (b"pass", b"w", rb"ord\s"), _NETRC),
    _at("url-password", "a password in an address", (b"", b":", b"//[^\\s/:@]{1,64}:"), _URL),
    _at("environment", "a secret in an environment file", (b"(?:OKEN|CRET|WORD|_KEY)", b"=", b"[^\\s$]"), _ENVIRONMENT),
    *_encoded("private-key", "a private key", b"-----BEGIN ", _PEM),
    *_encoded("github-token", "a GitHub token", b"github_pat_", _GITHUB_PAT),
    *_encoded("login-token", "a login's token", b"access_token", _LOGIN),
    *_encoded("kiro-login", "Kiro's login database", b"tableauth_kv", b"tableauth_kvauth_kv"),
    _at("aws-id-base64", "an AWS access key, in base64", (b"Q(?:Ut|VN)", b"J", b"Q"), _AWS_ID, encoded=True),
    _at("aws-id-base64", "an AWS access key, in base64", (b"B[SU]0", b"l", b"B"), _AWS_ID, encoded=True),
    _at("aws-id-base64", "an AWS access key, in base64", (b"F[LT]", b"S", b"U"), _AWS_ID, encoded=True),
)
# fmt: on

# SHA-256 of matches that are no secret. Of Debian 13: the keys with which libgnutls tests itself.
HARMLESS = frozenset(
    {
        "282b7f8a15853c74cc6b4f5a402a760ceb273e671d74c0d5e7eb7b775642bbc6",
        "b622eef9c9318240944ad94c12982297f07f707eb52bda4f12aed20b8778e078",
        "c247dbe22a71cffb7915344502dff22672539c13b7b2cb23af59aca55a57fc0a",
        "cc2e92f78cec84058440b64b68c15ed5c48728286165924798835abcaa8d459d",
        "8a47f050736577cb859d73484b69060a0b637a74d3beb6d83e6af9e78972a11d",
        "8f500710ee29aa8491b7b1305a4c96c07c2df56a8f9fe66b03b5deac583a81a9",
        "a26c5056219eb33b13720f70e0161afe2a118484c4531a31c0738d61af7cd2b0",
        "c8063b254f75ad9726f1773072d516d7b257617a14e6a7d045dd090548ddab25",
    }
)


def exact_rules(secrets: dict[str, bytes], *, rule: str = "known-secret") -> tuple[Rule, ...]:
    """Return rules for byte strings that are known, by title: as they are, and in base64 however they are aligned.

    Raises ValueError for a string of less than 16 bytes, which would be found everywhere.
    """
    rules: list[Rule] = []
    for title, content in secrets.items():
        if len(content) < 16:
            raise ValueError(title)
        for text, said in ((content, title), *((one, f"{title}, in base64") for one in _encodings(content))):
            rules.append(_at(rule, said, _word(text), re.escape(text)))
    return tuple(rules)


_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]+")
_AS_STANDARD = bytes.maketrans(b"-_", b"+/")


def decode_around(data: bytes, start: int, end: int) -> list[bytes]:
    """Return what the base64 around a place may decode to: one for each of four ways that its groups may lie."""
    low, high = max(0, start - MAX_MATCH_BYTES), min(len(data), end + MAX_MATCH_BYTES)
    run = next((match[0] for match in _BASE64.finditer(data, low, high) if match.end() > start), b"")
    run = run.translate(_AS_STANDARD)
    return [_decode(run[shift:]) for shift in range(4)]


def _decode(run: bytes) -> bytes:
    whole = run[:-1] if len(run) % 4 == 1 else run  # six bits are not a byte
    return binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))
