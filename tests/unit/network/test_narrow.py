"""What two policies allow together."""

import pytest

from vmkit.errors import Refused, UsageError
from vmkit.network.narrow import narrow
from vmkit.network.policy import Mode, Policy, Rule

USER = Policy(mode=Mode.STRICT, rules=(Rule(host="a.example"), Rule(host="*.b.example", ports=(80, 443), group="b")))


def allows(policy: Policy) -> list[str]:
    return [f"{rule.host}:{port}" for rule in policy.rules for port in rule.ports]


@pytest.mark.parametrize(
    ("allow", "left"),
    [
        (["a.example"], ["a.example:443"]),
        (["a.example:80"], []),
        (["*.example"], ["a.example:443", "*.b.example:443"]),
        (["x.b.example:80", "c.example"], ["x.b.example:80"]),
        (["*.x.b.example"], ["*.x.b.example:443"]),
        (["*.b.example", "*.b.example:80"], ["*.b.example:443", "*.b.example:80"]),
        (["b.example", "xb.example"], []),
        ([], []),
    ],
)
def test_only_what_both_allow_is_left(allow: list[str], left: list[str]) -> None:
    assert allows(narrow(USER, mode=Mode.STRICT, allow=allow, deny=()).policy) == left


@pytest.mark.parametrize("user", list(Mode))
@pytest.mark.parametrize("image", list(Mode))
def test_the_narrower_mode_holds(user: Mode, image: Mode) -> None:
    width = [Mode.AIRGAP, Mode.STRICT, Mode.OPEN]

    found = narrow(Policy(mode=user), mode=image, allow=(), deny=()).policy.mode

    assert width.index(found) == min(width.index(user), width.index(image))


def test_of_an_open_network_only_what_the_other_names_is_left() -> None:
    assert allows(narrow(Policy(mode=Mode.OPEN), mode=Mode.STRICT, allow=["c.example"], deny=()).policy) == [
        "c.example:443"
    ]


def test_an_open_image_takes_nothing_away() -> None:
    assert narrow(USER, mode=Mode.OPEN, allow=(), deny=()).policy == USER


def test_what_either_denies_is_denied() -> None:
    policy = Policy(mode=Mode.STRICT, rules=USER.rules, denied=("x.b.example",))

    assert narrow(policy, mode=Mode.OPEN, allow=(), deny=["*.y.example"]).policy.denied == (
        "x.b.example",
        "*.y.example",
    )


def test_what_is_lost_is_told() -> None:
    assert narrow(USER, mode=Mode.STRICT, allow=["*.b.example"], deny=()).lost == USER.rules


@pytest.mark.parametrize("target", ["a.example:x", "127.0.0.1", "a_b", "*", ""])
def test_nonsense_is_refused(target: str) -> None:
    with pytest.raises((Refused, UsageError)):
        narrow(USER, mode=Mode.STRICT, allow=[target], deny=())
