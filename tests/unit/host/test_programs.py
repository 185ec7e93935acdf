from pathlib import Path

import pytest

from vmkit.errors import HostLacks
from vmkit.host.process import Completed, Runner
from vmkit.host.programs import find_qemu, qemu_version


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
