"""A strict machine in a world of its own: ordinary tools work within the policy, all else fails at once with a reason.

Debian, PyPI and npm are the real ones, where they answer; git and Kiro are servers of this test, with its own CA.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.closedworld import World, closed_world
from tests.cloudimage import MIRROR
from tests.e2e.harness import Lab
from tests.kirosim.mirror import build_mirror
from tests.kirosim.server import Server
from tests.kirosim.service import Authorization, Decision, Service
from tests.tlsserver import TlsServer, certificates

pytestmark = pytest.mark.vm

NAME = "closed"
DEBIAN, GIT, KIRO = urlsplit(MIRROR).hostname or "", "git.example.com", "oidc.us-east-1.amazonaws.com"
PYPI, NPM = ("pypi.org", "files.pythonhosted.org"), ("registry.npmjs.org",)
DENIED = "denied.example.com"  # it has an address and a server: only the policy keeps the guest from it
NPM_PROGRAM = "https://registry.npmjs.org/npm/-/npm-10.9.4.tgz"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# The guest gets this computer's CAs too, should the mirrors that it reaches have one of their own.
TRUST = f"cat >>{BUNDLE} && ln -sf {BUNDLE} /usr/lib/ssl/cert.pem"
# What does not answer is waited for up to 60 s here; starting a program takes seconds on a computer that is busy.
AT_ONCE_S = 20.0


@dataclass(frozen=True)
class Closed:
    """A running strict machine, the Kiro service that it can reach, and who came to the denied server."""

    lab: Lab
    kiro: Server
    denied: TlsServer

    def sh(self, script: str, *, code: int = 0) -> str:
        """Run a script in the guest; return what it printed."""
        return self.lab.exec(NAME, "sh", "-ec", script, code=code)

    def fails(self, command: str) -> tuple[str, float]:
        """Run a command in the guest that has to fail; return what it said, and the seconds, measured there."""
        said = self.sh(
            "begun=$(cut -d' ' -f1 /proc/uptime); exec 2>&1\n"
            f"if {command}; then exit 99; fi; echo \"took $begun $(cut -d' ' -f1 /proc/uptime)\""
        )
        begun, ended = re.findall(r"^took ([\d.]+) ([\d.]+)$", said, re.MULTILINE)[-1]
        return said, float(ended) - float(begun)


@pytest.fixture(scope="module")
def closed(lab: Lab) -> Iterator[Closed]:
    """Make the world and, in it, a machine with the template's recipes: all that they fetch comes through the proxy."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmkit-closed-")))
        world = stack.enter_context(closed_world([DEBIAN, *PYPI, *NPM, GIT, KIRO, DENIED]))
        for name in (*PYPI, *NPM, DEBIAN):
            world.relay(name)
        world.relay(DEBIAN, 80)
        git, denied = (stack.enter_context(_web(world, name, root)) for name in (GIT, DENIED))
        _make_repository(git.root / "project.git", root)
        kiro, kiro_ca = _kiro(world, root)
        stack.enter_context(kiro)
        releases = build_mirror(root / "kiro", service=f"https://{KIRO}").as_uri()

        home = Lab(root / "home", extra={"VMKIT_KIRO_RELEASES": releases}, enter=world.enter)
        home.home.mkdir(mode=0o700)
        subprocess.run(["cp", "-a", "--reflink=auto", lab.home / "images", home.home / "images"], check=True)
        stack.callback(home.run, "delete", "--force", NAME, code=None)
        home.run("create", NAME, "--egress", "strict", "--cpus", "2", "--memory", "1G", "--disk", "8G", "--no-login")
        home.run("net", "allow", NAME, f"{DEBIAN}:80", DEBIAN, *PYPI, *NPM, GIT)
        trusted = b"".join(Path(file).read_bytes() for file in (_host_bundle(), git.ca_file, denied.ca_file, kiro_ca))
        home.run("exec", NAME, "--", "sudo", "sh", "-c", TRUST, stdin=trusted)
        yield Closed(home, kiro, denied)


def _host_bundle() -> str:
    return os.environ.get("SSL_CERT_FILE") or BUNDLE


@contextlib.contextmanager
def _web(world: World, name: str, root: Path) -> Iterator[TlsServer]:
    folder, work = root / name, root / f"{name}.tls"
    folder.mkdir()
    work.mkdir()
    (folder / "hello").write_text(f"hello from {name}\n")
    with TlsServer(folder, work, name=name, listener=world.listen(name)) as server:
        yield server


def _make_repository(bare: Path, root: Path) -> None:
    """Make a repository that a plain web server can serve."""
    work = root / "work"
    identity = ("-c", "user.name=Tests", "-c", "user.email=tests@example.com")
    for words in (
        ("init", "--quiet", str(work)),
        ("-C", str(work), *identity, "commit", "--quiet", "--allow-empty", "--message", "First"),
        ("clone", "--quiet", "--bare", str(work), str(bare)),
        ("-C", str(bare), "update-server-info"),
    ):
        subprocess.run(["git", *words], check=True)


