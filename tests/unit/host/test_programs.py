from pathlib import Path

import pytest

from vmkit.errors import HostLacks
from vmkit.host.process import Completed, Runner
from vmkit.host.programs import find_qemu, find_utm, qemu_version, utm_runs, utmctl_of


class Says(Runner):
    """Finds what it is told to, and answers with one text."""

    def __init__(self, said: bytes = b"", *, found: Path | None = None) -> None:
        self.said, self.found = said, found

    def find(self, program):
        return self.found

    def run(self, argv, **_):
        return Completed(argv=tuple(argv), code=0, stdout=self.said, stderr=b"")


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (b"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003-2022\n", (7, 2)),
        (b"QEMU emulator version 10.0.0\n", (10, 0)),
    ],
)
def test_a_version_is_two_numbers(said, version):
    assert qemu_version(Path("/usr/bin/qemu"), runner=Says(said)) == version


@pytest.mark.parametrize("said", [b"", b"version ", b"hello", b"version 99999.1"])
def test_a_program_without_a_version_is_not_qemu(said):
    with pytest.raises(HostLacks, match="does not say its version"):
        qemu_version(Path("/usr/bin/qemu"), runner=Says(said))


def test_an_emulator_is_found_by_architecture():
    found = Path("/opt/bin/qemu-system-aarch64")

    assert find_qemu("aarch64", runner=Says(found=found)) == found


@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "riscv64"])
def test_a_missing_emulator_says_how_to_get_it(arch):
    with pytest.raises(HostLacks, match=f"qemu-system-{arch}") as caught:
        find_qemu(arch, runner=Says())

    assert "install" in caught.value.hint


def _install(app: Path) -> Path:
    utmctl_of(app).parent.mkdir(parents=True)
    utmctl_of(app).touch()
    return app


def test_utm_is_found_where_it_is_named_then_for_everybody_then_for_the_user(tmp_path):
    users = _install(tmp_path / "home/Applications/UTM.app")
    environment = {"HOME": str(tmp_path / "home")}
    first = find_utm(environment=environment, root=tmp_path)
    everybodys = _install(tmp_path / "Applications/UTM.app")
    second = find_utm(environment=environment, root=tmp_path)
    named = _install(tmp_path / "Other.app")
    third = find_utm(environment={**environment, "VMKIT_UTM_APP": str(named)}, root=tmp_path)

    assert (first, second, third) == (users, everybodys, named)


def test_a_named_utm_that_is_not_there_is_not_replaced_by_another(tmp_path):
    _install(tmp_path / "Applications/UTM.app")

    assert find_utm(environment={"VMKIT_UTM_APP": str(tmp_path / "none")}, root=tmp_path) is None


def test_elsewhere_than_on_a_mac_a_utm_is_simulated_and_runs():
    assert utm_runs(runner=Says())
