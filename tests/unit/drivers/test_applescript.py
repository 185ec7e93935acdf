import json
from pathlib import Path

import pytest

import vmkit.drivers
from tests.hostile import hostile_names
from vmkit.drivers.applescript import AppleScript, Entry, dropped_elements
from vmkit.drivers.events import UtmRefused, UtmUnknown
from vmkit.errors import HostLacks, Refused, ToolFailed, UsageError
from vmkit.host.process import Completed, Runner

UUID = "6F9619FF-8B86-4D01-B42D-00CF4FC964FF"
OTHER = "11111111-2222-3333-4444-555555555555"
SCRIPTS = Path(vmkit.drivers.__file__).parent / "scripts"


class Scripts(Runner):
    """Answers each script by its name, in turn, and notes what was run."""

    def __init__(self, **answers: object) -> None:
        self.answers = {name: list(given) if isinstance(given, tuple) else [given] for name, given in answers.items()}
        self.ran: list[list[str]] = []

    def find(self, program):
        return Path("/usr/bin") / program

    def run(self, argv, **_):
        self.ran.append(list(argv))
        script = next(Path(word) for word in argv if word.startswith(str(SCRIPTS)))
        given = self.answers.get(script.stem, [""])
        answer = given.pop(0) if len(given) > 1 else given[0]
        code, stderr = 0, b""
        if isinstance(answer, Exception):
            code, stderr, answer = 1, str(answer).encode(), ""
        said = answer if isinstance(answer, str) else json.dumps(answer)
        return Completed(argv=tuple(argv), code=code, stdout=said.encode(), stderr=stderr)


def test_each_script_is_run_as_a_file_with_arguments():
    runner = Scripts(**{"import": f"virtual machine id {UUID} of application UTM\n"}, list=[])
    scripts = AppleScript(runner=runner)

    scripts.import_bundle(Path("/a b/x.utm"))
    scripts.export(UUID, Path("/out.utm"))
    scripts.share(UUID, [Path("/one"), Path("/two")])
    scripts.listing()

    assert runner.ran == [
        ["/usr/bin/osascript", str(SCRIPTS / "import.applescript"), "/a b/x.utm"],
        ["/usr/bin/osascript", str(SCRIPTS / "export.applescript"), UUID, "/out.utm"],
        ["/usr/bin/osascript", str(SCRIPTS / "shares.applescript"), UUID, "/one", "/two"],
        ["/usr/bin/osascript", "-l", "JavaScript", str(SCRIPTS / "list.js")],
    ]


def test_every_script_that_is_run_is_shipped_and_takes_arguments():
    shipped = sorted(path.name for path in SCRIPTS.iterdir())

    assert shipped == [
        "configuration.js",
        "duplicate.applescript",
        "export.applescript",
        "import.applescript",
        "list.js",
        "shares.applescript",
        "update_configuration.js",
    ]
    for path in SCRIPTS.iterdir():
        text = path.read_text()
        assert "on run argv" in text or "function run(" in text
        assert "do shell script" not in text
        assert "run script" not in text


@pytest.mark.parametrize("name", hostile_names())
def test_a_hostile_name_is_an_argument_and_nothing_else(name):
    runner = Scripts(list=([], [{"id": OTHER, "name": name}]))
    scripts = AppleScript(runner=runner)

    scripts.duplicate(UUID, name)
    scripts.export(UUID, Path("/") / name)
    scripts.share(UUID, [Path("/") / name])

    duplicated, exported, shared = (argv for argv in runner.ran if "list.js" not in argv[-1])
    assert duplicated == ["/usr/bin/osascript", str(SCRIPTS / "duplicate.applescript"), UUID, name]
    assert exported[-1] == shared[-1] == str(Path("/") / name)


@pytest.mark.parametrize("name", ["a\0b", "\0", "\ud800", "x" * (97 << 10)])
def test_what_cannot_be_an_argument_is_refused_before_anything_runs(name):
    runner = Scripts(list=[])

    with pytest.raises(UsageError, match="cannot be given to UTM"):
        AppleScript(runner=runner).share(UUID, [Path("/") / name])

    assert runner.ran == []


def test_an_import_without_a_uuid_is_none():
    with pytest.raises(ToolFailed, match="does not say what it imported"):
        AppleScript(runner=Scripts(**{"import": "missing value\n"})).import_bundle(Path("/x.utm"))


