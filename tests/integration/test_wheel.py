"""The wheel holds the data folders, and `vmkit` runs from it alone."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("vm-templates", "provision", "network")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]  # sdist, then wheel
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = folder.glob("*.whl")
    return built


def test_the_data_folders_are_in_the_wheel_bytes_and_modes(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            info.filename.removeprefix("vmkit/_data/"): (archive.read(info), bool(info.external_attr >> 16 & 0o100))
            for info in archive.infolist()
            if info.filename.startswith("vmkit/_data/")
        }
    tracked = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, check=True, capture_output=True, text=True)
    expected = {
        name: ((ROOT / name).read_bytes(), bool((ROOT / name).stat().st_mode & 0o100))
        for name in tracked.stdout.splitlines()
    }

    assert packed == expected
    # These run elsewhere, not here.
    assert {Path(name).name for name in packed if name.endswith(".py")} == {
        "probe.py", "control.py", "layer_probe.py", "layer_canary.py", "seccomp.py"
    }  # fmt: skip


def test_the_scripts_for_utm_are_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("vmkit/drivers/scripts/")}

    assert packed == {str(path.relative_to(ROOT)) for path in (ROOT / "vmkit/drivers/scripts").iterdir()}


def test_vmkit_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    # The wheel's code with this environment's libraries; -P and the path keep the checkout out.
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import vmkit.cli; "
        "assert '/site/' in vmkit.__file__; vmkit.cli.main()"
    )

    def vmkit(*words: str) -> str:
        argv = [sys.executable, "-P", "-c", code, str(tmp_path / "site"), *words]
        done = subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"VMKIT_HOME": str(tmp_path / "h"), "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "create" in vmkit("--help")
    assert "kiro" in vmkit("template", "list")
    assert "kiro-cli" in vmkit("recipe", "list")
    vmkit("template", "check", "kiro")
