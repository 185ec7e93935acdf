"""The exported settings under the real srt, where it is installed: what is allowed passes, the rest does not."""

import shutil
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmkit.host.process import Completed, Runner
from vmkit.network.policy import Mode, Policy
from vmkit.network.rules import Rule
from vmkit.workflows.policy_export import srt_files, write_files

NEEDED = ("srt", "bwrap", "socat", "rg", "curl")
POLICY = Policy(mode=Mode.STRICT, rules=(Rule(host="allowed.example.com", ports=(80,)),))

pytestmark = pytest.mark.skipif(
    not all(shutil.which(name) for name in NEEDED), reason=f"needs {', '.join(NEEDED)} (npm, apt)"
)


class _Upstream(socketserver.ThreadingTCPServer):
    """The proxy that srt's own goes through: answers 204 to whatever comes, and notes it."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[str] = []


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Upstream)
        line = self.rfile.readline().decode()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(line)
        if line.startswith("CONNECT"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while self.rfile.readline().strip():
                pass
        self.wfile.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")


@pytest.fixture
def upstream() -> Iterator[_Upstream]:
    with _Upstream() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (tmp_path / "home" / ".ssh" / "id_canary").write_text("canary")
    (tmp_path / "home" / "project").mkdir()
    write_files(srt_files(POLICY, tmp_path / "settings.json", now=0)[0], force=False)
    return tmp_path / "home"


def in_srt(home: Path, script: str, *, upstream: _Upstream | None = None, wall: bool = True) -> Completed:
    import os  # noqa: PLC0415  # the PATH on which srt was found

    env = {"HOME": str(home), "PATH": os.environ["PATH"], "GITHUB_TOKEN": "canary"}
    if upstream:
        env["HTTP_PROXY"] = f"http://127.0.0.1:{upstream.server_address[1]}"
    srt = ["srt", "--settings", str(home.parent / "settings.json"), "-c"] if wall else ["sh", "-c"]
    command = ["sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", str(home / "project"), *srt, script]
    return Runner().run(command, env=env, ok_codes=None, timeout_s=120)


@pytest.mark.slow
def test_the_workspace_is_written_and_nothing_beside_it(home: Path) -> None:
    attempt = "touch inside; touch ../outside; cat ~/.ssh/id_canary; echo token=$GITHUB_TOKEN"

    done = in_srt(home, attempt)

    assert (home / "project" / "inside").exists(), done.stderr
    assert not (home / "outside").exists()
    assert b"canary" not in done.stdout
    without = in_srt(home, attempt, wall=False)  # the probe can see
    assert (home / "outside").exists()
    assert without.stdout == b"canarytoken=canary\n"


@pytest.mark.slow
def test_the_network_is_the_policys_list(home: Path, upstream: _Upstream) -> None:
    ask = "curl -s -o /dev/null -w '%{{http_code}}' http://{0}/"

    allowed = in_srt(home, ask.format("allowed.example.com"), upstream=upstream)
    asked = list(upstream.asked)
    refused = in_srt(home, ask.format("other.example.com"), upstream=upstream)

    assert allowed.stdout == b"204", allowed.stderr
    assert any("allowed.example.com" in line for line in asked)
    assert refused.stdout != b"204"
    assert upstream.asked == asked
