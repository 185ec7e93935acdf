"""What a guest shows of the computer around it, and what of that is too much."""

import hashlib

import pytest

from vmkit.network.traces import Known, is_listed, what_shows
from vmkit.network.walls import Wall

KNOWN = Known(
    environment={"AWS_SECRET": "a very secret value", "SHORT": "1", "PATH": "/usr/bin:/bin:/sbin", "LC_ALL": "en_US.UTF-8"},
    paths=("/Volumes/work/vmkit", "/", "/root"),
    host_name="workstation-7",
    door_port=13128,
)  # fmt: skip


def shown(wall: Wall, *found: str) -> list[str]:
    result = what_shows(wall, found, KNOWN)
    assert result is not None
    return result


def variable(name: str, value: str) -> str:
    return f"{name} {hashlib.sha256(value.encode()).hexdigest()[:32]}"


def test_a_variable_with_this_computers_value_is_named_without_its_value() -> None:
    assert shown(Wall.ENVIRONMENT, variable("AWS_SECRET", "a very secret value")) == ["AWS_SECRET is this computer's"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SECRET", "another value"),
        ("OTHER", "a very secret value"),
        ("SHORT", "1"),
        ("PATH", "/usr/bin:/bin:/sbin"),
        ("LC_ALL", "en_US.UTF-8"),
    ],
)
def test_a_variable_that_is_the_guests_own_or_the_same_everywhere_is_none(name: str, value: str) -> None:
    assert shown(Wall.ENVIRONMENT, variable(name, value)) == []


@pytest.mark.parametrize(
    "text",
    [
        "product_serial: /Volumes/work/vmkit/machines/a.utm",
        "DMI: /Users/someone/Library",
        "DMI: file=/home/someone/vm.qcow2",
        "board_asset_tag: workstation-7",
    ],
)
def test_a_text_of_the_firmware_that_names_this_computer_is_told(text: str) -> None:
    assert shown(Wall.SMBIOS, text) == [text]


@pytest.mark.parametrize(
    "text", ["sys_vendor: QEMU", "cmdline: root=/dev/vda rw quiet", "DMI: workstation-77", "x: /root/a", ""]
)
def test_a_text_of_the_firmware_that_is_the_same_everywhere_is_not(text: str) -> None:
    assert shown(Wall.SMBIOS, text) == []


@pytest.mark.parametrize(
    "text",
    ["mount 9p /mnt", "mount virtiofs /mnt", "mount nfs4 /n", "virtio 0x0009", "virtio 0x001a",
     "port org.spice-space.webdav.0"],
)  # fmt: skip
def test_a_shared_folder_is_told(text: str) -> None:
    assert shown(Wall.SHARES, text) == [text]


@pytest.mark.parametrize("text", ["mount ext4 /", "mount fuse.portal /run", "virtio 0x0001", "mount", "port 9p", ""])
def test_other_mounts_and_devices_are_not(text: str) -> None:
    assert shown(Wall.SHARES, text) == []


def test_every_channel_but_the_guest_agents_is_told() -> None:
    found = ["port org.qemu.guest_agent.0", "port com.redhat.spice.0", "port anything"]

    assert shown(Wall.CHANNELS, *found) == found[1:]


SSHD = ["tcp 0.0.0.0 22", "tcp :: 22", "tcp 127.0.0.1 13128"]


def test_what_sshd_of_a_closed_guest_listens_at_is_no_leak() -> None:
    assert [shown(wall, *SSHD) for wall in (Wall.LISTENERS, Wall.AGENT, Wall.X11)] == [[], [], []]


@pytest.mark.parametrize(
    ("text", "wall"),
    [
        ("tcp 127.0.0.1 8022", Wall.LISTENERS),
        ("tcp 0.0.0.0 13128", Wall.LISTENERS),  # the door, for everybody who reaches the guest
        ("tcp 127.0.0.1 nonsense", Wall.LISTENERS),
        ("tcp ::1 6010", Wall.X11),
        ("unix /tmp/ssh-x/agent.1", Wall.AGENT),
        ("unix without a name", Wall.AGENT),
    ],
)
def test_each_socket_of_sshd_belongs_to_one_row(text: str, wall: Wall) -> None:
    red = [one for one in (Wall.LISTENERS, Wall.AGENT, Wall.X11) if shown(one, *SSHD, text)]

    assert red == [wall]


def test_other_walls_are_not_judged_by_lists() -> None:
    assert what_shows(Wall.CARD, ["x"], KNOWN) is None
    assert not is_listed(Wall.CARD)
    assert is_listed(Wall.AGENT)
