"""Lists of packages come from guests and registries: only lines of the known form count."""

import pytest

from vmkit.errors import Refused
from vmkit.images.packages import Package, differing_sources, listed_sources, parse_installed, parse_sources


def test_packages_are_read_by_name():
    assert parse_installed(["git 1:2.47-1 amd64", "apt 3.0.4 amd64"]) == (
        Package("apt", "3.0.4", "amd64"),
        Package("git", "1:2.47-1", "amd64"),
    )


@pytest.mark.parametrize(
    "line", ["", "git", "git 1", "git 1 amd64 x", "Git 1 amd64", "git 1\n amd64", "git 1 amd64\n", "-x 1 a", "git é a"]
)
def test_a_line_of_another_form_is_left_out(line):
    assert parse_installed([line]) == ()


def test_only_sources_that_differ_are_named():
    lines = ["git 1 git 1", "libssl3 3-1+b1 openssl 3-1", "bash 5+b2 bash 5", "a b", "x 1 ../y 2"]

    assert differing_sources(lines) == ("libssl3 openssl 3-1", "bash bash 5")


def test_sources_are_read_by_package():
    assert parse_sources(["libssl3 openssl 3-1", "x y", "a b\nVersion: 1 2"]) == {"libssl3": ("openssl", "3-1")}


def test_what_is_no_list_of_sources_is_refused():
    assert listed_sources({}) is None
    for said in ("git", {}, ["a"] * 20_001):
        with pytest.raises(Refused):
            listed_sources({"sources": said})
