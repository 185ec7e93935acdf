"""The shipped groups: exact hosts, each with its reason."""

from pathlib import Path

import pytest

from vmkit.errors import VmkitError
from vmkit.network.groups import describe_groups, load_groups
from vmkit.network.rules import checked_host
from vmkit.recipes.load import load_recipes


def test_the_groups_that_the_documentation_names_are_there() -> None:
    assert load_groups().keys() >= {"kiro", "kiro-social", "debian", "ubuntu", "pypi", "npm", "github", "rust", "go"}


@pytest.mark.parametrize("name", load_groups())
def test_every_host_is_exact_and_says_why(name: str) -> None:
    group = describe_groups()[name]

    assert group.summary
    assert group.rules
    for rule, why in group.reasons.items():
        assert checked_host(rule.host.encode()) == rule.host
        assert rule.ports in ((443,), (80,))
        assert (rule.group, rule.added_by, rule.expires) == (name, "template", None)
        assert len(why) > 5


def test_recipes_that_groups_name_exist(tmp_path: Path) -> None:
    for group in describe_groups().values():
        load_recipes(group.recipes, user_folder=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "", "[a]\nsummary = 'x'", "[a]\nsummary = 'x'\nhosts = {}", "[a.b]\nc = 1", "[a", "[a]\nsummary='x'\nnew=1\nhosts={'b.c'='d'}",
        "['a.b']\nsummary='x'\nhosts={'b.c'='d'}",
    ],
)  # fmt: skip
def test_a_damaged_file_is_said(content: str, tmp_path: Path) -> None:
    (tmp_path / "groups.toml").write_text(content)

    if not content:
        assert load_groups(tmp_path) == {}
        return
    with pytest.raises(VmkitError, match="cannot be read"):
        load_groups(tmp_path)
