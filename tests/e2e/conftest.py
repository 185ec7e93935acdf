"""One home with one built image for all; a machine `a` for the tests that only use one."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cloudimage
from tests.e2e.harness import Lab
from tests.tlsserver import TlsServer

SHARED = "a"


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


@pytest.fixture
def machine(lab: Lab) -> str:
    """Return a running machine that tests may use but not break; made anew when an emulated guest has crashed."""
    if lab.state(SHARED) != "running" or lab.run("exec", SHARED, "--", "true", code=None).returncode != 0:
        lab.run("delete", "--force", SHARED, code=None)
        lab.run("create", SHARED, "-t", "debian", "--cpus", "2", "--memory", "1G", "--disk", "8G")
    return SHARED


@pytest.fixture(scope="session")
def fetched_image(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a cloud image in the lab's store: built here, served over TLS, fetched by `vmkit`."""
    name = "debian-13:cloud"
    if not any(image["name"] == name for image in lab.json("image", "list")["images"]):
        work = tmp_path_factory.mktemp("publisher")
        folder = work / "root" / cloudimage.PATH
        folder.mkdir(parents=True)
        cloudimage.build(folder)
        with TlsServer(work / "root", work) as publisher:
            environment = {"VMKIT_DEBIAN_IMAGES": publisher.address, "SSL_CERT_FILE": str(publisher.ca_file)}
            lab.run("image", "fetch", "debian-13", "--tag", "cloud", env=environment)
    return name


@pytest.fixture(autouse=True)
def _nothing_left_of_a_failed_test(lab: Lab) -> None:
    clear(lab, but=SHARED)


def clear(lab: Lab, *, but: str | None = None) -> None:
    for found in lab.json("list")["machines"]:
        if found["name"] != but:
            lab.run("delete", "--force", found["name"])
