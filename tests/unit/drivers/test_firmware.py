import json
import shutil
from pathlib import Path

import pytest

from vmkit.drivers.firmware import prepare_firmware
from vmkit.errors import HostLacks
from vmkit.host.process import Runner
from vmkit.host.programs import find_firmware


@pytest.fixture
def binary(tmp_path):
    """A QEMU with firmware beside it, as Homebrew and `make install` lay them out."""
    share = tmp_path / "prefix" / "share" / "qemu"
    share.mkdir(parents=True)
    (tmp_path / "prefix" / "bin").mkdir()
    (share / "edk2-aarch64-code.fd").write_bytes(b"code")
    (share / "edk2-arm-vars.fd").write_bytes(b"\0" * 65536)
    program = tmp_path / "prefix" / "bin" / "qemu-system-aarch64"
    program.touch()
    return program


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_pair_of_this_computer_is_found(tmp_path, binary):
    touch(tmp_path, "usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd")

    code, variables = find_firmware("x86_64", binary=binary, root=tmp_path)

    assert code == tmp_path / "usr/share/OVMF/OVMF_CODE_4M.fd"
    assert variables == tmp_path / "usr/share/OVMF/OVMF_VARS_4M.fd"


def test_half_a_pair_does_not_count(tmp_path, binary):
    touch(
        tmp_path,
        "usr/share/OVMF/OVMF_CODE_4M.fd",
        "usr/share/OVMF/OVMF_VARS.fd",
        "usr/share/OVMF/OVMF_CODE.fd",
    )

    code, _ = find_firmware("x86_64", binary=binary, root=tmp_path)

    assert code.name == "OVMF_CODE.fd"


def test_a_link_to_qemu_is_followed_to_its_firmware(tmp_path, binary):
    link = tmp_path / "qemu-system-aarch64"
    link.symlink_to(binary)

    code, variables = find_firmware("aarch64", binary=link, root=tmp_path)

    assert code.read_bytes() == b"code"
    assert variables.name == "edk2-arm-vars.fd"


@pytest.mark.parametrize("arch", ["x86_64", "riscv64"])
def test_a_computer_without_firmware_says_how_to_get_it(tmp_path, binary, arch):
    with pytest.raises(HostLacks, match=f"no UEFI firmware for {arch}") as caught:
        find_firmware(arch, binary=binary, root=tmp_path)

    assert "install" in caught.value.hint


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_variables_are_made_once_as_qcow2(tmp_path, binary):
    data = tmp_path / "Data"
    data.mkdir()

    made = prepare_firmware("aarch64", data, binary=binary, runner=Runner(), root=tmp_path)
    about = json.loads(Runner().run(["qemu-img", "info", "--output=json", str(made.variables)]).stdout)
    made.variables.write_bytes(b"settings of the guest")
    again = prepare_firmware("aarch64", data, binary=binary, runner=Runner(), root=tmp_path)

    assert (about["format"], about["virtual-size"]) == ("qcow2", 65536)
    assert again.variables.read_bytes() == b"settings of the guest"
    assert [path.name for path in data.iterdir()] == ["efi_vars.fd"]


def test_variables_that_cannot_be_made_leave_nothing(tmp_path, binary):
    class WithoutTools(Runner):
        def run(self, argv, **_):
            raise HostLacks('"qemu-img" is not installed')

    data = tmp_path / "Data"
    data.mkdir()

    with pytest.raises(HostLacks):
        prepare_firmware("aarch64", data, binary=binary, runner=WithoutTools(), root=tmp_path)

    assert list(data.iterdir()) == []
