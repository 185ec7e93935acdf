"""Which differences between two inventories are told, how they are ranked, and which are vmkit's own doing."""

import contextlib
import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from tests.ext4 import require_programs
from tests.unit.machines.test_model import MACHINE
from vmkit.bundle.layout import Bundle
from vmkit.cli.drift import show, summary
from vmkit.drivers.base import MachineState
from vmkit.errors import HostLacks, Refused, WrongState
from vmkit.guest.base import Command
from vmkit.guest.keys import load_keys
from vmkit.host.files import own_directory
from vmkit.host.paths import Paths
from vmkit.host.process import Runner
from vmkit.host.report import Silent
from vmkit.host.resources import data_folder
from vmkit.host.settings import load_settings
from vmkit.images.layout import Boot, ImageMeta, now
from vmkit.images.store import ImageStore
from vmkit.machines.store import MachineStore
from vmkit.testing.driver import FakeDriver
from vmkit.testing.guest import FakeGuest
from vmkit.workflows.apple import KERNEL
from vmkit.workflows.create import create
from vmkit.workflows.drift import Change, Drift, Finding, compare, drift
from vmkit.workflows.drift_baseline import baseline_of
from vmkit.workflows.drift_expected import expected_of
from vmkit.workflows.drift_inventory import FileFact, Inventory, User, inventory_script
from vmkit.workflows.drift_kinds import MEANINGS, Kind, Risk, capability_names, kind_of
from vmkit.workflows.plan import Wishes, make_plan

AGENT = User(uid=1000, gid=1000, home="/home/agent", shell="/bin/bash", password="locked", day=1)
FILE = FileFact(mode=0o644, uid=0, gid=0, content="a" * 64)
EMPTY = Inventory(users={"agent": AGENT}, groups={"sudo": frozenset({"agent"})}, packages={}, files={})


def inventory(**changes) -> Inventory:
    return dataclasses.replace(EMPTY, **changes)


def told(now: Inventory, before: Inventory = EMPTY, **options) -> list[tuple[Kind, Change, str]]:
    return [(one.kind, one.change, one.subject) for one in compare(now, before, **options)]


def test_the_same_twice_is_no_change():
    same = inventory(files={"/etc/cron.d/x": FILE}, packages={"git:amd64": "1"}, rights={"/bin/su": (0o4755, 0, 0)})

    assert compare(same, same) == ()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/etc/ld.so.preload", Kind.LOADER),
        ("/etc/ld.so.conf.d/x.conf", Kind.LIBRARIES),
        ("/etc/sudoers.d/x", Kind.SUDO),
        ("/etc/ssh/sshd_config", Kind.LOGIN),
        ("/etc/pam.d/sudo", Kind.LOGIN),
        ("/etc/systemd/system/multi-user.target.wants/x.service", Kind.UNIT),
        ("/usr/lib/systemd/system/x.timer", Kind.PACKAGED_UNIT),
        ("/usr/lib/vmkit/ready", Kind.UNIT),
        ("/usr/lib/vmkit/closed-network/environment", Kind.PROFILE),
        ("/etc/cron.hourly/x", Kind.CRON),
        ("/var/spool/cron/crontabs/agent", Kind.CRON),
        ("/etc/apt/trusted.gpg.d/x.gpg", Kind.APT),
        ("/home/agent/.kiro", Kind.KIRO_RUNS),
        ("/home/agent/.kiro/hooks/x.json", Kind.KIRO_RUNS),
        ("/home/agent/work/.kiro/agents/x.json", Kind.KIRO_RUNS),
        ("/home/agent/.kiro/settings/mcp.json", Kind.KIRO_RUNS),
        ("/home/agent/.kiro/settings", Kind.KIRO_RUNS),
        ("/home/agent/.kiro/settings/cli.json", Kind.KIRO),
        ("/home/agent/.kiro/steering/x.md", Kind.KIRO_READS),
        ("/home/agent/.aws/amazonq/mcp.json", Kind.KIRO_RUNS),
        ("/usr/local/lib/vmkit/kiro-hooks/deny", Kind.KIRO_RUNS),
        ("/home/agent/.config/systemd/user/x.service", Kind.USER_UNIT),
        ("/home/agent/.bashrc", Kind.PROFILE),
        ("/home/agent/.ssh/rc", Kind.PROFILE),
        ("/home/agent/.gitconfig", Kind.PROFILE),
        ("/etc/environment", Kind.PROFILE),
        ("/home/agent/.local/bin/sudo", Kind.PROGRAM),
        ("/root/bin/ls", Kind.PROGRAM),
        ("/etc/dpkg/dpkg.cfg", Kind.APT),
        ("/elsewhere", Kind.OTHER),
    ],
)
def test_a_path_tells_the_kind(path, kind):
    assert kind_of(path) is kind


