"""A whole login over a real sshd: the simulated kiro-cli, honest and hostile, and what vmkit shows of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cliclient import place_machine
from tests.kirosim.cli import Cli
from tests.kirosim.server import Server
from tests.kirosim.service import Decision, Service
from tests.sshd import PROGRAM, Sshd, running_sshd
from vmkit.errors import NotFound, Refused, TimedOut, ToolFailed, VmkitError, WrongState
from vmkit.host.paths import Paths
from vmkit.kiro.login import Prompt
from vmkit.kiro.verification import Method, Wanted, checked_wish
from vmkit.machines.model import Machine
from vmkit.machines.store import MachineStore
from vmkit.testing.driver import FakeDriver
from vmkit.workflows.login import LoggedIn, login
from vmkit.workflows.workspace import mark_workspace

pytestmark = pytest.mark.skipif(not PROGRAM, reason="needs sshd")

CODE = "ABCD-EFGH"
START_URL = "https://d-1234567890.awsapps.com/start"
FREE = Wanted()
PRO = checked_wish("pro", identity_provider=START_URL, region="eu-west-1")
GOOGLE = Wanted(method=Method.GOOGLE)
URL = f"https://view.awsapps.com/start/#/device?user_code={CODE}"


class Screen:
    """Keeps what was shown."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []

    def prompt(self, prompt: Prompt, *, wanted: Wanted) -> None:
        assert wanted
        self.prompts.append(prompt)

    def waiting(self, *, left_s: float) -> None:
        assert left_s >= 0


class Lab:
    """A machine that is this computer's sshd, with kiro-cli in a home of its own."""

    def __init__(self, folder: Path, sshd: Sshd, service: Service, cli: Cli) -> None:
        self.service, self.cli, self.screen = service, cli, Screen()
        self.machines = MachineStore(Paths(config=folder, data=folder, cache=folder / "cache"))
        self.driver = FakeDriver()
        self.machine: Machine = place_machine(self.machines, sshd, name="a")
        self.driver.start(self.machines.vm(self.machine))

    def login(self, wanted: Wanted = FREE, **options: object) -> LoggedIn:
        return login(
            self.machine, machines=self.machines, driver=self.driver, wanted=wanted, screen=self.screen, **options
        )

    def decide(self, decision: Decision) -> None:
        self.service.on_request = lambda made: self.service.decide(made.user_code, decision) and None

    def prints(self, text: str, *, code: int = 0) -> None:
        """Let `kiro-cli login` print this, wait a little, and end."""
        (self.cli.home / "printed").write_bytes(text.encode("utf-8", "surrogateescape"))
        (self.cli.bin / "kiro-cli").write_text(
            '#!/bin/sh\n[ "$1" = whoami ] && { echo \'{"account":null}\'; exit 1; }\n'
            f'cat "{self.cli.home}/printed"; sleep 3; exit {code}\n'
        )


@pytest.fixture
def service() -> Service:
    return Service(interval_s=0.15, new_code=lambda: CODE)


@pytest.fixture
def lab(tmp_path: Path, service: Service) -> Iterator[Lab]:
    tmp_path.chmod(0o700)
    home = tmp_path / "home"
    with Server(service=service) as server, running_sshd(tmp_path, extra=f"SetEnv HOME={home}\n") as sshd:
        yield Lab(tmp_path, sshd, service, Cli(home, service=server.address))


def fails(act: Callable[[], object], error: type[VmkitError]) -> VmkitError:
    with pytest.raises(error) as caught:
        act()
    return caught.value


def test_a_code_and_its_url_are_shown_and_the_rest_goes_by_itself(lab: Lab) -> None:
    lab.decide(Decision.APPROVED)

    done = lab.login()

    assert lab.screen.prompts == [Prompt(code=CODE, url=URL)]
    assert (done.already, done.identity.method) == (False, Method.FREE)


def test_a_login_whose_url_an_opener_swallows_shows_it_all_the_same(lab: Lab) -> None:
    opener = lab.cli.bin / "xdg-open"
    opener.write_text('#!/bin/sh\necho "$1" >"$HOME/opened"\n')
    opener.chmod(0o755)
    lab.decide(Decision.APPROVED)

    lab.login()

    assert lab.screen.prompts == [Prompt(code=CODE, url=URL)]
    assert not (lab.cli.home / "opened").exists()


def test_a_code_alone_is_enough(lab: Lab) -> None:
    lab.prints(f"\nConfirm the following code in the browser\nCode: {CODE}\n\n")

    fails(lab.login, ToolFailed)  # this one never logs in

    assert lab.screen.prompts == [Prompt(code=CODE, url=URL)]


