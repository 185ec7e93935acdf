"""The simulated kiro-cli prints what the real one was recorded to print, for every way a login can end."""

import json
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kirosim.cli import Cli
from tests.kirosim.mirror import build_mirror
from tests.kirosim.server import Server
from tests.kirosim.service import Decision, Service

CODE = "ABCD-EFGH"
START_URL = "https://d-1234567890.awsapps.com/start"
DEVICE = ("login", "--license", "free", "--use-device-flow")

# As recorded; `{code}` and `{url}` are filled in below.
PROMPT = "\nConfirm the following code in the browser\nCode: {code}\n\nOpen this URL: {url}\n"
PROMPT_WITHOUT_URL = "\nConfirm the following code in the browser\nCode: {code}\n\n"
SOCIAL_PROMPT = "\nTo sign in with Google, visit:\n  {url}\n\nAnd confirm the code: {code}\n\n"
BUILDER_URL = f"https://view.awsapps.com/start/#/device?user_code={CODE}"
SPINNER = "▰▱▱▱▱▱▱"


@pytest.fixture
def service() -> Service:
    return Service(interval_s=0.15, new_code=lambda: CODE)


@pytest.fixture
def server(service: Service) -> Iterator[Server]:
    with Server(service=service) as running:
        yield running


@pytest.fixture
def cli(tmp_path: Path, server: Server) -> Cli:
    return Cli(tmp_path / "home", service=server.address)


@pytest.fixture
def decide(service: Service) -> Callable[[Decision], None]:
    def at_once(decision: Decision) -> None:
        service.on_request = lambda made: service.decide(made.user_code, decision) and None

    return at_once


def without_spinner(output: bytes, text: str = " Logging in...") -> str:
    """Take the frames out; how many there are is a matter of time."""
    return re.sub(rf"(\r[▰▱]{{7}}{re.escape(text)})+", "<SPINNER>", output.decode())


def sign_in(cli: Cli, decide: Callable[[Decision], None]) -> None:
    decide(Decision.APPROVED)
    assert cli.run(*DEVICE).returncode == 0


def test_versions_are_those_of_the_release(cli: Cli) -> None:
    assert cli.run("--version").stdout == b"kiro-cli 2.24.1\n"
    assert cli.run("--version", program="kiro-cli-chat").stdout == b"kiro-cli-chat 2.24.1\n"


def test_it_says_what_it_is_when_asked(cli: Cli) -> None:
    assert json.loads(cli.run("kirosim").stdout)["kirosim"] == "a stand-in for Kiro CLI, not Kiro"


def test_builder_id_login_through_a_pipe(cli: Cli, decide: Callable[[Decision], None]) -> None:
    decide(Decision.APPROVED)

    done = cli.run(*DEVICE)

    wanted = PROMPT.format(code=CODE, url=BUILDER_URL) + "\x1b[?25l<SPINNER>\x1b[2K\rDevice authorized\n\x1b[?25h"
    assert without_spinner(done.stdout) == wanted
    assert done.stdout.decode().index(f"\r{SPINNER} Logging in...") > 0
    assert done.stderr == b"Logged in successfully\n"
    assert done.returncode == 0


def test_chat_binary_has_words_of_its_own(cli: Cli, decide: Callable[[Decision], None]) -> None:
    decide(Decision.APPROVED)

    done = cli.run(*DEVICE, program="kiro-cli-chat")

    assert without_spinner(done.stdout).endswith("\x1b[2K\rLogged in\n\x1b[?25h")
    assert done.stderr == b""


@pytest.mark.parametrize(("program", "sgr"), [("kiro-cli", "1"), ("kiro-cli-chat", "35")])
def test_code_stands_out_on_a_terminal(cli: Cli, decide: Callable[[Decision], None], program: str, sgr: str) -> None:
    decide(Decision.APPROVED)

    with cli.terminal(*DEVICE, program=program) as terminal:
        assert terminal.end() == 0

    shown = PROMPT.format(code=f"\x1b[{sgr}m{CODE}\x1b[0m", url=BUILDER_URL).replace("\n", "\r\n")
    assert terminal.seen.decode().startswith(shown)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
