"""What doctor says of a Mac, by what macOS's programs are documented to answer."""

from pathlib import Path

import pytest

from vmkit.errors import HostLacks
from vmkit.host.process import Completed, Runner
from vmkit.workflows.doctor_mac import mac_checks, origin, parse_version

APP = Path("/Applications/UTM.app")
SIGNED = """Executable=/Applications/UTM.app/Contents/MacOS/UTM
Identifier=com.utmapp.UTM
Format=app bundle with Mach-O universal (x86_64 arm64)
TeamIdentifier=ABCDE12345
"""
ADHOC = SIGNED.replace("TeamIdentifier=ABCDE12345", "Signature=adhoc\nTeamIdentifier=not set")
MAC = {
    "sw_vers": ("15.5\n", "", 0),
    "sysctl": ("Apple M2 Pro\n", "", 0),
    "launchctl": ("Aqua\n", "", 0),
    "xcode-select": ("/Library/Developer/CommandLineTools\n", "", 0),
    "codesign": ("", SIGNED, 0),
}


class MacRunner(Runner):
    """Answers as a Mac's programs do; a program that it does not know is not installed."""

    def __init__(self, **changes):
        self.answers = MAC | {name.replace("xcode_", "xcode-"): answer for name, answer in changes.items()}

    def run(self, argv, **_):
        name = Path(argv[0]).name
        if self.answers.get(name) is None:
            raise HostLacks(f'"{name}" is not installed')
        out, err, code = self.answers[name]
        return Completed(argv=tuple(argv), code=code, stdout=out.encode(), stderr=err.encode())


def examine(runner=None, *, environment=None, app=APP):
    found = list(mac_checks(app, runner=runner or MacRunner(), environment=environment or {}))
    assert len({check.id for check in found}) == len(found)
    return {check.id: check for check in found}


def test_a_mac_that_lacks_nothing_gets_no_warning():
    found = examine()

    assert {check.status for check in found.values()} == {"ok"}
    assert found["macos"].detail == "macOS 15.5 on Apple M2 Pro"
    assert "ABCDE12345" in found["utm-signature"].detail
    assert found["developer-tools"].detail == "/Library/Developer/CommandLineTools"
    assert "No route to host" in found["local-network"].detail
    assert "Local Network" in found["local-network"].fix


@pytest.mark.parametrize(
    ("changes", "check", "status", "words"),
    [
        (
            {"xcode_select": ("", "error: unable to get active developer directory", 2)},
            "developer-tools",
            "warn",
            "Xcode",
        ),
        ({"codesign": ("", ADHOC, 0)}, "utm-signature", "warn", "builder"),
        ({"codesign": ("", "UTM.app: code object is not signed at all", 1)}, "utm-signature", "warn", "not signed"),
        ({"launchctl": ("Background\n", "", 0)}, "session", "fail", "not at the Mac's screen"),
        ({"launchctl": None}, "session", "fail", "not at the Mac's screen"),
        ({"sysctl": ("Intel(R) Core(TM) i7\n", "", 0)}, "macos", "warn", "Apple silicon"),
        ({"sw_vers": ("12.7\n", "", 0)}, "macos", "warn", "macOS 13"),
        ({"sw_vers": ("14.6\n", "", 0)}, "local-network", "ok", "asks for no"),
        ({"sw_vers": ("\x1b[2Jboo\n", "", 0)}, "macos", "ok", "^[[2Jboo"),
    ],
)
def test_what_a_mac_lacks_is_said(changes, check, status, words):
    found = examine(MacRunner(**changes))[check]

    assert found.status == status
    assert words in found.detail
    assert status == "ok" or check == "macos" or found.fix


def test_an_ssh_session_is_no_place_for_utm():
    found = examine(environment={"SSH_CONNECTION": "10.0.0.1 50000 10.0.0.2 22"})["session"]

    assert (found.status, found.fix) == ("fail", "run vmkit in a terminal on the Mac's own screen, after login")


def test_a_mac_without_utm_has_no_signature_to_check():
    assert "utm-signature" not in examine(app=None)


@pytest.mark.parametrize(
    ("text", "version"), [("5.0.3", (5, 0, 3)), ("4.7.5 (118)", (4, 7, 5)), ("15", (15,)), ("", ()), ("v5", ())]
)
def test_versions_are_read(text, version):
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("program", "source"),
    [
        ("/opt/homebrew/bin/qemu-img", "from Homebrew"),
        ("/usr/local/Cellar/qemu/10.0/bin/qemu-img", "from Homebrew"),
        ("/Applications/UTM.app/Contents/MacOS/qemu-img", "from UTM"),
        ("/usr/bin/qemu-img", "neither Homebrew's nor UTM's"),
    ],
)
def test_where_a_program_comes_from_is_said(program, source):
    assert origin(Path(program)) == source
