import plistlib
from pathlib import Path

import pytest

from vmkit.drivers.base import Vm
from vmkit.drivers.utm_apple import guest_address, is_macos_guest
from vmkit.drivers.utmctl import Utmctl
from vmkit.errors import HostLacks
from vmkit.host.process import Completed, Runner

SAMPLES = Path(__file__).parents[2] / "data/utm-samples"
UNSUPPORTED = (
    "Error from event: The operation couldn\u2019t be completed. (OSStatus error -2700.)\n"
    "Operation not supported by the backend.\n"
)
FORBIDDEN = "Error from event: The operation couldn\u2019t be completed. (OSStatus error -1743.)\n"


class Network(Runner):
    """Answers `utmctl ip-address` and `arp -an`."""

    def __init__(self, *, utm: str = "", stderr: str = "", arp: str = "") -> None:
        self.utm, self.stderr, self.arp = utm, stderr, arp

    def find(self, program):
        return Path("/usr/sbin") / program

    def run(self, argv, **_):
        said, error = (self.arp, "") if argv[0].endswith("arp") else (self.utm, self.stderr)
        return Completed(argv=tuple(argv), code=0, stdout=said.encode(), stderr=error.encode())


def machine(tmp_path: Path, sample: str) -> Vm:
    bundle = tmp_path / "m.utm"
    bundle.mkdir()
    (bundle / "config.plist").write_bytes((SAMPLES / sample).read_bytes())
    return Vm(name="m", uuid="U", bundle=bundle, home=tmp_path, sockets=tmp_path / "s", backend="apple")


def mac_of(vm: Vm) -> str:
    return plistlib.loads((vm.bundle / "config.plist").read_bytes())["Network"][0]["MacAddress"]


@pytest.mark.parametrize(
    ("sample", "macos"),
    [("apple-macos.plist", True), ("apple-linux-uefi.plist", False), ("qemu-full.plist", False)],
)
def test_only_a_macos_guest_is_one(tmp_path, sample, macos):
    assert is_macos_guest(machine(tmp_path, sample)) is macos


@pytest.mark.parametrize(
    ("network", "found"),
    [
        ({"utm": "192.168.64.5\nfe80::1\n"}, "192.168.64.5"),
        ({"utm": "fe80::1\n", "arp": True}, "192.168.64.9"),
        ({"utm": "127.0.0.1\n", "arp": True}, "192.168.64.9"),
        ({"utm": "", "arp": True}, "192.168.64.9"),
        ({"stderr": UNSUPPORTED, "arp": True}, "192.168.64.9"),
        ({"utm": ""}, None),
    ],
)
def test_utm_is_asked_then_the_arp_table(tmp_path, network, found):
    vm = machine(tmp_path, "apple-linux-uefi.plist")
    arp = (
        f"? (192.168.64.9) at {mac_of(vm).lower()} on bridge100 ifscope [bridge]\n" if network.pop("arp", None) else ""
    )
    runner = Network(**network, arp=arp)

    assert guest_address(vm, utmctl=Utmctl(Path("/utmctl"), runner=runner), runner=runner) == found


def test_without_permission_nothing_else_is_asked(tmp_path):
    runner = Network(stderr=FORBIDDEN, arp="? (192.168.64.9) at 2:0:0:0:0:0 on bridge100\n")

    with pytest.raises(HostLacks):
        guest_address(
            machine(tmp_path, "apple-linux-uefi.plist"), utmctl=Utmctl(Path("/u"), runner=runner), runner=runner
        )
