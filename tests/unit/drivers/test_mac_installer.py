"""The installer is compiled once, signed with one entitlement, and none of its lines is believed beyond what it says."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.macinstaller import MacTools, error
from vmkit.drivers.mac_installer import build_installer, find_compiler, install, latest_image, parse_event
from vmkit.errors import ToolFailed
from vmkit.host.report import Silent
from vmkit.host.resources import data_folder

SOURCE = data_folder("provision") / "macos-installer"


class Heard(Silent):
    def __init__(self) -> None:
        self.amounts: list[tuple[float, float | None]] = []

    def progress(self, done: float, total: float | None, unit: str = "bytes") -> None:
        self.amounts.append((done, total))

    @contextlib.contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        yield


def built(tools: MacTools, cache: Path) -> Path:
    compiler = find_compiler(tools)
    assert compiler is not None
    return build_installer(compiler, runner=tools, cache=cache, report=Silent())


def installed(tools: MacTools, tmp_path: Path, report: Heard) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    (made / "disk.img").write_bytes(b"\0" * 100)
    install(
        built(tools, tmp_path / "cache"),
        ipsw=tmp_path / "a name; with 'quotes'.ipsw",
        folder=made,
        disk=made / "disk.img",
        cpus=4,
        memory_mib=8192,
        runner=tools,
        report=report,
    )
    return made


def test_it_is_compiled_and_signed_once(tmp_path: Path) -> None:
    tools = MacTools(tmp_path / "bin")

    first = built(tools, tmp_path / "cache")
    second = built(tools, tmp_path / "cache")

    assert first == second
    compiled = [line for line in tools.lines("compiled") if line != "--version"]
    assert len(compiled) == 1
    assert str(SOURCE / "installer.swift") in compiled[0]
    assert tools.lines("signed")[0].startswith(f"--force --sign - --entitlements {SOURCE / 'entitlements.plist'} ")


def test_another_compiler_makes_another_program(tmp_path: Path) -> None:
    tools = MacTools(tmp_path / "bin")
    first = built(tools, tmp_path / "cache")
    script = tools.folder / "swiftc"
    script.write_text(script.read_text().replace("6.1", "6.2"))

    assert built(tools, tmp_path / "cache") != first


@pytest.mark.parametrize("program", ["swiftc", "codesign"])
def test_a_mac_without_the_tools_has_no_compiler(tmp_path: Path, program: str) -> None:
    assert find_compiler(MacTools(tmp_path / "bin").without(program)) is None


def test_the_compiler_that_would_open_a_window_is_not_run(tmp_path: Path) -> None:
    tools = MacTools(tmp_path / "bin").failing("xcode-select")

    assert find_compiler(tools) is None
    assert tools.lines("compiled") == []


def test_a_signer_that_fails_leaves_no_program(tmp_path: Path) -> None:
    tools = MacTools(tmp_path / "bin").failing("codesign")

    with pytest.raises(ToolFailed, match="codesign"):
        built(tools, tmp_path / "cache")

    assert list((tmp_path / "cache").rglob("vmkit-macos-installer")) == []


def test_its_lines_become_progress_and_nonsense_among_them_does_no_harm(tmp_path: Path) -> None:
    report = Heard()

    made = installed(MacTools(tmp_path / "bin"), tmp_path, report)

    assert report.amounts == [(25.0, 100), (0.0, 100), (100.0, 100)]
    assert (made / "AuxiliaryStorage").read_bytes() == b"nvram"


def test_it_is_given_its_arguments_one_by_one(tmp_path: Path) -> None:
    tools = MacTools(tmp_path / "bin")

    made = installed(tools, tmp_path, Heard())

    (call,) = tools.lines("calls")
    assert json.loads(call) == [
        "install",
        *("--restore-image", str(tmp_path / "a name; with 'quotes'.ipsw")),
        *("--folder", str(made), "--disk", str(made / "disk.img"), "--cpus", "4", "--memory", str(8 << 30)),
    ]


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        (error(message="boom\x1b[2J", domain="X", code=1), "boom^[[2J", "--install-by-hand"),
        (error(message="old host", domain="VZErrorDomain", code=10006), "old host", "update this Mac"),
        (error(message="too many", domain="VZErrorDomain", code=6), "too many", "two macOS guests"),
        (error(message="", domain=["x"], code={"a": 1}), "no reason was given", "--install-by-hand"),
        ("sys.exit(3)", "exited with 3", None),
        ("print('not json'); sys.exit(0)", "without saying that it is done", None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL", None),
    ],
)
def test_its_failure_is_told_with_a_way_on(tmp_path: Path, body: str, message: str, hint: str | None) -> None:
    with pytest.raises(ToolFailed) as raised:
        installed(MacTools(tmp_path / "bin", body=body), tmp_path, Heard())

    assert message in raised.value.message
    assert hint is None or hint in str(raised.value.hint)


def test_it_says_where_the_newest_restore_image_is(tmp_path: Path) -> None:
    tools = MacTools(tmp_path / "bin", url="https://example.com/Mac_15.ipsw")

    latest = latest_image(built(tools, tmp_path / "cache"), runner=tools)

    assert (latest.url, latest.version, latest.build) == ("https://example.com/Mac_15.ipsw", "15.6.1", "24G90")


def test_an_installer_that_names_no_address_is_not_believed(tmp_path: Path) -> None:
    tools = MacTools(tmp_path / "bin", url="")

    with pytest.raises(ToolFailed):
        latest_image(built(tools, tmp_path / "cache"), runner=tools)


@given(line=st.text(max_size=200) | st.sampled_from(["[" * 5000, "{}", '{"event": 1}', "null", '{"event": "x"', "NaN"]))
def test_any_line_is_an_event_or_nothing(line: str) -> None:
    event = parse_event(line)

    assert event is None or isinstance(event["event"], str)


def test_the_swift_source_says_what_the_stand_in_does() -> None:
    source = (SOURCE / "installer.swift").read_text()

    for event in ("latest", "requirements", "progress", "done", "error"):
        assert f'"event": "{event}"' in source
    for option in ("--restore-image", "--folder", "--disk", "--cpus", "--memory"):
        assert f'values["{option}"]' in source


def test_the_swift_source_type_checks() -> None:
    compiler = shutil.which("swiftc")
    if compiler is None:
        pytest.skip("no Swift compiler here")
    probe = subprocess.run(
        [compiler, "-typecheck", "-"], check=False, input=b"import Virtualization", capture_output=True
    )
    # Virtualization is part of macOS: elsewhere no more than the syntax can be looked at.
    how = "-typecheck" if probe.returncode == 0 else "-parse"

    done = subprocess.run(
        [compiler, how, "-swift-version", "5", str(SOURCE / "installer.swift")],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
