"""An image made again from its lock, with packages from the archive, through the temporary machine's own door."""

import pytest

from tests.e2e.harness import Lab

pytestmark = pytest.mark.vm


def test_an_image_is_made_again_from_its_lock_and_nothing_else_is_left(lab: Lab) -> None:
    built = lab.json("image", "show", "debian-13")["image"]
    lab.run("create", "tools", "-t", "debian", "--recipe", "base", "--cpus", "2", "--memory", "1G", "--disk", "4G")
    lab.exec("tools", "sudo", "dpkg", "--remove", "less")  # by hand: the lock does not know
    lab.run("stop", "tools")
    old = lab.json("image", "save", "tools", "tools:1")["image"]
    lab.run("delete", "tools")

    new = lab.json("image", "refresh", "tools:1", "2")

    try:
        assert (new["image"]["name"], new["image"]["sealed"]) == ("tools:2", True)
        assert (new["base"], new["refreshed_from"]) == (built["digest"], old["digest"])
        assert new["packages_changed"] >= 1  # less is there again
        assert lab.json("list")["machines"] == []
        lab.run("image", "refresh", "tools:1", "2", code=4)
    finally:
        lab.run("image", "delete", "tools:1")
        lab.run("image", "delete", "tools:2", code=None)
