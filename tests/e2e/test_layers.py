"""Second walls in a real guest: Kiro works behind them, what they should stop is stopped, and nothing is left of them.

The machine is a closed one, in a world of its own; Debian is the real one, Kiro a server of this test. srt's archives
come from npm's registry, where it answers.
"""

import contextlib
import dataclasses
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.closedworld import closed_world
from tests.e2e.harness import Lab
from tests.e2e.test_closed_network import DEBIAN, KIRO, NPM, TRUST, _host_bundle, _kiro, _require
from tests.kirosim.mirror import build_mirror
from tests.kirosim.server import Server
from vmkit.host.computer import machine_arch
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.workflows.container_base import make_base

pytestmark = [pytest.mark.vm, pytest.mark.long]

NAME = "layered"
LAYERS = ("srt", "container")
# What a layer may leave: apt's, dpkg's and the journal's own records, and what Kiro wrote in its own places.
FILES = (
    "sudo find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/lib/apt -o -path /var/cache"
    " -o -path /var/log -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path '/home/*/vmkit-work'"
    " -o -path '/home/*/.kiro' -o -path '/home/*/.local/share/kiro-cli' -o -name __pycache__ \\) -prune -o"
    " \\( -type f -o -type l \\) -print | sort"
)


# As README.txt says, with a part of the container's own root in place of Debian's image, which is in a registry.
SMALL = """
. /usr/local/lib/vmkit/container/run.env
podman unshare tar --create --directory="$ROOTFS" --file="$HOME/small.tar" --exclude=./usr/lib/gcc --exclude=./usr/libexec \
  --exclude=./usr/lib/git-core --exclude=./usr/include --exclude=./usr/share --exclude='*.a' --exclude='./usr/bin/*-linux-gnu-*' \
  --exclude='./usr/lib/*/perl*' --exclude='./usr/lib/*/libicu*' --exclude=./var --exclude=./home/agent .
podman import --quiet "$HOME/small.tar" localhost/small >&2
rm "$HOME/small.tar"
ENGINE=podman IMAGE=localhost/exported BASE=localhost/small sh ~/exported/build.sh \
  --build-arg PACKAGES= --network=host --pull=never >&2
"""
RUN = """
. /usr/local/lib/vmkit/container/run.env
mkdir -p ~/p && cd ~/p && echo here >file
ENGINE=podman IMAGE=localhost/exported PIDS= NETWORK=none sh ~/exported/run.sh sh -c "$1"
"""


@dataclass(frozen=True)
class Layered:
    """A running closed machine with a login and a workspace."""

    lab: Lab
    kiro: Server
    folder: Path
    before: frozenset[str]  # the files of a machine without layers

    def files(self) -> frozenset[str]:
        return frozenset(self.lab.exec(NAME, "sh", "-c", FILES).splitlines())

    def behind(self, layer: str, script: str, *, code: int | None = 0) -> str:
        done = self.lab.run("exec", "--layer", layer, NAME, "--", "sh", "-ec", script, code=code)
        return done.stdout.decode()

    def verify(self, layer: str, *, code: int | None = 0) -> dict[str, str]:
        done = self.lab.run("verify", NAME, "--layer", layer, "--json", code=code)
        return {one["id"]: one["observed"] for one in json.loads(done.stdout)["probes"]}