def test_code_is_plain_where_colour_is_unwanted(
    cli: Cli, decide: Callable[[Decision], None], env: dict[str, str]
) -> None:
    decide(Decision.APPROVED)

    with cli.terminal(*DEVICE, env={"SSH_TTY": "x", **env}) as terminal:
        terminal.end()

    assert f"Code: {CODE}\r\n".encode() in terminal.seen


@pytest.mark.parametrize("decision", [Decision.DENIED, Decision.EXPIRED, Decision.SLOW_DOWN])
def test_what_the_service_refuses_ends_on_the_spinners_line(
    cli: Cli, decide: Callable[[Decision], None], service: Service, decision: Decision
) -> None:
    decide(decision)

    done = cli.run(*DEVICE)

    assert without_spinner(done.stdout).endswith("\x1b[?25l<SPINNER>\x1b[?25h")
    assert done.stderr == b"error: service error\n"
    assert done.returncode == 1
    told = {Decision.DENIED: "access_denied", Decision.EXPIRED: "expired_token", Decision.SLOW_DOWN: "slow_down"}
    found = service.find(CODE)
    assert found is not None
    assert found.polls == [told[decision]]
    assert cli.run("whoami").returncode == 1


def test_login_waits_while_the_answer_is_pending(cli: Cli, service: Service) -> None:
    with cli.terminal(*DEVICE) as terminal:
        terminal.wait_for("Logging in...\r")
        found = service.find(CODE)
        assert found is not None
        while "authorization_pending" not in found.polls:
            terminal.wait_for("Logging in...")
        service.decide(CODE, Decision.APPROVED)
        assert terminal.end() == 0

    assert found.polls[-1] == "approved"
    assert set(found.polls[:-1]) == {"authorization_pending"}


def test_login_ends_when_the_code_runs_out(cli: Cli, service: Service) -> None:
    service.lifetime_s = 0.4

    done = cli.run(*DEVICE)

    assert done.stderr == b"error: service error\n"


def test_interrupt_ends_with_one(cli: Cli) -> None:
    with cli.terminal(*DEVICE) as terminal:
        terminal.wait_for("Logging in...")
        terminal.type("\x03")
        # The terminal turns ^C into SIGINT only for its foreground session; a session of its own has none: send it.
        terminal._child.send_signal(signal.SIGINT)

        assert terminal.end() == 1


def test_second_login_is_refused(cli: Cli, decide: Callable[[Decision], None]) -> None:
    sign_in(cli, decide)

    done = cli.run(*DEVICE)

    assert done.stderr == b"error: Already logged in, please logout with kiro-cli logout first\n"
    assert (done.returncode, done.stdout) == (1, b"")


