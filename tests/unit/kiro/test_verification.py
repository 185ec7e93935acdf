"""Which URLs a login may show, and which wishes are none."""

import pytest

from vmkit.errors import UsageError
from vmkit.kiro.verification import Method, Wanted, checked_wish, why_refused

CODE = "ABCD-EFGH"
FREE = Wanted()
PRO = checked_wish("pro", identity_provider="https://acme.awsapps.com/start", region="eu-west-1")
GOOGLE = Wanted(method=Method.GOOGLE)


@pytest.mark.parametrize(
    ("wanted", "url"),
    [
        (FREE, f"https://view.awsapps.com/start/#/device?user_code={CODE}"),
        (FREE, f"https://view.awsapps.com/start#/device?user_code={CODE}"),
        (PRO, f"https://acme.awsapps.com/start/#/device?user_code={CODE}"),
        (GOOGLE, f"https://app.kiro.dev/account/device?user_code={CODE}&login_provider=Google"),
        (GOOGLE, f"https://app.kiro.dev/account/device?user_code={CODE}"),
    ],
)
def test_kiros_own_urls_are_taken(wanted, url):
    assert why_refused(url, wanted=wanted, code=CODE) is None
    assert why_refused(url, wanted=wanted, code=None) is None


PATH = f"/start/#/device?user_code={CODE}"
HOSTILE = {
    f"https://view.awsapps.com.evil.example{PATH}": "host",
    f"https://view-awsapps.com{PATH}": "host",
    f"https://view.awsapps.co{PATH}": "host",
    f"https://evil.example/view.awsapps.com{PATH}": "host",
    f"https://acme.awsapps.com{PATH}": "host",
    f"https://VIEW.awsapps.com{PATH}": "host",
    f"https://view.awsapps.com.{PATH}": "host",
    f"https://xn--vew-jma.awsapps.com{PATH}": "host",
    f"https://view%2eawsapps.com{PATH}": "host",
    f"https://view.awsapps.com%2f.evil.example{PATH}": "host",
    f"https://view.awsapps.com@evil.example{PATH}": "user name",
    f"https://evil@view.awsapps.com{PATH}": "user name",
    f"https://evil.example\\@view.awsapps.com{PATH}": "user name",
    f"https://view.awsapps.com:8443{PATH}": "port",
    f"https://view.awsapps.com:443{PATH}": "port",
    f"https://view.awsapps.com:{PATH}": "port",
    f"https://view.awsapps.com:99999{PATH}": "no URL",
    f"https://[::1{PATH}": "no URL",
    f"http://view.awsapps.com{PATH}": "https",
    f"ftp://view.awsapps.com{PATH}": "https",
    f"javascript://view.awsapps.com/%0aalert(1)//{CODE}": "https",
    f"HTTPS://view.awsapps.com{PATH}": "form",
    f"https://v\u0456ew.awsapps.com{PATH}": "characters",
    f"https://view.awsapps.com\u2044{PATH}": "characters",
    f"https://view\u3002awsapps.com{PATH}": "characters",
    f"https://view.awsapps.com{PATH}\u202e": "characters",
    f"https://view.awsapps.com/start/#/device?user_code={CODE}\x07": "characters",
    f"https://view.awsapps.com/start/?next=https://evil.example#/device?user_code={CODE}": "form",
    f"https://view.awsapps.com/logout?to=evil#/device?user_code={CODE}": "form",
    f"https://view.awsapps.com/start/../x/#/device?user_code={CODE}": "form",
    f"https://view.awsapps.com{PATH}&x=1": "form",
    f"https://view.awsapps.com{PATH}&user_code=WXYZ-WXYZ": "two codes",
    "https://view.awsapps.com/start/#/device?user_code=WXYZ-WXYZ": "its code is WXYZ-WXYZ",
    "https://view.awsapps.com/start/#/device?user_code=abcd-efgh": "form",
    "https://view.awsapps.com/start/#/device": "form",
    f"https://app.kiro.dev/account/device?user_code={CODE}": "host",
    f"https://view.awsapps.com{PATH}{'a' * 600}": "longer",
    f"view.awsapps.com{PATH}": "https",
    "": "https",
}


@pytest.mark.parametrize(("url", "reason"), HOSTILE.items())
def test_any_other_url_is_refused_with_the_reason(url, reason):
    assert reason in str(why_refused(url, wanted=FREE, code=CODE))


def test_the_url_that_is_shown_is_made_of_our_own_parts():
    assert PRO.url(CODE) == f"https://acme.awsapps.com/start/#/device?user_code={CODE}"
    assert PRO.host == "acme.awsapps.com"


@pytest.mark.parametrize(
    ("license_", "flags"),
    [
        ("gold", {}),
        ("free", {"identity_provider": "https://acme.awsapps.com/start"}),
        ("pro", {}),
        ("pro", {"identity_provider": "https://acme.awsapps.com/start"}),
        ("pro", {"identity_provider": "http://acme.awsapps.com/start", "region": "us-east-1"}),
        ("pro", {"identity_provider": "https://acme.awsapps.com:444/start", "region": "us-east-1"}),
        ("pro", {"identity_provider": "https://me@acme.awsapps.com/start", "region": "us-east-1"}),
        ("pro", {"identity_provider": "https://acme.awsapps.com/start?x=1", "region": "us-east-1"}),
        ("pro", {"identity_provider": "https://localhost/start", "region": "us-east-1"}),
        ("pro", {"identity_provider": "https://acme.awsapps.com/start", "region": "moon"}),
        ("free", {"social": "facebook"}),
        ("pro", {"social": "google"}),
    ],
)
def test_what_cannot_be_meant_is_refused(license_, flags):
    with pytest.raises(UsageError):
        checked_wish(license_, **flags)


def test_a_start_url_may_end_in_a_slash_or_a_fragment():
    wishes = [
        checked_wish("pro", identity_provider=f"https://acme.awsapps.com/start{end}", region="us-east-1")
        for end in ("", "/", "/#/", "#")
    ]

    assert len(set(wishes)) == 1
