"""One home with one built image for all; a machine `a` for the tests that only use one."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Make a short home (socket paths), or take `VMKIT_TEST_HOME`, which keeps its image from run to run."""
    kept = os.environ.get("VMKIT_TEST_HOME")
    with tempfile.TemporaryDirectory(prefix="vmkit-e2e-") as folder:
        lab = Lab(Path(kept or folder) / "home")
        clear(lab)
        if not lab.json("image", "list")["images"]:
            lab.run("image", "build", "debian-13")
        yield lab
        clear(lab)


@pytest.fixture(scope="session")
def machine(lab: Lab) -> str:
    """Return a running machine that tests may use but not break."""
    lab.run("create", "a", "-t", "debian", "--cpus", "2", "--memory", "1G", "--disk", "8G")
    return "a"


def clear(lab: Lab) -> None:
    for name in lab.json("list")["machines"]:
        lab.run("delete", "--force", name["name"])