def test_what_utm_says_no_to_is_quoted():
    no = Exception(
        f"{SCRIPTS}/export.applescript:0:0: execution error: UTM got an error: Operation not available. (-2700)"
    )

    with pytest.raises(UtmRefused, match="Operation not available"):
        AppleScript(runner=Scripts(export=no)).export(UUID, Path("/x"))


def test_a_machine_that_scripts_do_not_find_is_unknown():
    no = Exception(f'x.js: execution error: Error: Error: Can\u2019t get virtual machine id "{UUID}". (-1728)')

    with pytest.raises(UtmUnknown):
        AppleScript(runner=Scripts(configuration=no)).configuration(UUID)


def test_without_osascript_this_is_no_mac():
    class Linux(Scripts):
        def find(self, program):
            return None

    with pytest.raises(HostLacks, match="only macOS has it"):
        AppleScript(runner=Linux()).listing()


def test_the_listing_is_made_of_uuids_and_foreign_text():
    runner = Scripts(list=[{"id": UUID.lower(), "name": "x\ny", "backend": "qemu", "status": "stopped"}])

    assert AppleScript(runner=runner).listing() == [Entry(uuid=UUID, name="x\ny", backend="qemu", status="stopped")]


@pytest.mark.parametrize(
    "said", ["", "no JSON", "{}", "[1]", '[{"id": 1, "name": "x"}]', "[" * 100_000, " " * (2 << 20)]
)
def test_a_listing_that_is_none_is_refused(said):
    with pytest.raises(ToolFailed, match=r"list\.js"):
        AppleScript(runner=Scripts(list=said)).listing()


@pytest.mark.parametrize("said", ["", "[]", "null", '"x"', "1e999999"])
def test_a_configuration_that_is_none_is_refused(said):
    with pytest.raises(ToolFailed, match=r"configuration\.js"):
        AppleScript(runner=Scripts(configuration=said)).configuration(UUID)


def test_an_update_that_would_drop_elements_names_them_and_is_not_made():
    now = {"drives": [{"id": "A"}, {"id": "B"}], "networkInterfaces": [{"index": 0}, {"index": 1}]}
    runner = Scripts(configuration=now)

    with pytest.raises(Refused, match=r"drives\[B\], networkInterfaces\[0\]"):
        AppleScript(runner=runner).update_configuration(
            UUID, {"drives": [{"id": "A"}, {}], "networkInterfaces": [{"index": 1}]}
        )

    assert len(runner.ran) == 1


def test_an_update_sends_its_changes_as_one_argument():
    runner = Scripts(configuration={"networkInterfaces": [{"index": 0, "mode": "emulated"}]})

    AppleScript(runner=runner).update_configuration(UUID, {"networkInterfaces": [{"index": 0, "mode": "shared"}]})

    *_, uuid, change = runner.ran[-1]
    assert uuid == UUID
    assert json.loads(change) == {"networkInterfaces": [{"index": 0, "mode": "shared"}]}


def test_an_update_of_nothing_only_lets_utm_save():
    runner = Scripts(configuration={"name": "kiro-vm", "memory": 4096})

    AppleScript(runner=runner).update_configuration(UUID, {})

    assert json.loads(runner.ran[-1][-1]) == {"name": "kiro-vm"}


@pytest.mark.parametrize(
    ("now", "changes", "dropped"),
    [
        ({"drives": [{"id": "A"}]}, {}, []),
        ({"drives": [{"id": "A"}]}, {"drives": []}, ["drives[A]"]),
        ({"drives": [{"id": "A"}]}, {"drives": [{"id": "A", "interface": "USB"}]}, []),
        ({"serialPorts": [{"index": 0}, {"index": 1}]}, {"serialPorts": [{"index": 0}]}, ["serialPorts[1]"]),
        ({"drives": [{"id": "\x1b[2J"}]}, {"drives": []}, ["drives[^[[2J]"]),
        (
            {"qemuAdditionalArguments": [{"argumentString": "-x"}]},
            {"qemuAdditionalArguments": [{"argumentString": "-x"}]},
            [],
        ),
        ({}, {"drives": [{}]}, []),
        ({"memory": 1}, {"memory": 2}, []),
    ],
)
def test_what_an_update_drops_is_known_before(now, changes, dropped):
    assert dropped_elements(now, changes) == dropped