def test_unreachable_service_is_a_dispatch_failure(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home", service="http://127.0.0.1:9")

    done = cli.run(*DEVICE)

    assert done.stderr.startswith(b"error: dispatch failure (io error): ")
    assert done.returncode == 1


@pytest.mark.parametrize(
    "env",
    [
        {"SSH_CLIENT": "x"},
        {"SSH_CONNECTION": "x"},
        {"SSH_TTY": "x"},
        {"KIRO_FAKE_IS_REMOTE": "1"},
        {"Q_FAKE_IS_REMOTE": "0"},
    ],
)
def test_url_is_printed_when_remote_and_nothing_is_opened(
    cli: Cli, decide: Callable[[Decision], None], env: dict[str, str]
) -> None:
    decide(Decision.APPROVED)
    opened = _opener(cli, code=0)

    done = cli.run(*DEVICE, env=env)

    assert done.stdout.decode().startswith(PROMPT.format(code=CODE, url=BUILDER_URL))
    assert not opened.exists()


def test_url_is_swallowed_when_an_opener_says_it_worked(cli: Cli, decide: Callable[[Decision], None]) -> None:
    decide(Decision.APPROVED)
    opened = _opener(cli, code=0)

    done = cli.run(*DEVICE, env={})

    assert without_spinner(done.stdout).startswith(PROMPT_WITHOUT_URL.format(code=CODE) + "\x1b[?25l")
    assert opened.read_text() == BUILDER_URL + "\n"


def test_url_is_printed_when_the_opener_fails(cli: Cli, decide: Callable[[Decision], None]) -> None:
    decide(Decision.APPROVED)
    _opener(cli, code=1)

    done = cli.run(*DEVICE, env={})

    assert done.stdout.decode().startswith(PROMPT.format(code=CODE, url=BUILDER_URL))


def test_local_login_wants_a_browser_and_falls_back_on_nothing(cli: Cli) -> None:
    _opener(cli, code=1)

    done = cli.run("login", env={})

    assert without_spinner(done.stdout, " Opening browser... | Press (^) + C to cancel") == (
        "\x1b[?25l<SPINNER>\x1b[?25hFailed to open browser for authentication.\n"
        "Please try again with: kiro-cli login --use-device-flow\n"
    )
    assert done.stderr == b"error: No such file or directory (os error 2)\n"
    assert done.returncode == 1


def test_menu_is_skipped_without_a_terminal(cli: Cli, decide: Callable[[Decision], None]) -> None:
    decide(Decision.APPROVED)

    done = cli.run("login")

    assert done.stdout.decode().startswith(PROMPT.format(code=CODE, url=BUILDER_URL))
    assert b"Select" not in done.stderr


def test_menu_leads_to_google(cli: Cli, decide: Callable[[Decision], None]) -> None:
    decide(Decision.APPROVED)

    with cli.terminal("login", env={"SSH_TTY": "x", "NO_COLOR": "1"}) as terminal:
        terminal.wait_for("Use with Your Organization\r\n")
        assert "? Select login method ›\r\n❯ Use with Builder ID\r\n  Use with Google\r\n" in terminal.seen.decode()  # noqa: RUF001  # the real sign
        terminal.type("\x1b[B")
        terminal.wait_for("❯ Use with Google\r\n")  # noqa: RUF001  # the real sign
        terminal.type("\r")
        assert terminal.end() == 0

    shown = terminal.seen.decode()
    url = f"https://app.kiro.dev/account/device?user_code={CODE}&login_provider=Google"
    assert "✔ Select login method · Use with Google" in shown
    assert SOCIAL_PROMPT.format(code=CODE, url=url).replace("\n", "\r\n") in shown
    assert "\x1b[2K\rSigned in with Google\r\n" in shown
    assert cli.run("whoami").stdout.startswith(b"Logged in with Google\n")
    assert json.loads(cli.run("whoami", "-f", "json").stdout)["accountType"] == "SocialGoogle"


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (Decision.EXPIRED, "Device code expired. Please try again."),
        (Decision.DENIED, "Device flow error: access_denied"),
    ],
)
def test_social_login_says_how_it_failed(
    cli: Cli, decide: Callable[[Decision], None], decision: Decision, said: str
) -> None:
    decide(decision)

    with cli.terminal("login") as terminal:
        terminal.wait_for("Your Organization")
        terminal.type("jj\r")  # typed ahead, as a program would
        assert terminal.end() == 1

    assert said in terminal.seen.decode()


def test_menu_left_with_escape_is_no_method(cli: Cli) -> None:
    with cli.terminal("login", env={"SSH_TTY": "x", "NO_COLOR": "1"}) as terminal:
        terminal.wait_for("Your Organization")
        terminal.type("\x1b")

        assert terminal.end() == 1

    assert "error: No login method selected" in terminal.seen.decode()


