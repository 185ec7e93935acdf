import json
import stat
from pathlib import Path

import pytest

from vmkit.drivers.accelerator import PASSED, choose_accelerator, self_test
from vmkit.errors import TimedOut
from vmkit.host.computer import is_macos, machine_arch
from vmkit.host.process import Completed, Runner

HERE = machine_arch()
OTHER = "aarch64" if HERE == "x86_64" else "x86_64"
CODE = {"x86_64": 85, "aarch64": 0}
NAME = "hvf" if is_macos() else "kvm"

pytestmark = pytest.mark.skipif(HERE not in CODE, reason="no self-test is known for this computer")


class Probed(Runner):
    """Stands for QEMU: ends as it is told, and counts."""

    def __init__(self, outcome: int | TimedOut, said: bytes = b"K", stderr: bytes = b"") -> None:
        self.outcome, self.said, self.stderr, self.argvs = outcome, said, stderr, []

    def run(self, argv, **_):
        self.argvs.append(argv)
        if isinstance(self.outcome, TimedOut):
            raise self.outcome
        return Completed(argv=tuple(argv), code=self.outcome, stdout=self.said, stderr=self.stderr)


@pytest.fixture
def host(tmp_path):
    """A program and a device node that this user may use."""
    tmp_path.chmod(0o700)
    binary, kvm = tmp_path / "qemu", tmp_path / "kvm"
    binary.write_bytes(b"")
    kvm.write_bytes(b"")
    return {"binary": binary, "kvm": kvm, "cache": tmp_path / "cache"}


def test_an_accelerator_that_passes_is_chosen_and_tested_once(host):
    runner = Probed(CODE[HERE])

    first = choose_accelerator(HERE, hypervisor_wanted=True, runner=runner, **host)
    second = choose_accelerator(HERE, hypervisor_wanted=True, runner=runner, **host)

    assert (first.name, first.reason) == (NAME, PASSED)
    assert second == first
    assert len(runner.argvs) == 1


def test_one_that_hangs_is_not_chosen(host):
    runner = Probed(TimedOut("late"))

    chosen = choose_accelerator(HERE, hypervisor_wanted=True, runner=runner, **host)

    assert chosen.name == "tcg"
    assert chosen.reason == f"the {NAME.upper()} self-test did not finish within 3 s"


def test_one_that_ends_otherwise_is_not_chosen_and_says_qemus_last_line(host):
    runner = Probed(1, stderr=b"warning\nqemu: failed to init\n")

    chosen = choose_accelerator(HERE, hypervisor_wanted=True, runner=runner, **host)

    assert chosen.name == "tcg"
    assert chosen.reason == f"the {NAME.upper()} self-test failed: qemu: failed to init"


@pytest.mark.parametrize("changed", ["binary", "kvm"])
def test_a_changed_program_or_node_is_tested_again(host, changed):
    runner = Probed(CODE[HERE])
    choose_accelerator(HERE, hypervisor_wanted=True, runner=runner, **host)

    replaced = host[changed].with_suffix(".new")
    replaced.write_bytes(b"other")
    replaced.chmod(0o660)
    replaced.replace(host[changed])
    choose_accelerator(HERE, hypervisor_wanted=True, runner=runner, **host)

    assert len(runner.argvs) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"boot": 1, "verdicts": {}}', b"[" * 60_000, b"a" * (1 << 17)],
)
def test_a_damaged_verdict_or_one_of_another_boot_counts_for_nothing(host, content):
    host["cache"].mkdir(mode=0o700)
    (host["cache"] / "accelerator.json").write_bytes(content)
    runner = Probed(CODE[HERE])

    chosen = choose_accelerator(HERE, hypervisor_wanted=True, runner=runner, **host)

    assert chosen.name == NAME
    assert json.loads((host["cache"] / "accelerator.json").read_bytes())["verdicts"]


def test_a_guest_of_another_architecture_is_emulated_without_a_test(host):
    runner = Probed(CODE[HERE])

    chosen = choose_accelerator(OTHER, hypervisor_wanted=True, runner=runner, **host)

    assert (chosen.name, chosen.reason) == ("tcg", f"this guest is {OTHER}, the host {HERE}")
    assert runner.argvs == []


def test_a_bundle_that_wants_no_hypervisor_gets_none(host):
    chosen = choose_accelerator(HERE, hypervisor_wanted=False, runner=Probed(CODE[HERE]), **host)

    assert chosen.name == "tcg"


@pytest.mark.skipif(is_macos(), reason="macOS has no /dev/kvm")
def test_a_computer_without_kvm_says_so(host):
    host["kvm"].unlink()

    chosen = choose_accelerator(HERE, hypervisor_wanted=True, runner=Probed(CODE[HERE]), **host)

    assert (chosen.name, chosen.reason) == ("tcg", f"there is no {host['kvm']}")


def test_nothing_but_the_verdict_and_its_lock_stays(host):
    choose_accelerator(HERE, hypervisor_wanted=True, runner=Probed(CODE[HERE]), **host)

    assert {path.name for path in host["cache"].iterdir()} == {"accelerator.json", "accelerator.lock"}
    assert stat.S_IMODE((host["cache"] / "accelerator.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_program_ends_as_expected_under_emulation(tmp_path, arch):
    """The proof that the self-test can succeed, and that it fails for the right reason where it fails."""
    binary = Runner().find(f"qemu-system-{arch}")
    if binary is None:
        pytest.skip(f"qemu-system-{arch} is not installed")

    assert self_test(arch, "tcg", binary=binary, runner=Runner(), folder=tmp_path, timeout_s=60) == PASSED


def test_a_program_that_never_ends_fails(tmp_path):
    binary = Runner().find("qemu-system-x86_64")
    if binary is None:
        pytest.skip("qemu-system-x86_64 is not installed")

    said = self_test("x86_64", "tcg", binary=binary, runner=Runner(), folder=tmp_path, timeout_s=0.05)

    assert said == "the TCG self-test did not finish within 0.05 s"


def test_an_accelerator_that_qemu_does_not_know_fails_with_its_words(tmp_path):
    binary = Runner().find("qemu-system-x86_64")
    if binary is None:
        pytest.skip("qemu-system-x86_64 is not installed")

    said = self_test("x86_64", "nosuch", binary=binary, runner=Runner(), folder=tmp_path)

    assert said.startswith("the NOSUCH self-test failed: ")
    assert "nosuch" in said


def test_a_folder_with_a_comma_in_its_name_is_no_option(tmp_path):
    binary = Runner().find("qemu-system-x86_64")
    if binary is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    folder = tmp_path / "a,readonly=on"
    folder.mkdir()

    assert self_test("x86_64", "tcg", binary=binary, runner=Runner(), folder=Path(folder), timeout_s=60) == PASSED