def test_every_kind_has_its_risk_and_one_sentence_of_reason():
    assert set(MEANINGS) == set(Kind)
    assert not [kind for kind, meaning in MEANINGS.items() if meaning.risk is Risk.EXPECTED or "." in meaning.reason]


def test_kinds_are_in_the_order_of_their_risk():
    risks = [list(Risk).index(MEANINGS[kind].risk) for kind in Kind]

    assert risks == sorted(risks)


def test_changes_come_the_worst_first():
    now = inventory(
        packages={"git:amd64": "1"},
        files={"/home/agent/.bashrc": FILE, "/etc/cron.d/x": FILE, "/etc/ld.so.preload": FILE},
        rights={"/opt/x": (0o4755, 0, 0)},
        keys={"/root/.ssh/authorized_keys": frozenset({"ssh-rsa A"})},
        users={"agent": AGENT, "again": dataclasses.replace(AGENT, uid=0)},
    )

    assert [kind for kind, _, _ in told(now)] == [
        Kind.LOADER, Kind.ROOT_USER, Kind.RIGHTS, Kind.KEY, Kind.CRON, Kind.PROFILE, Kind.PACKAGE,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("new", "kind", "detail"),
    [
        ({"uid": 0}, Kind.ROOT_USER, "number 1000 → 0"),
        ({"shell": "/bin/sh"}, Kind.USER, "shell /bin/bash → /bin/sh"),
        ({"password": "set"}, Kind.USER, "password locked → set"),
    ],
)
def test_a_user_that_changed(new, kind, detail):
    [found] = compare(inventory(users={"agent": dataclasses.replace(AGENT, **new)}), EMPTY)

    assert (found.kind, found.change, found.subject, found.detail) == (kind, Change.CHANGED, "agent", detail)


def test_another_password_is_told_and_another_day_of_a_locked_one_is_not():
    had = inventory(users={"agent": dataclasses.replace(AGENT, password="set")})
    has = inventory(users={"agent": dataclasses.replace(AGENT, password="set", day=2)})

    assert [one.detail for one in compare(has, had)] == ["another password"]
    assert compare(inventory(users={"agent": dataclasses.replace(AGENT, day=2)}), EMPTY) == ()


def test_a_user_without_a_shell_and_one_that_went():
    daemon = dataclasses.replace(AGENT, shell="/usr/sbin/nologin")

    assert told(inventory(users={"d": daemon})) == [
        (Kind.USER, Change.REMOVED, "agent"),
        (Kind.SYSTEM_USER, Change.ADDED, "d"),
    ]


def test_a_member_of_a_group_that_may_become_root():
    now = inventory(groups={"sudo": frozenset({"agent", "eve"}), "games": frozenset({"eve"})})

    assert [(one.kind, one.subject, one.detail) for one in compare(now, EMPTY)] == [
        (Kind.SUDO, "group sudo", "eve is in it"),
        (Kind.GROUP, "group games", "eve is in it"),
    ]