def test_identity_center_asks_even_when_it_was_told(cli: Cli, decide: Callable[[Decision], None]) -> None:
    decide(Decision.APPROVED)
    told = ("--license", "pro", "--identity-provider", START_URL, "--region", "eu-central-1")

    with cli.terminal("login", *told, "--use-device-flow", env={"SSH_TTY": "x", "NO_COLOR": "1"}) as terminal:
        terminal.wait_for(f"? Enter Start URL › {START_URL}")  # noqa: RUF001  # the real sign
        terminal.type("\r")
        terminal.wait_for("? Enter Region › eu-central-1")  # noqa: RUF001  # the real sign
        terminal.type("\r")
        assert terminal.end() == 0

    shown = terminal.seen.decode()
    assert f"✔ Enter Start URL · {START_URL}\r\n" in shown
    assert "✔ Enter Region · eu-central-1\r\n" in shown
    assert f"Open this URL: {START_URL}/#/device?user_code={CODE}\r\n" in shown
    plain = cli.run("whoami").stdout.decode()
    assert plain.startswith(f"Logged in with IAM Identity Center ({START_URL})\nEmail: ")
    text = cli.run("whoami", "--format", "json").stdout.decode()
    account, end = json.JSONDecoder().raw_decode(text)
    assert (account["accountType"], account["startUrl"], account["region"]) == (
        "IamIdentityCenter",
        START_URL,
        "eu-central-1",
    )
    assert re.fullmatch(r"\n\nProfile:\nKirosimProfile\narn:aws:\S+\n", text[end:])


def test_identity_center_breaks_without_a_terminal(cli: Cli) -> None:
    done = cli.run("login", "--license", "pro", "--identity-provider", START_URL, "--region", "us-east-1")

    assert done.stderr == b"error: failed to construct request\n"


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("plain", b"Logged in with Builder ID\nEmail: agent@kirosim.invalid\n"),
        (
            "json",
            (
                b'{"accountType":"BuilderId","startUrl":"https://view.awsapps.com/start","region":"us-east-1",'
                b'"email":"agent@kirosim.invalid"}\n'
            ),
        ),
    ],
)
def test_whoami_tells_the_account(cli: Cli, decide: Callable[[Decision], None], form: str, wanted: bytes) -> None:
    sign_in(cli, decide)

    assert cli.run("whoami", "--format", form).stdout == wanted


@pytest.mark.parametrize(("form", "wanted"), [("plain", b"Not logged in\n"), ("json", b'{"account":null}\n')])
def test_whoami_tells_that_nobody_is(cli: Cli, form: str, wanted: bytes) -> None:
    done = cli.run("whoami", "-f", form)

    assert (done.returncode, done.stdout) == (1, wanted)


def test_logout_forgets(cli: Cli, decide: Callable[[Decision], None]) -> None:
    sign_in(cli, decide)

    done = cli.run("logout")

    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"You are now logged out\nRun kiro-cli login to log back in to Kiro CLI\n"
    assert cli.run("whoami").returncode == 1
    assert cli.run("logout").returncode == 0


def test_login_is_kept_where_and_as_the_real_one_keeps_it(cli: Cli, decide: Callable[[Decision], None]) -> None:
    sign_in(cli, decide)

    assert stat.S_IMODE(cli.database.stat().st_mode) == 0o600
    with sqlite3.connect(cli.database) as connection:
        kept = dict(connection.execute("SELECT key, value FROM auth_kv").fetchall())
    assert set(kept) == {"kirocli:odic:token", "kirocli:odic:device-registration"}
    assert {"access_token", "refresh_token", "expires_at", "region", "start_url", "oauth_flow", "scopes"} == set(
        json.loads(kept["kirocli:odic:token"])
    )


def test_chat_wants_a_login_or_a_key(cli: Cli) -> None:
    done = cli.run("chat", "--no-interactive", "hello")

    wanted = b"Not logged in. Set the KIRO_API_KEY environment variable or run `kiro-cli login` first.\n"
    assert (done.returncode, done.stderr) == (1, wanted)


def test_chat_answers_as_a_simulation(cli: Cli) -> None:
    done = cli.run("chat", "--no-interactive", "--trust-all-tools", "hello", env={"KIRO_API_KEY": "ksk_x"})

    assert done.returncode == 0
    assert b"kirosim: a simulated reply to: hello" in done.stdout