@pytest.fixture(scope="module")
def layered(lab: Lab) -> Iterator[Layered]:
    _require(*NPM)
    base = make_base("debian-13", machine_arch(), cache=lab.home / "cache", runner=Runner(), report=Silent())
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmkit-layers-")))
        world = stack.enter_context(closed_world([DEBIAN, *NPM, KIRO]))
        for name, port in ((DEBIAN, 443), (DEBIAN, 80), *((name, 443) for name in NPM)):
            world.relay(name, port)
        kiro, kiro_ca = _kiro(world, root)
        stack.enter_context(kiro)
        releases = build_mirror(root / "kiro", service=f"https://{KIRO}").as_uri()
        home = Lab(root / "home", extra={"VMKIT_KIRO_RELEASES": releases}, enter=world.enter)
        home.home.mkdir(mode=0o700)
        subprocess.run(["cp", "-a", "--reflink=auto", lab.home / "images", home.home / "images"], check=True)
        (home.home / "cache/container").mkdir(parents=True)
        shutil.copy2(base, home.home / "cache/container")  # in the world its mirror cannot be reached from here
        stack.callback(home.run, "delete", "--force", NAME, code=None)
        home.run("create", NAME, "--egress", "strict", "--cpus", "2", "--memory", "2G", "--disk", "12G", "--no-login")
        home.run("net", "allow", NAME, f"{DEBIAN}:80", DEBIAN)
        trusted = b"".join(Path(file).read_bytes() for file in (_host_bundle(), kiro_ca))
        home.run("exec", NAME, "--", "sudo", "sh", "-c", TRUST, stdin=trusted)
        home.run("login", NAME)
        folder = root / "project"
        folder.mkdir()
        (folder / "main.py").write_text("print('hello')\n")
        home.run("run", NAME, str(folder), "--", "chat", "--no-interactive", "hello")
        made = Layered(home, kiro, folder, frozenset())
        yield dataclasses.replace(made, before=made.files())


@pytest.mark.parametrize("layer", LAYERS)
def test_kiro_chats_behind_a_layer_that_is_applied_when_first_asked_for(layered: Layered, layer: str) -> None:
    words = ("run", NAME, str(layered.folder), "--layer", layer)

    done = layered.lab.run(*words, "--", "chat", "--no-interactive", f"are you behind {layer}")

    assert f"a reply of the simulated service to: are you behind {layer}" in done.stdout.decode()
    assert "hello" in layered.behind(layer, "python3 main.py")


@pytest.mark.parametrize("layer", LAYERS)
def test_what_a_layer_should_stop_is_stopped_and_seen_without_it(layered: Layered, layer: str) -> None:
    open_doors = layered.verify("none")
    closed = layered.verify(layer)

    for name in ("write-outside", "read-key", "see-process", "signal-process", "root", "variable"):
        assert (open_doors[name], closed[name]) == ("open", "closed"), name
    assert closed["net-unlisted"] == "closed"
    assert closed["write-workspace"] == "open"


def test_the_machine_stops_all_that_is_this_computer_s(layered: Layered) -> None:
    assert set(layered.verify("machine").values()) <= {"open", "closed"}


def test_the_exported_container_is_built_in_the_guest_and_runs_kiro(layered: Layered, tmp_path: Path) -> None:
    lab = layered.lab
    lab.run("policy", "export", NAME, "--to", "docker", "--output", str(tmp_path / "out"))
    lab.run("copy", str(tmp_path / "out"), f"{NAME}:exported")

    lab.exec(NAME, "sh", "-ec", SMALL)
    said = lab.exec(NAME, "sh", "-ec", RUN, "sh", "cat file; kiro-cli --version; touch /etc/x || echo walled")
    lab.exec(NAME, "sh", "-ec", "rm -rf ~/exported ~/p")

    assert "here\n" in said
    assert "kiro-cli" in said
    assert said.endswith("walled\n")


def test_two_comparisons_fill_every_cell_and_agree(layered: Layered) -> None:
    layered.lab.run("stop", NAME)  # the first one measures its start
    tables = [json.loads(layered.lab.run("compare", NAME, "--json").stdout)["rows"] for _ in range(2)]

    answers = []
    for rows in tables:
        cells = [cell for row in rows for cell in row["cells"].values()]
        assert all(
            cell["value"] is not None or cell["text"].startswith(("not measured: ", "not shown: ")) for cell in cells
        )
        answers.append([cell["value"] for cell in cells if isinstance(cell["value"], bool)])
    assert answers[0] == answers[1]
    assert {True, False} <= set(answers[0])


def test_nothing_of_a_layer_is_left(layered: Layered) -> None:
    there = layered.files()

    layered.lab.run("provision", NAME, "--remove", "srt", "--remove", "container")

    assert there - layered.before > {"/usr/local/bin/srt"}
    assert layered.files() - layered.before == set()