@pytest.mark.parametrize(
    ("new", "detail"),
    [
        ({"content": "b" * 64}, "another content"),
        ({"mode": 0o4755}, "mode 0644 → 4755"),
        ({"uid": 5}, "of 0:0 → of 5:0"),
        ({"is_link": True, "content": "/dev/null"}, "0644 of 0:0 → link to /dev/null"),
    ],
)
def test_how_a_file_changed(new, detail):
    before = inventory(files={"/etc/cron.d/x": FILE})
    [found] = compare(inventory(files={"/etc/cron.d/x": dataclasses.replace(FILE, **new)}), before)

    assert (found.change, found.detail) == (Change.CHANGED, detail)


def test_settings_are_told_by_name_without_their_values():
    now = inventory(files={"/etc/environment": FILE}, lines={"/etc/environment": frozenset({"TOKEN=canary", "secret"})})

    [found] = compare(now, EMPTY)

    assert found.detail == "+TOKEN= +…"


def test_capabilities_and_packages():
    before = inventory(packages={"git:amd64": "1", "less:amd64": "2"})
    now = inventory(packages={"git:amd64": "1.1", "vim:amd64": "9"}, capabilities={"/opt/x": "01"})

    assert told(now, before) == [
        (Kind.RIGHTS, Change.ADDED, "/opt/x"),
        (Kind.PACKAGE, Change.ADDED, "vim:amd64"),
        (Kind.PACKAGE, Change.REMOVED, "less:amd64"),
        (Kind.PACKAGE, Change.CHANGED, "git:amd64"),
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0100000200200000000000000000000000000000", "net_raw"),
        ("010000020000000000000000" + "80000000" + "00000000", "bpf"),
        ("0100000200200000", "0100000200200000"),
        ("012", "012"),
    ],
)
def test_capabilities_have_names(value, shown):
    assert capability_names(value) == shown


def test_what_a_guest_told_is_made_fit_to_show():
    now = inventory(files={"/etc/cron.d/\x1b[2J\udcff" + "x" * 999: FILE})

    [found] = compare(now, EMPTY)

    assert "\x1b" not in found.subject
    assert len(found.subject) == 300
    json.dumps(found.to_json()).encode()


# What vmkit and recipes put there.