def test_identity_center_is_logged_in_without_a_hand_on_the_guest(lab: Lab) -> None:
    lab.decide(Decision.APPROVED)

    done = lab.login(PRO)

    assert lab.screen.prompts == [Prompt(code=CODE, url=f"{START_URL}/#/device?user_code={CODE}")]
    assert (done.identity.method, done.identity.start_url) == (Method.PRO, START_URL)


@pytest.mark.parametrize("method", [Method.GOOGLE, Method.GITHUB])
def test_a_social_login_goes_through_the_menu(lab: Lab, method: Method) -> None:
    lab.decide(Decision.APPROVED)

    done = lab.login(Wanted(method=method))

    assert [prompt.code for prompt in lab.screen.prompts] == [CODE]
    assert done.identity.method is method


def test_who_is_logged_in_already_is_told_so(lab: Lab) -> None:
    lab.decide(Decision.APPROVED)
    lab.login()

    done = lab.login()

    assert done.already
    assert len(lab.screen.prompts) == 1


def test_who_is_logged_in_as_somebody_else_has_to_log_out(lab: Lab) -> None:
    lab.decide(Decision.APPROVED)
    lab.login()

    error = fails(lambda: lab.login(GOOGLE), WrongState)

    assert "Builder ID" in error.message
    assert error.hint == "vmkit auth logout a"


@pytest.mark.parametrize(("decision", "error"), [(Decision.DENIED, Refused), (Decision.EXPIRED, TimedOut)])
def test_how_a_login_ends_is_told_apart(lab: Lab, decision: Decision, error: type[VmkitError]) -> None:
    lab.decide(decision)

    raised = fails(lambda: lab.login(GOOGLE), error)

    assert raised.hint == "vmkit login a"
    assert raised.detail


def test_a_login_that_nobody_confirms_ends_at_its_deadline(lab: Lab) -> None:
    error = fails(lambda: lab.login(timeout_s=3), TimedOut)

    assert "3 s" in error.message
    assert len(lab.screen.prompts) == 1


def test_without_kiro_cli_the_next_command_installs_it(lab: Lab) -> None:
    (lab.cli.bin / "kiro-cli").unlink()

    assert fails(lab.login, NotFound).hint == "vmkit provision a --recipe kiro-cli"


def test_a_guest_that_cannot_reach_the_service_says_so(lab: Lab) -> None:
    (lab.cli.bin / "kirosim-service").write_text("http://127.0.0.1:9")

    assert "could not reach" in fails(lab.login, ToolFailed).message


def test_a_workspace_ends_the_time_for_logins(lab: Lab) -> None:
    mark_workspace(lab.machine, Path("/home/me/project"))
    lab.decide(Decision.APPROVED)

    error = fails(lab.login, Refused)

    assert "--after-workspace" in (error.hint or "")
    assert lab.login(after_workspace=True).identity.method is Method.FREE


@pytest.mark.parametrize(
    "text",
    [
        f"Code: {CODE}\nOpen this URL: https://view.awsapps.com.evil.example/start/#/device?user_code={CODE}\n",
        f"Code: {CODE}\nOpen this URL: {URL}\nCode: WXYZ-WXYZ\n",
        f"\x1b]52;c;ZXZpbA==\x07Code: {CODE}\n\x1b]8;;https://evil.example/\x07{URL}\x1b]8;;\x07\n",
        "A" * (1 << 20),
    ],
    ids=["host", "two codes", "link", "long line"],
)
def test_a_hostile_login_is_refused_and_its_words_are_harmless(lab: Lab, text: str) -> None:
    lab.prints(text)

    error = fails(lab.login, Refused)

    assert error.exit_code == 6
    assert (error.detail or "").isprintable()
    assert lab.screen.prompts in ([], [Prompt(code=CODE, url=URL)])


def test_a_login_that_never_ends_is_ended(lab: Lab) -> None:
    (lab.cli.bin / "kiro-cli").write_text(
        '#!/bin/sh\n[ "$1" = whoami ] && exit 1\nexec yes "$(head -c 3000 /dev/zero | tr "\\0" x)"\n'
    )

    assert fails(lambda: lab.login(timeout_s=60), Refused).exit_code == 6


def test_a_login_as_somebody_else_than_was_asked_for_is_no_success(lab: Lab) -> None:
    (lab.cli.bin / "kiro-cli").write_text(
        '#!/bin/sh\nif [ "$1" = whoami ]; then [ -e "$HOME/in" ] || exit 1\n'
        'echo \'{"accountType":"SocialGoogle","email":"x@y.invalid"}\'; exit 0; fi\n'
        f'touch "$HOME/in"; echo "Code: {CODE}"; echo "Open this URL: {URL}"\n'
    )

    assert "not as was asked: Google" in fails(lab.login, Refused).message
