import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmkit.drivers.base import MachineState, PortTaken
from vmkit.drivers.events import UtmAbsent, UtmRefused, UtmUnknown, failure, patiently
from vmkit.drivers.utmctl import Listed, Utmctl, parse_list, parse_status
from vmkit.errors import HostLacks, TimedOut, ToolFailed
from vmkit.host.process import Completed, Runner

UUID = "6F9619FF-8B86-4D01-B42D-00CF4FC964FF"
HEADER = "UUID                                 Status   Name\n"
EVENT = "Error from event: The operation couldn\u2019t be completed. (OSStatus error {code}.)\n{words}\n"


class Says(Runner):
    """Answers every program with the same, and notes what was run."""

    def __init__(self, stdout: str = "", *, stderr: str = "", code: int = 0) -> None:
        self.answer, self.error, self.code = stdout.encode(), stderr.encode(), code
        self.ran: list[tuple[list[str], dict]] = []

    def run(self, argv, **options):
        self.ran.append((list(argv), options))
        return Completed(argv=tuple(argv), code=self.code, stdout=self.answer, stderr=self.error)


def utmctl(runner: Runner) -> Utmctl:
    return Utmctl(Path("/Applications/UTM.app/Contents/MacOS/utmctl"), runner=runner)


def test_the_list_is_read_by_its_columns():
    text = f"{HEADER}{UUID} started  kiro vm\n{UUID.replace('6', '7')} stopped  \n"

    assert parse_list(text) == [
        Listed(uuid=UUID, state=MachineState.RUNNING, name="kiro vm"),
        Listed(uuid=UUID.replace("6", "7"), state=MachineState.STOPPED, name=""),
    ]


def test_a_name_that_looks_like_a_row_does_not_replace_the_row_before_it():
    text = f"{HEADER}{UUID} stopped  x\n{UUID} started  x\nnonsense\n"

    assert parse_list(text) == [Listed(uuid=UUID, state=MachineState.STOPPED, name="x")]


def test_a_status_that_nobody_knows_is_broken_in_the_list():
    assert parse_list(f"{HEADER}{UUID} sleeping x\n")[0].state == MachineState.BROKEN


@given(st.text(max_size=300))
def test_no_list_is_too_odd_to_be_read(text):
    for row in parse_list(text):
        assert len(row.uuid) == 36
        assert row.name.isprintable()


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("stopped", MachineState.STOPPED),
        ("starting", MachineState.STARTING),
        ("started", MachineState.RUNNING),
        ("pausing", MachineState.RUNNING),
        ("paused", MachineState.PAUSED),
        ("resuming", MachineState.STARTING),
        ("stopping", MachineState.STOPPING),
    ],
)
def test_each_status_has_its_state(word, state):
    assert parse_status(f"{word}\n") == state


@pytest.mark.parametrize("said", ["", "unknown\n", "Stopped\n", "stopped started", "\x1b[2J" * 5000])
def test_another_word_is_no_status(said):
    with pytest.raises(ToolFailed) as caught:
        parse_status(said)

    assert set(caught.value.message) <= set(string.printable + "…")
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda tool: tool.start(UUID), ["start", UUID]),
        (lambda tool: tool.start(UUID, disposable=True), ["start", UUID, "--disposable"]),
        (lambda tool: tool.start(UUID, recovery=True), ["start", UUID, "--recovery"]),
        (lambda tool: tool.suspend(UUID), ["suspend", UUID]),
        (lambda tool: tool.stop(UUID, how="request"), ["stop", UUID, "--request"]),
        (lambda tool: tool.delete(UUID), ["delete", UUID]),
        (lambda tool: tool.execute(UUID, ["poweroff", "-f"]), ["exec", UUID, "--cmd", "poweroff", "-f"]),
        (lambda tool: tool.addresses(UUID), ["ip-address", UUID]),
        (lambda tool: tool.version(), ["version"]),
    ],
)
def test_each_verb_is_said_as_utmctl_wants_it_in_plain_english_within_a_limit(call, words):
    runner = Says()

    call(utmctl(runner))

    [(argv, options)] = runner.ran
    assert argv == ["/Applications/UTM.app/Contents/MacOS/utmctl", *words]
    assert {"LANG": "C", "LC_ALL": "C"}.items() <= options["env"].items()
    assert 0 < options["timeout_s"] <= 120


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ("WARNING: attach command is not implemented yet!\nPTTY: /dev/ttys004\n", "/dev/ttys004"),
        ("WARNING: attach command is not implemented yet!\nTCP: 127.0.0.1:4321\n", "127.0.0.1:4321"),
        ("WARNING: attach command is not implemented yet!\n", None),
        ("", None),
    ],
)
def test_attach_says_where_the_serial_port_is(said, place):
    assert utmctl(Says(said)).attach(UUID) == place


