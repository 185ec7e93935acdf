"""One home with one built image for each worker; a machine `a` for the tests that only use one.

Two workers run at once, one for each core that an emulated guest takes; they build one image between them.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cloudimage
from tests.e2e.harness import Lab
from tests.tlsserver import TlsServer
from vmkit.host.files import Lock

SHARED = "a"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Make a short home (socket paths), or take `VMKIT_TEST_HOME`, which keeps its image from run to run."""
    kept = os.environ.get("VMKIT_TEST_HOME")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    with tempfile.TemporaryDirectory(prefix="vmkit-e2e-") as folder:
        lab = Lab(Path(kept or folder) / worker / "home")
        clear(lab)
        if not lab.json("image", "list")["images"]:
            if worker:
                _share_image(lab, tmp_path_factory.getbasetemp().parent)
            else:
                lab.run("image", "build", "debian-13")
        yield lab
        clear(lab)


def _share_image(lab: Lab, folder: Path) -> None:
    """Build the image once for all workers, and give this one its files by hard links."""
    builder = Lab(folder / "vmkit")
    folder.chmod(0o700)
    with Lock(folder / "vmkit.lock").acquire("building an image", wait=True):
        if not builder.json("image", "list")["images"]:
            builder.run("image", "build", "debian-13")
    lab.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    subprocess.run(["cp", "-alT", builder.home / "images", lab.home / "images"], check=True)


@pytest.fixture
def machine(lab: Lab) -> str:
    """Return a running machine that tests may use but not break; made anew when an emulated guest has crashed."""
    if lab.state(SHARED) == "paused":
        lab.run("start", SHARED)
    if lab.state(SHARED) != "running" or lab.run("exec", SHARED, "--", "true", code=None).returncode != 0:
        lab.run("delete", "--force", SHARED, code=None)
        lab.run("create", SHARED, "-t", "debian", "--cpus", "2", "--memory", "1G", "--disk", "8G")
    return SHARED


@pytest.fixture(scope="session")
def fetched_image(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a cloud image in the lab's store: built here, served over TLS, fetched by `vmkit`."""
    name = "debian-13:cloud"
    if not any(image["name"] == name for image in lab.json("image", "list")["images"]):
        shared = tmp_path_factory.getbasetemp().parent if os.environ.get("PYTEST_XDIST_WORKER") else None
        root = (shared or tmp_path_factory.mktemp("publisher")) / "published"
        with Lock(root.with_suffix(".lock")).acquire("building a cloud image", wait=True):
            if not root.is_dir():
                making = root.with_suffix(".part")
                (making / cloudimage.PATH).mkdir(parents=True)
                cloudimage.build(making / cloudimage.PATH)
                making.rename(root)
        with TlsServer(root, tmp_path_factory.mktemp("server")) as publisher:
            environment = {"VMKIT_DEBIAN_IMAGES": publisher.address, "SSL_CERT_FILE": str(publisher.ca_file)}
            lab.run("image", "fetch", "debian-13", "--tag", "cloud", env=environment)
    return name


@pytest.fixture(autouse=True)
def _nothing_left_of_a_failed_test(lab: Lab, request: pytest.FixtureRequest) -> None:
    """Also let the shared machine sleep through tests of others: an idle emulated guest takes a sixth of a core."""
    clear(lab, but=SHARED)
    if "machine" not in request.fixturenames and lab.state(SHARED) == "running":
        lab.run("suspend", SHARED)


def clear(lab: Lab, *, but: str | None = None) -> None:
    for found in lab.json("list")["machines"]:
        if found["name"] != but:
            lab.run("delete", "--force", found["name"])