def test_chat_needs_its_sibling(cli: Cli) -> None:
    (cli.bin / "kiro-cli-chat").unlink()

    done = cli.run("chat", "--no-interactive", "x", env={"KIRO_API_KEY": "ksk_x"})

    assert (done.returncode, done.stderr) == (1, b"error: No such file or directory (os error 2)\n")


def test_settings_are_kept(cli: Cli) -> None:
    assert cli.run("settings", "app.disableAutoupdates", "true").returncode == 0

    assert json.loads((cli.home / ".kiro" / "settings" / "cli.json").read_text()) == {"app.disableAutoupdates": True}
    assert cli.run("settings", "app.disableAutoupdates").stdout == b"true\n"


def test_wrong_usage_ends_with_two(cli: Cli) -> None:
    assert cli.run("login", "--license", "gold").returncode == 2
    assert cli.run("login", "--social", "google").returncode == 2


@pytest.mark.parametrize("form", ["tar.gz", "tar.xz"])
def test_archive_installs_without_a_question(tmp_path: Path, form: str) -> None:
    home = _unpack(tmp_path, form)

    done = _install(tmp_path, home, KIRO_CLI_SKIP_SETUP="1")

    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (home / ".local/bin").iterdir()) == [
        "kiro-cli", "kiro-cli-chat", "kiro-cli-term", "q", "qchat",
    ]  # fmt: skip
    version = subprocess.run([home / ".local/bin/kiro-cli", "--version"], capture_output=True, check=True)
    assert version.stdout == b"kiro-cli 2.24.1\n"


def test_installer_asks_the_terminal_before_it_replaces(tmp_path: Path) -> None:
    home = _unpack(tmp_path, "tar.gz")
    _install(tmp_path, home, KIRO_CLI_SKIP_SETUP="1")

    again = _install(tmp_path, home, KIRO_CLI_SKIP_SETUP="1")

    assert again.returncode != 0
    assert b"Do you want to replace it? (y/N): " in again.stderr


def test_mirror_is_the_same_each_time(tmp_path: Path) -> None:
    manifests = [
        (build_mirror(tmp_path / name, service="http://10.0.2.2:1") / "latest" / "manifest.json").read_bytes()
        for name in ("a", "b")
    ]

    assert manifests[0] == manifests[1]


def test_serve_says_what_it_is_and_ends_when_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kirosim", "serve", "--interval", "0.2", "--approve-after", "0.1"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        about = json.loads(child.stdout.readline())
        done = Cli(tmp_path / "home", service=about["service"]).run(*DEVICE)
        with urllib.request.urlopen(f"{about['releases']}/latest/manifest.json") as answer:
            manifest = json.load(answer)
        child.send_signal(signal.SIGTERM)
        said = child.stderr.read().decode()

    assert child.returncode == 0
    assert "stand-in" in about["kirosim"]
    assert about["guest_service"].startswith("http://10.0.2.2:")
    assert manifest["version"] == about["version"]
    assert done.returncode == 0
    assert f"approve it at {about['page']}?user_code=" in said


def test_serve_ends_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-m', 'tests.kirosim', 'serve'],"
        " stdout=subprocess.PIPE, stderr=sys.stderr); print(child.stdout.readline().decode(), flush=True)"
    )
    root = Path(__file__).parents[2]

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, timeout=30, check=True
    )  # returns only when the grandchild, which holds stderr, has ended

    assert b'"pid"' in done.stdout


def _opener(cli: Cli, *, code: int) -> Path:
    opened = cli.home / "opened"
    (cli.bin / "xdg-open").write_text(f'#!/bin/sh\necho "$1" >>{opened}\nexit {code}\n')
    (cli.bin / "xdg-open").chmod(0o755)
    return opened


def _unpack(folder: Path, form: str) -> Path:
    root = build_mirror(folder / "mirror", service="http://10.0.2.2:1")
    with tarfile.open(root / "2.24.1" / f"kirocli-x86_64-linux.{form}") as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (folder / "home").mkdir()
    return folder / "home"


def _install(folder: Path, home: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [folder / "unpacked" / "kirocli" / "install.sh"],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        timeout=30,
        check=False,
    )
