"""A login's disk with a real guest: it outlives the machine, shows nothing in clear, and ends with its key."""

import json
import mmap
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import demo
from tests.e2e.harness import Lab

pytestmark = pytest.mark.vm

NAME = "kiro"
DATABASE = "/home/agent/.local/share/kiro-cli/data.sqlite3"
TOKENS = f"""
import json, sqlite3
[[value]] = sqlite3.connect("{DATABASE}").execute("SELECT value FROM auth_kv WHERE key = 'kirocli:odic:token'")
print(json.loads(value)["access_token"], json.loads(value)["refresh_token"])
"""
MARKER = "vmkit-test-what-lies-on-the-machines-own-disk"


@pytest.fixture(scope="module")
def home(lab: Lab) -> Iterator[Lab]:
    """Make a home of its own, with the lab's images and a simulated Kiro that approves by itself."""
    with tempfile.TemporaryDirectory(prefix="vmkit-login-") as folder, demo.kirosim() as kiro:
        made = Lab(Path(folder) / "home", extra={"VMKIT_KIRO_RELEASES": kiro["releases"]})
        made.home.mkdir(mode=0o700)
        subprocess.run(["cp", "-a", "--reflink=auto", lab.home / "images", made.home / "images"], check=True)
        try:
            yield made
        finally:
            made.run("delete", "--force", NAME, code=None)


@pytest.fixture
def logged_in(home: Lab) -> Lab:
    """Return the home with a running machine that is logged in; made the first time."""
    if home.state(NAME) is None:
        make(home)
    if home.state(NAME) != "running":
        home.run("start", NAME)
    home.run("login", NAME)
    return home


def make(home: Lab) -> None:
    # the simulated Kiro is on this computer, which a closed machine does not reach
    home.run("create", NAME, "--cpus", "2", "--memory", "1G", "--disk", "8G", "--egress", "open")


def status(home: Lab) -> dict[str, Any]:
    return json.loads(home.run("auth", "status", NAME, "--json", code=None).stdout)


def login_disk(home: Lab) -> Path:
    return home.home / "machines" / NAME / f"{NAME}.utm" / "Data" / "login.qcow2"


def files_with(text: str, folder: Path) -> set[Path]:
    """Return the files that hold a text in clear."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(text.encode()) >= 0:
                    found.add(path)
    return found


def test_a_login_is_in_clear_in_its_open_disk_only(logged_in: Lab) -> None:
    known = status(logged_in)
    tokens = logged_in.exec(NAME, "python3", "-c", TOKENS).split()
    key = (logged_in.home / "login-keys" / f"{NAME}.key").read_text().strip()
    database = logged_in.run("exec", NAME, "--", "cat", DATABASE).stdout
    logged_in.exec(NAME, "sh", "-c", f"echo {MARKER} >found && sync")

    leaks = [files_with(token, logged_in.home) for token in tokens]
    keys = files_with(key, logged_in.home)

    assert (known["logged_in"], known["disk"]) == (True, "unlocked")
    assert [len(token) > 20 and token.encode() in database for token in tokens] == [True, True]
    assert any(path.suffix == ".qcow2" for path in files_with(MARKER, logged_in.home / "machines"))  # the probe finds
    assert leaks == [set(), set()]
    assert keys == {logged_in.home / "login-keys" / f"{NAME}.key"}
    assert b"LUKS" in login_disk(logged_in).read_bytes()


def test_a_machine_that_is_made_again_is_logged_in_and_stays_so(logged_in: Lab) -> None:
    before = status(logged_in)
    logged_in.run("delete", "--force", NAME)
    kept = sorted(path.name for path in (logged_in.home / "logins").iterdir())

    make(logged_in)
    after = status(logged_in)
    logged_in.run("restart", NAME)
    later = status(logged_in)

    assert kept == [f"{NAME}.json", f"{NAME}.qcow2"]
    assert before["logged_in"]
    assert after == before
    assert later == before


def test_while_its_disk_is_closed_nothing_is_written_in_its_place(logged_in: Lab) -> None:
    logged_in.exec(NAME, "sudo", "umount", str(Path(DATABASE).parent))

    written = logged_in.run("exec", NAME, "--", "touch", DATABASE, code=None).returncode
    closed = status(logged_in)
    logged_in.run("login", NAME)  # opens it again, and finds the login
    opened = status(logged_in)

    assert written != 0
    assert (closed["logged_in"], closed["disk"]) == (False, "locked")
    assert (opened["logged_in"], opened["disk"]) == (True, "unlocked")


def test_a_logout_destroys_the_key_and_a_copy_of_the_disk_is_worth_nothing(logged_in: Lab, tmp_path: Path) -> None:
    logged_in.exec(NAME, "sync")
    shutil.copyfile(login_disk(logged_in), tmp_path / "copy.qcow2")

    ended = json.loads(logged_in.run("auth", "logout", NAME, "--json").stdout)
    out, keys = status(logged_in), list((logged_in.home / "login-keys").iterdir())
    logged_in.run("stop", "--force", NAME)
    shutil.copyfile(tmp_path / "copy.qcow2", login_disk(logged_in))
    logged_in.run("start", NAME)
    again = status(logged_in)

    assert (ended["revoked"], ended["logged_in"]) == (True, False)
    assert (out["logged_in"], out["disk"], keys) == (False, "locked", [])
    assert (again["logged_in"], again["disk"]) == (False, "unlocked")


@pytest.mark.long
def test_a_machine_that_is_rolled_back_to_before_the_login_is_still_logged_in(home: Lab) -> None:
    if home.state(NAME) is None:
        make(home)
    if home.state(NAME) == "running":
        home.run("auth", "logout", NAME)
        home.run("stop", NAME)
    [root] = [path for path in login_disk(home).parent.glob("*.qcow2") if path != login_disk(home)]
    shutil.copyfile(root, root.with_suffix(".before"))
    home.run("start", NAME)
    home.run("login", NAME)
    home.exec(NAME, "sh", "-c", "echo late >late && sync")
    home.run("stop", "--force", NAME)

    root.with_suffix(".before").rename(root)
    home.run("start", NAME)

    assert home.run("exec", NAME, "--", "test", "-e", "late", code=None).returncode == 1
    assert status(home)["logged_in"]
