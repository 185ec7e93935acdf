"""Wildcards that are really everything, and exact names that are broader than they look."""

import pytest

from vmkit.errors import Refused
from vmkit.network.broad import narrow_names, refuse_broad, remark_on

EVERYTHING = [
    "*.com", "*.org", "*.dev", "*.io", "*.aws", "*.ck", "*.co.uk", "*.com.au", "*.xn--p1ai", "*.nosuchtld",
    "*.amazonaws.com", "*.us-east-1.amazonaws.com", "*.s3.amazonaws.com", "*.s3.us-east-1.amazonaws.com",
    "*.dualstack.us-east-1.amazonaws.com", "*.awsapps.com", "*.awsapps.cn", "*.app.aws", "*.on.aws", "*.aws.dev",
    "*.cloudfront.net", "*.azurewebsites.net", "*.blob.core.windows.net", "*.core.windows.net", "*.windows.net",
    "*.azure.com", "*.cloudapp.azure.com", "*.github.io", "*.githubusercontent.com", "*.gitlab.io", "*.googleapis.com",
    "*.google.com", "*.blogspot.com", "*.vercel.app", "*.workers.dev", "*.r2.dev", "*.ngrok.io", "*.fly.dev",
    "*.herokuapp.com", "*.trycloudflare.com", "*.debian.net", "*.sharepoint.com", "*.atlassian.net", "*.slack.com",
]  # fmt: skip


@pytest.mark.parametrize("pattern", EVERYTHING)
def test_a_wildcard_over_strangers_is_refused_with_reason_and_way_on(pattern: str) -> None:
    with pytest.raises(Refused) as refused:
        refuse_broad(pattern)

    assert refused.value.detail
    assert refused.value.hint


@pytest.mark.parametrize(
    "host",
    ["*.debian.org", "*.kiro.dev", "*.example.com", "*.npmjs.org", "*.q.us-east-1.amazonaws.com", "*.me.github.io", "github.io", "s3.amazonaws.com", "pypi.org"],
)  # fmt: skip
def test_one_owner_and_exact_names_pass(host: str) -> None:
    refuse_broad(host)


def test_the_way_on_from_amazon_is_what_kiro_needs() -> None:
    with pytest.raises(Refused) as refused:
        refuse_broad("*.amazonaws.com")

    assert "s3.amazonaws.com" in (refused.value.detail or "")
    for name in ("oidc.us-east-1.amazonaws.com", "q.us-east-1.amazonaws.com", "q.eu-central-1.amazonaws.com"):
        assert name in (refused.value.hint or "")


def test_a_top_level_domain_proposes_no_list_of_the_world() -> None:
    assert narrow_names("*.com") == "the exact name that is needed, such as NAME.com"


@pytest.mark.parametrize(
    "host", ["github.com", "s3.amazonaws.com", "a.s3.amazonaws.com", "me.github.io", "x.awsapps.com", "docs.google.com"]
)
def test_a_broad_exact_name_gets_a_remark(host: str) -> None:
    assert remark_on(host)


@pytest.mark.parametrize(
    "host", ["pypi.org", "example.co.uk", "q.us-east-1.amazonaws.com", "deb.debian.org", "dl.google.com"]
)
def test_a_name_of_one_owner_gets_none(host: str) -> None:
    assert remark_on(host) is None
