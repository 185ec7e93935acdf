"""The listing is the design: who may import whom, checked by reading the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vmkit"

# A package may import those named, itself, host and errors.
ALLOWED = {
    "host": set(),
    "bundle": set(),
    "images": set(),
    "drivers": {"bundle"},
    "guest": {"drivers"},
    "recipes": {"guest"},
    "kiro": {"guest"},
    "network": {"guest", "drivers"},
    "machines": {"drivers"},
    "workflows": {"machines", "recipes", "kiro", "drivers", "images", "guest", "bundle", "network"},
    "cli": {"workflows", "machines", "recipes", "kiro", "drivers", "images", "guest", "bundle", "network"},
    "testing": {"drivers", "guest"},  # fakes behave like the real ones, and may lean on them
}
# Siblings meet in one module only, the one that says what the other can do.
ONLY_THROUGH = {
    ("drivers", "bundle"): {"vmkit.bundle.config", "vmkit.bundle.layout"},
    ("guest", "drivers"): {"vmkit.drivers.base"},
    ("machines", "drivers"): {"vmkit.drivers.base"},
    ("recipes", "guest"): {"vmkit.guest.base"},
    ("kiro", "guest"): {"vmkit.guest.base"},
    ("network", "guest"): {"vmkit.guest.base", "vmkit.guest.connection", "vmkit.guest.lending"},
    ("network", "drivers"): {"vmkit.drivers.base"},
}
# One package owns each of these; nobody else knows it.
OWNERS = {
    "typer": "cli",
    "rich": "cli",
    "subprocess": "host/process.py",
    "paramiko": "guest",
    "jinja2": "bundle",
    "pycdlib": "bundle",
    "plistlib": ("bundle", "testing"),
    "zstandard": "images",
    "platformdirs": "host/paths.py",
    "tenacity": "host/wait.py",
    "tomlkit": "host/settings.py",
    "httpx": ("host/download.py", "images/remote/"),  # files by address; registries, which answer with challenges
    "publicsuffixlist": "network/broad.py",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    if len(relative.parts) == 1:  # errors.py, __init__.py, __main__.py
        assert not any(name.startswith("vmkit.") for name in imports(path)) or relative.name == "__main__.py"
        return
    home = relative.parts[0]
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "vmkit" or len(parts) < 2 or not (PACKAGE / parts[1]).is_dir() or parts[1] in (home, "host"):
            continue
        assert parts[1] in ALLOWED[home], f"{home} must not import {name}"
        through = ONLY_THROUGH.get((home, parts[1]))
        if through:
            assert any(name == door or name.startswith(door + ".") for door in through), f"{home} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_one_owner_knows_each_outside_thing(path: Path) -> None:
    relative = str(path.relative_to(PACKAGE))
    for name in imports(path):
        owner = OWNERS.get(name.split(".")[0])
        if owner:
            assert relative.startswith(owner), f"only {owner} may import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_linux_and_macos_do_differently_is_in_host(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] == "host" or path == PACKAGE / "drivers/agent.py":  # that is about the guest
        return
    tree = ast.parse(path.read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    docstrings = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    }

    assert not any(text.startswith(("/proc/", "/sys/")) for text in texts if text not in docstrings)
    assert "sys.platform" not in path.read_text()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_hold_one_noun(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350