def _kiro(world: World, root: Path) -> tuple[Server, Path]:
    """Return the simulated Kiro over TLS, at a name of the real one; it approves by itself."""
    work = root / "kiro.tls"
    work.mkdir()
    ca_file, tls = certificates(work, KIRO)
    service = Service()

    def approve(made: Authorization) -> None:
        service.decide(made.user_code, Decision.APPROVED)

    service.on_request = approve
    return Server(service=service, listener=world.listen(KIRO), tls=tls), ca_file


def _require(*names: str) -> None:
    for name in names:
        try:
            socket.create_connection((name, 443), timeout=10).close()
        except OSError as error:
            pytest.skip(f"{name} cannot be reached from here: {error}")


def test_apt_updates_and_installs(closed: Closed) -> None:
    closed.sh("sudo apt-get -q update && sudo apt-get -qy install --no-install-recommends python3-pip-whl")

    assert closed.sh("ls /usr/share/python-wheels/pip-*.whl")


def test_pip_installs(closed: Closed) -> None:
    _require(*PYPI)

    closed.sh("PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) python3 -m pip install -q --target=packages six")

    assert closed.sh('PYTHONPATH=packages python3 -c "import six; print(six.__name__)"') == "six\n"


@pytest.mark.long
def test_npm_installs(closed: Closed) -> None:
    _require(*NPM)
    closed.sh("sudo apt-get -qy install --no-install-recommends nodejs")

    closed.sh(
        f"curl -fsS {NPM_PROGRAM} | tar -xz\n"
        f"export NODE_EXTRA_CA_CERTS={BUNDLE}\n"
        "mkdir app && cd app && node ../package/bin/npm-cli.js install --no-audit --no-fund is-number"
    )

    assert closed.sh("cd app && node -p 'require(\"is-number\")(42)'") == "true\n"


def test_git_clones_over_https(closed: Closed) -> None:
    closed.sh(f"git clone --quiet https://{GIT}/project.git")

    assert closed.sh("git -C project log --format=%s") == "First\n"


def test_curl_works_for_users_for_root_and_in_login_shells(closed: Closed) -> None:
    fetch = f"curl -fsS https://{GIT}/hello"

    said = closed.sh(f"{fetch}; sudo {fetch}; env -i bash -lc '{fetch}'; sudo -i {fetch}")

    assert said.splitlines() == [f"hello from {GIT}"] * 4


def test_a_system_service_finds_the_proxy(closed: Closed) -> None:
    said = closed.sh(f"sudo systemd-run --quiet --wait --pipe curl -fsS https://{GIT}/hello")

    assert said == f"hello from {GIT}\n"


def test_kiro_logs_in_and_chats_over_tls(closed: Closed) -> None:
    closed.lab.run("login", NAME)

    said = closed.sh('"$HOME/.local/bin/kiro-cli" chat --no-interactive "are you there"')

    assert closed.lab.json("auth", "status", NAME)["logged_in"]
    assert "a reply of the simulated service to: are you there" in said
    assert ("POST", "/chat", None) in closed.kiro.requests


def test_another_host_is_refused_at_once_with_the_reason_that_net_why_repeats(closed: Closed) -> None:
    said, seconds = closed.fails(f"curl -sv --max-time 60 https://{DENIED}/hello")

    why = closed.lab.run("net", "why", NAME, DENIED, code=6)
    [reason] = re.findall(r"(?im)^< x-vmkit-reason: (.+?)\r?$", said)
    last = json.loads(closed.lab.run("net", "why", NAME, DENIED, "--json", code=6).stdout)["last_refusal"]
    assert last["reason"] in reason
    assert last["reason"] in why.stdout.decode()
    assert f"vmkit net allow {NAME} {DENIED}" in reason
    assert closed.denied.requests == []
    assert seconds < AT_ONCE_S


@pytest.mark.parametrize(
    "command",
    [
        "curl -sS --max-time 60 --noproxy '*' https://198.51.100.10/",
        "curl -sS --max-time 60 --noproxy '*' http://10.0.2.2/",
        f"curl -sS --max-time 60 --noproxy '*' https://{GIT}/hello",
        f"getent hosts {GIT}",
        f"git -c http.proxy= clone https://{DENIED}/project.git other",
    ],
)
def test_what_does_not_use_the_proxy_fails_at_once(closed: Closed, command: str) -> None:
    assert closed.fails(f"env -u http_proxy -u https_proxy -u HTTPS_PROXY {command}")[1] < AT_ONCE_S
