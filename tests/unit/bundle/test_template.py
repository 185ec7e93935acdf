"""Templates: shipped and the user's, what they inherit, and how a wrong one is told."""

from pathlib import Path

import pytest

from vmkit.bundle.template import check_template, list_templates, load_template, resolve_options
from vmkit.errors import NotFound, UsageError

WHOLE = """
summary = "mine"
cpus = 1
memory = "512MiB"
disk = "4GiB"
image = "debian-13"
user = "me"
recipes = ["base"]
egress = "airgap"
"""


def write(folder: Path, name: str, content: str, **files: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "template.toml").write_text(content)
    for file, text in files.items():
        (folder / name / file.replace("__", ".")).write_text(text)
    return folder


def test_the_shipped_templates_are_listed_and_pass_their_own_check(tmp_path: Path) -> None:
    found = list_templates(user_folder=tmp_path)

    assert [template.name for template in found] == ["debian", "kiro", "kiro-apple", "kiro-macos"]
    for template in found:
        check_template(template.name, user_folder=tmp_path)


def test_a_template_of_the_user_s_needs_no_other(tmp_path: Path) -> None:
    template = load_template("mine", user_folder=write(tmp_path, "mine", WHOLE))

    assert (template.cpus, template.memory_mib, template.disk_bytes) == (1, 512, 4 << 30)
    assert (template.user, template.recipes, template.egress) == ("me", ("base",), "airgap")
    assert template.config_file == "_base/config.plist.j2"


def test_a_template_inherits_what_it_does_not_say(tmp_path: Path) -> None:
    own = 'extends = "kiro"\nmemory = "16GiB"\n[options.notes]\ndefault = "mine"\n[options.size]\ntype = "integer"\ndefault = 3\n'
    write(tmp_path, "big", own)

    template = load_template("big", user_folder=tmp_path)

    assert template.memory_mib == 16384
    assert template.recipes == load_template("kiro", user_folder=tmp_path).recipes
    assert template.options["notes"].default == "mine"
    assert {"display", "size"} <= set(template.options)
    check_template("big", user_folder=tmp_path)


def test_a_template_of_the_user_s_may_extend_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    write(tmp_path, "kiro", 'extends = "kiro"\ncpus = 7\n')

    template = load_template("kiro", user_folder=tmp_path)

    assert template.cpus == 7
    assert template.recipes == ("base", "kiro-cli")
    check_template("kiro", user_folder=tmp_path)


def test_a_template_of_the_apple_backend_falls_back_to_the_shared_blocks_of_that_backend(tmp_path: Path) -> None:
    write(tmp_path, "mine", WHOLE.replace("airgap", "open") + 'backend = "apple"\n')

    template = load_template("mine", user_folder=tmp_path)

    assert (template.backend, template.system) == ("apple", "linux")
    assert template.config_file == "_base/apple.plist.j2"
    check_template("mine", user_folder=tmp_path)


def test_a_template_for_macos_has_no_image() -> None:
    template = load_template("kiro-macos", user_folder=Path("/nonexistent"))

    assert (template.backend, template.system, template.image, template.recipes) == ("apple", "macos", "", ())


def test_a_config_of_the_other_backend_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "mixed", 'extends = "kiro"\nbackend = "apple"\negress = "open"\n')

    with pytest.raises(UsageError, match="does not render what was meant"):
        check_template("mixed", user_folder=tmp_path)