@pytest.mark.parametrize(
    ("code", "words", "error"),
    [
        (-1743, "Not authorized to send Apple events to UTM.", HostLacks),
        (-1712, "AppleEvent timed out.", TimedOut),
        (-600, "Application isn\u2019t running.", UtmAbsent),
        (-609, "Connection is invalid.", UtmAbsent),
        (-2700, "The virtual machine is not running.", UtmRefused),
        (-2700, "UTM is not ready to accept commands.", UtmAbsent),
        (-2700, "qemu: -netdev user: Could not set up host forwarding rule 'tcp:127.0.0.1:1-:22'", PortTaken),
        (-2700, "could not set up host forwarding rule", PortTaken),
        (-10000, "Apple event handler failed.", UtmRefused),
    ],
)
def test_an_error_of_an_event_is_a_failure_although_the_exit_code_is_0(code, words, error):
    with pytest.raises(error) as caught:
        utmctl(Says("stopped\n", stderr=EVENT.format(code=code, words=words))).start(UUID)

    assert type(caught.value) is error
    assert words in caught.value.detail


def test_a_refusal_is_told_in_its_own_words():
    with pytest.raises(UtmRefused) as caught:
        utmctl(Says(stderr=EVENT.format(code=-2700, words="Operation not available."))).start(UUID)

    assert caught.value.message == "utmctl start: Operation not available."


@pytest.mark.parametrize(
    ("stderr", "code", "error"),
    [
        ("Error: Virtual machine not found.\n", 1, UtmUnknown),
        ("Error: Application not found.\n", 1, HostLacks),
        ("Error: Device not found.\n", 1, UtmRefused),
        ("Error: Unknown option '--recovery'\nUsage: utmctl start\n", 64, ToolFailed),
        ("", 1, ToolFailed),
        ("-[UTMScriptingApplication version]: unrecognized selector", -6, ToolFailed),
    ],
)
def test_what_utmctl_itself_says_is_told_apart(stderr, code, error):
    with pytest.raises(error) as caught:
        utmctl(Says(stderr=stderr, code=code)).start(UUID)

    assert type(caught.value) is error


def test_an_old_utmctl_is_to_be_updated():
    with pytest.raises(ToolFailed, match='"version"') as caught:
        utmctl(Says(stderr="Error: Unexpected argument 'version'\n", code=64)).version()

    assert "update UTM" in caught.value.hint


def test_the_words_of_a_guest_are_not_taken_for_utms():
    said = EVENT.format(code=-1743, words="NOTE")

    utmctl(Says(stderr=said, code=1)).execute(UUID, ["poweroff"])


def test_over_ssh_permission_is_explained_otherwise():
    said = EVENT.format(code=-1743, words="NOTE").encode()

    here = failure(said, what="list", environment={})
    there = failure(said, what="list", environment={"SSH_CONNECTION": "1 2 3 4"})

    assert here.hint.startswith("System Settings → Privacy & Security → Automation")
    assert there.hint.startswith("not over SSH, not before login")


@given(st.binary(max_size=500))
def test_no_failure_is_too_odd_to_be_told(said):
    error = failure(said, what="list", environment={})

    assert error.message.replace("\t", "").isprintable()
    assert (error.detail or "x").replace("\t", "").replace("\n", "").isprintable()


def test_patience_ends_at_the_deadline_with_the_last_reason():
    def absent():
        raise UtmAbsent("UTM is not running")

    with pytest.raises(TimedOut, match=r"no answer: not within 0\.1 s") as caught:
        patiently(absent, what="no answer", within_s=0.1)

    assert (caught.value.detail, caught.value.hint) == ("UTM is not running", "open UTM and try again")


def test_patience_is_for_an_absent_utm_only():
    calls = []

    def refuse():
        calls.append(1)
        raise UtmRefused("no")

    with pytest.raises(UtmRefused):
        patiently(refuse, what="no answer")

    assert calls == [1]