def closed_files() -> dict[str, FileFact]:
    root = data_folder("provision") / "closed-network/root"
    return {
        f"/{path.relative_to(root)}": FileFact(
            mode=0o440 if path.parent.name == "sudoers.d" else 0o644,
            uid=0,
            gid=0,
            content=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in root.rglob("*")
        if path.is_file()
    }


def expected(now: Inventory, folder: Path, **changes):
    machine = dataclasses.replace(MACHINE, **{"recipes": (), **changes})
    return expected_of(machine, now, user=AGENT, recipes_folder=folder)


def test_the_settings_of_a_closed_network_are_expected_of_a_closed_machine_only(tmp_path):
    lines = (data_folder("provision") / "closed-network/root/usr/lib/vmkit/closed-network/environment").read_text()
    now = inventory(
        files=closed_files() | {"/etc/environment": FILE}, lines={"/etc/environment": frozenset(lines.splitlines())}
    )

    strict = compare(now, EMPTY, expected=expected(now, tmp_path, egress="strict"))
    airgap = compare(now, EMPTY, expected=expected(now, tmp_path, egress="airgap"))

    assert {(one.risk, one.owner) for one in strict} == {(Risk.EXPECTED, "the closed network")}
    assert Risk.EXPECTED not in {one.risk for one in airgap}
    assert len(strict) == len(airgap) == len(now.files)


def test_a_file_of_a_closed_network_that_was_changed_is_not_expected(tmp_path):
    name = "/etc/sudoers.d/vmkit-closed-network"
    now = inventory(files=closed_files() | {name: dataclasses.replace(FILE, mode=0o440)})

    found = compare(now, EMPTY, expected=expected(now, tmp_path, egress="strict"))

    assert [(one.kind, one.subject) for one in found if one.risk is not Risk.EXPECTED] == [(Kind.SUDO, name)]


def recipe_file(recipe: str, name: str, **changes) -> FileFact:
    content = (data_folder("provision") / recipe / name).read_bytes()
    return dataclasses.replace(FILE, content=hashlib.sha256(content).hexdigest(), **changes)


@pytest.mark.parametrize("known_by", [{"recipes": ("kiro-hooks",)}, {}])
def test_what_recipes_install_is_expected_by_its_content(tmp_path, known_by):
    settings = "/home/agent/.kiro/settings/cli.json"
    own = {"uid": 1000, "gid": 1000}
    now = inventory(
        files={
            "/etc/profile.d/vmkit.sh": recipe_file("base", "profile.sh"),
            "/home/agent/.kiro/agents/vmkit.json": recipe_file("kiro-hooks", "agent.json", **own),
            "/usr/local/lib/vmkit/kiro-hooks/deny": recipe_file("kiro-hooks", "deny"),
            "/home/agent/.local/bin/kiro-cli": FileFact(mode=0o755, content="9 bytes", **own),
            "/etc/environment": FILE,
            settings: dataclasses.replace(FILE, **own),
        },
        lines={
            "/etc/environment": frozenset(
                {
                    "KIRO_NO_AUTO_UPDATE=1",
                    'PATH="/home/agent/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"',
                }
            ),
            settings: frozenset({"{", '  "app.disableAutoupdates": true,', '  "chat.defaultAgent": "vmkit"', "}"}),
        },
        packages={"jq:amd64": "1", "libasound2t64:amd64": "1"},
        stamps={} if known_by else {"kiro-hooks.agent": "x", "base.path": "x", "nonsense": "x", "no-such.step": "x"},
    )

    found = compare(now, EMPTY, expected=expected(now, tmp_path, **known_by))

    assert {one.risk for one in found} == {Risk.EXPECTED}
    assert {one.owner for one in found if one.subject == "/etc/environment"} == {"recipe base, recipe kiro-cli"}


@pytest.mark.parametrize(
    "line",
    ["LD_PRELOAD=/tmp/x.so", 'PATH="/tmp:/usr/bin"', 'PATH="/home/agent/.local/bin:/tmp"', "KIRO_NO_AUTO_UPDATE=1}"],
)
def test_a_line_that_no_recipe_wrote_is_not_expected(tmp_path, line):
    now = inventory(
        files={"/etc/environment": FILE}, lines={"/etc/environment": frozenset({"KIRO_NO_AUTO_UPDATE=1", line})}
    )

    [found] = compare(now, EMPTY, expected=expected(now, tmp_path, recipes=("kiro-cli",)))

    assert found.risk is Risk.MEDIUM


def test_a_path_that_was_there_goes_on_behind_the_recipes_folder(tmp_path):
    before = inventory(files={"/etc/environment": FILE}, lines={"/etc/environment": frozenset({'PATH="/a:/b"'})})
    now = inventory(
        files={"/etc/environment": dataclasses.replace(FILE, content="b" * 64)},
        lines={"/etc/environment": frozenset({'PATH="/home/agent/.local/bin:/a:/b"'})},
    )

    [found] = compare(now, before, expected=expected(now, tmp_path, recipes=("base",)))

    assert found.owner == "recipe base"


@pytest.mark.parametrize("new", [{"is_link": True, "content": "/tmp/x"}, {"mode": 0o666}])
def test_a_file_of_lines_with_other_rights_is_not_expected(tmp_path, new):
    before = inventory(files={"/etc/environment": FILE}, lines={"/etc/environment": frozenset({"A=1"})})
    now = inventory(
        files={"/etc/environment": dataclasses.replace(FILE, **new)},
        lines={"/etc/environment": frozenset({"A=1", "KIRO_NO_AUTO_UPDATE=1"})},
    )

    [found] = compare(now, before, expected=expected(now, tmp_path, recipes=("kiro-cli",)))

    assert found.risk is Risk.MEDIUM


# How it is shown.

FOUND = Drift(
    machine="a",
    image="debian-13:latest",
    image_digest="sha256:" + "0" * 64,
    findings=(
        Finding(kind=Kind.LOADER, change=Change.ADDED, subject="/etc/ld.so.preload", detail="0644 of 0:0"),
        Finding(kind=Kind.SUDO, change=Change.ADDED, subject="/etc/sudoers.d/v", owner="the closed network"),
    ),
    missed=(),
)


def test_a_heading_says_why_and_what_is_expected_is_shown_when_asked_for(capsys):
    show(FOUND, everything=False)
    short = capsys.readouterr().out
    show(FOUND, everything=True)
    full = capsys.readouterr().out

    heading = "high: preloaded library: every program loads what this file names, with that program's rights"
    assert short.splitlines() == [heading, "  added    /etc/ld.so.preload  (0644 of 0:0)"]
    assert full.splitlines()[3:] == ["  added    /etc/sudoers.d/v  [the closed network]"]
    assert summary(FOUND) == "a against debian-13:latest (000000000000): 1 high, 1 expected"


def test_the_json_has_every_finding():
    said = FOUND.to_json()

    assert said["counts"] == {"high": 1, "medium": 0, "low": 0, "expected": 1}
    assert [one["expected_by"] for one in said["findings"]] == [None, "the closed network"]


# A machine against its image.

ASK = str(Command("sudo", "-n", "sh", "-c", inventory_script(), "inventory"))
PASSWD = b"passwd\0./etc/passwd\0agent:x:1000:1000::/home/agent:/bin/bash\0"
CRON = b"file\tf\t644\t0\t0\t9\0./etc/cron.d/x\0\0"


def answer(*records: bytes) -> bytes:
    return b"vmkit inventory 1\0" + b"".join(records) + b"end\0"


class World:
    """A machine that runs, made of an image, and how guests answer."""

    def __init__(self, folder: Path) -> None:
        require_programs("qemu-img")
        self.paths = Paths(config=folder / "config", data=folder / "data", cache=folder / "cache")
        own_directory(self.paths.data)
        self.machines, self.images, self.driver = MachineStore(self.paths), ImageStore(self.paths.images), FakeDriver()
        self.copies: list[object] = []
        self.copy_says = answer(PASSWD)
        (folder / "base.raw").write_bytes(b"x" * (1 << 20))
        for name in ("kernel", "initrd"):
            (folder / name).write_bytes(name.encode())
        meta = ImageMeta(arch="x86_64", boot=Boot.DIRECT, user="agent", created=now(), kernel_arguments="root=/dev/vda")
        self.image = self.images.add(
            "base:1", disk=folder / "base.raw", kernel=folder / "kernel", initrd=folder / "initrd", meta=meta,
            report=Silent(),
        )  # fmt: skip
        plan = make_plan(
            Wishes(name="a", template="debian", image="base:1", disk="1G", driver="qemu", egress="airgap"),
            settings=load_settings(folder / "none"), machines=self.machines, images=self.images, host_arch="x86_64",
        )  # fmt: skip
        create(
            plan, machines=self.machines, images=self.images, driver=self.driver, runner=Runner(), report=Silent(),
            timeout_s=1, start=False,
        )  # fmt: skip
        self.machine = self.machines.open("a")
        self.driver.start(self.machines.vm(self.machine))

    @contextlib.contextmanager
    def reach(self, copy, *, machines, driver, report, timeout_s):
        self.copies.append(copy)
        self.disk = subprocess.run(
            ["qemu-img", "info", "--output=json", copy.disk], check=True, capture_output=True, timeout=60
        ).stdout
        self.kernel = (Bundle(copy.machine.bundle).data / KERNEL).read_bytes()
        driver.start(machines.vm(copy.machine))
        with FakeGuest({ASK: self.copy_says.replace(b"OWN", copy.keys.user_public.encode())}) as guest:
            yield guest

    def baseline(self, machine, **options):
        return baseline_of(machine, **options, reach=self.reach)

    def drift(self, says: bytes = answer(PASSWD), **changes):
        own = load_keys(self.machine.keys).user_public.encode()
        return drift(
            dataclasses.replace(self.machine, **changes),
            guest=FakeGuest({ASK: says.replace(b"OWN", own)}),
            machines=self.machines,
            images=self.images,
            driver=self.driver,
            runner=Runner(),
            report=Silent(),
            timeout_s=1,
            baseline=self.baseline,
        )

    @property
    def kept(self) -> Path:
        return self.paths.cache / "inventory" / f"{self.image.digest.removeprefix('sha256:')}.json"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_machine_like_its_image_has_no_findings_whatever_keys_let_vmkit_in(world):
    keys = b"key\0./home/agent/.ssh/authorized_keys\0OWN\0"
    world.copy_says = answer(PASSWD, keys)

    assert world.drift(answer(PASSWD, keys)).findings == ()


def test_what_was_added_is_found(world):
    [found] = world.drift(answer(PASSWD, CRON)).findings

    assert (found.kind, found.subject) == (Kind.CRON, "/etc/cron.d/x")


def test_the_image_is_booted_once_in_a_copy_that_is_gone_afterwards(world):
    world.drift()
    world.drift()

    [copy] = world.copies
    info = json.loads(world.disk)
    assert info["full-backing-filename"].endswith(f"assembled/{world.image.digest[7:]}/disk.raw")
    assert world.kernel == b"kernel"
    assert copy.machine.uuid != world.machine.uuid
    assert copy.machine.egress == "airgap"
    assert copy.keys.user_public != load_keys(world.machine.keys).user_public
    assert not copy.folder.exists()
    assert list(world.driver.running) == [world.machine.uuid]
    assert world.driver.state(world.machines.vm(world.machine)) == MachineState.RUNNING


def test_a_name_that_means_another_image_by_now_does_not_matter(world):
    (world.paths.data / "other.raw").write_bytes(b"y" * (1 << 20))
    meta = world.images.manifest(world.image.digest).meta
    kernel = {"kernel": world.image.kernel, "initrd": world.image.initrd}
    world.images.add("base:1", disk=world.paths.data / "other.raw", **kernel, meta=meta, report=Silent())

    world.drift()

    assert world.image.digest[7:] in json.loads(world.disk)["full-backing-filename"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}'])
def test_what_is_kept_and_cannot_be_read_is_asked_again(world, content):
    world.drift()
    world.kept.write_bytes(content)

    world.drift()

    assert len(world.copies) == 2


@pytest.mark.parametrize("key", ["schema", "script"])
def test_what_another_script_asked_is_asked_again(world, key):
    world.drift()
    world.kept.write_text(json.dumps(json.loads(world.kept.read_text()) | {key: "other"}))

    world.drift()

    assert len(world.copies) == 2


def test_what_makes_no_sense_is_not_kept(world):
    world.copy_says = b"nonsense"

    with pytest.raises(Refused):
        world.drift()

    assert not world.kept.exists()
    assert list(world.driver.running) == [world.machine.uuid]


def test_what_could_not_be_looked_at_is_told_and_the_image_asked_again(world):
    world.copy_says = answer(PASSWD, b"cut\0capabilities\0")

    found = world.drift(answer(PASSWD, b"cut\0./root/\x1b\0"))

    assert found.missed == ("/root/^[", "capabilities")
    assert not world.kept.exists()


def test_a_machine_without_an_image_has_nothing_to_be_compared_with(world):
    with pytest.raises(WrongState, match="not made from an image"):
        world.drift(image="")


def test_an_image_that_is_gone_is_told(world):
    with pytest.raises(Refused, match="missing"):
        world.drift(image_digest="sha256:" + "1" * 64)


def test_where_disks_have_no_children_no_image_is_booted(world):
    world.driver.bundle_only = True

    with pytest.raises(HostLacks):
        world.drift()