def test_a_config_of_its_own_may_fill_its_parent_s_blocks(tmp_path: Path) -> None:
    config = '{% extends "kiro/config.plist.j2" %}{% block cpu %}max{% endblock %}'
    write(tmp_path, "max", 'extends = "kiro"\n', config__plist__j2=config)

    check_template("max", user_folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('extends = "mine"\n', "extends itself"),
        ('extends = "../kiro"\n', "cannot name a template"),
        ("extends = 3\n", '"extends"'),
        ('extends = "kiro"\nmemmory = "1GiB"\n', '"memmory"'),
        ('extends = "kiro"\ncpus = "2"\n', '"cpus"'),
        ('extends = "kiro"\ncpus = true\n', '"cpus"'),
        ('extends = "kiro"\nmemory = 4\n', '"memory"'),
        ('extends = "kiro"\nrecipes = "base"\n', '"recipes"'),
        ('extends = "kiro"\nuser = "Root"\n', '"user"'),
        ('extends = "kiro"\negress = "wide"\n', '"egress"'),
        ('extends = "kiro"\noptions = 3\n', '"options"'),
        ('extends = "kiro"\n[options.A]\ndefault = "x"\n', '"A"'),
        ('extends = "kiro"\n[options.machine]\ndefault = "x"\n', '"machine"'),
        ('extends = "kiro"\n[options.a]\ntype = "float"\ndefault = 1.5\n', '"type"'),
        ('extends = "kiro"\n[options.a]\ntype = "integer"\ndefault = true\n', '"default"'),
        ('extends = "kiro"\n[options.a]\ndefault = "x"\nchoices = ["y"]\n', '"default"'),
        ('extends = "kiro"\n[options.a]\ndefault = "x"\nvalues = ["y"]\n', '"values"'),
        ('extends = "kiro"\nbackend = "hvf"\n', '"backend"'),
        ('extends = "kiro"\nsystem = "windows"\n', '"system"'),
        ('extends = "kiro"\nsystem = "macos"\n', '"image"'),
        ('extends = "kiro-macos"\nbackend = "qemu"\n', '"backend"'),
        ('extends = "kiro-macos"\nimage = "debian-13"\n', '"image"'),
        ('extends = "kiro-apple"\negress = "airgap"\n', '"egress"'),
        ('extends = "kiro"\n[options.hardware_model]\ndefault = "x"\n', '"hardware_model"'),
        ("summary = \n", "cannot be read"),
        ('summary = "only"\n', '"cpus"'),
    ],
)
def test_a_wrong_template_is_refused_with_its_file_and_key(tmp_path: Path, content: str, said: str) -> None:
    write(tmp_path, "mine", content)

    with pytest.raises(UsageError) as raised:
        load_template("mine", user_folder=tmp_path)

    assert said in raised.value.message
    assert "template.toml" in f"{raised.value.message} {raised.value.detail}"


def test_templates_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "one", 'extends = "two"\n')
    write(tmp_path, "two", 'extends = "one"\n')

    with pytest.raises(UsageError, match="extends itself"):
        load_template("one", user_folder=tmp_path)


def test_an_unknown_template_is_not_found_and_the_nearest_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as raised:
        load_template("kior", user_folder=tmp_path)

    assert "kiro" in (raised.value.hint or "")


OPTIONS = """extends = "kiro"
[options.level]
type = "integer"
default = 1
choices = [1, 2]
[options.wide]
type = "boolean"
default = false
[options.word]
default = "a"
"""


def test_options_are_set_by_type(tmp_path: Path) -> None:
    template = load_template("o", user_folder=write(tmp_path, "o", OPTIONS))

    values = resolve_options(template, ["level=2", "wide=yes", "word=b=c"])

    assert (values["level"], values["wide"], values["word"]) == (2, True, "b=c")
    assert values["display"] is False


@pytest.mark.parametrize("setting", ["level=3", "level=x", "wide=maybe", "word=\x1b[31m", "levle=2", "level"])
def test_a_wrong_setting_is_refused(tmp_path: Path, setting: str) -> None:
    template = load_template("o", user_folder=write(tmp_path, "o", OPTIONS))

    with pytest.raises(UsageError):
        resolve_options(template, [setting])


def test_an_undeclared_option_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    template = load_template("o", user_folder=write(tmp_path, "o", OPTIONS))

    with pytest.raises(UsageError) as raised:
        resolve_options(template, ["levle=2"])

    assert "level" in (raised.value.hint or "")
