from pathlib import Path

import pytest

from vmkit.errors import NotFound, UsageError
from vmkit.recipes.load import list_recipes, load_recipes, read_recipe
from vmkit.recipes.model import Account, File, Packages, PutAsset, Script, digest_of


def write(root: Path, name: str, toml: str, **files: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(f'summary = "a test"\n{toml}')
    for file, content in files.items():
        (folder / file).write_text(content)
    return folder


def test_shipped_recipes_load_with_what_they_need_first(tmp_path: Path) -> None:
    recipes = load_recipes(["kiro-cli", "base", "kiro-cli"], user_folder=tmp_path / "none")

    assert [recipe.name for recipe in recipes] == ["base", "kiro-cli"]
    assert recipes[1].assets == {"kiro-cli"}


def test_list_holds_only_folders_with_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    write(tmp_path, "mine", "")

    names = [recipe.name for recipe in list_recipes(user_folder=tmp_path)]

    assert names == ["base", "container", "kiro-cli", "kiro-hooks", "mine", "srt"]


def test_own_recipe_hides_a_shipped_one(tmp_path: Path) -> None:
    folder = write(tmp_path, "base", "")

    (recipe,) = load_recipes(["base"], user_folder=tmp_path)

    assert recipe.folder == folder


def test_every_kind_of_step_is_read(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        "all",
        """
        [[step]]
        id = "tools"
        packages = ["git", "libasound2t64|libasound2"]
        [[step]]
        id = "note"
        file = "note"
        to = "~/.config/note"
        mode = "0600"
        owner = "user"
        [[step]]
        id = "archive"
        asset = "thing"
        room = 3
        [[step]]
        id = "install"
        script = "go"
        as = "root"
        uses = "thing"
        check = "true"
        timeout = 7
        """,
        note="hello",
        go="echo",
    )

    steps = read_recipe(folder).steps

    assert steps == (
        Packages(id="tools", names=("git", "libasound2t64|libasound2"), timeout_s=1800),
        File(id="note", content=b"hello", target="~/.config/note", mode=0o600, owner=Account.USER, timeout_s=60),
        PutAsset(id="archive", asset="thing", room=3, timeout_s=3600),
        Script(id="install", content=b"echo", account=Account.ROOT, check="true", uses="thing", timeout_s=7),
    )


def test_unknown_recipe_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        load_recipes(["kiro-cly"], user_folder=tmp_path)

    assert caught.value.message == 'there is no recipe "kiro-cly"'
    assert "kiro-cli" in str(caught.value.hint)


def test_missing_need_names_who_needs_it(tmp_path: Path) -> None:
    write(tmp_path, "a", 'needs = ["b"]')

    with pytest.raises(NotFound) as caught:
        load_recipes(["a"], user_folder=tmp_path)

    assert caught.value.detail == 'the recipe "a" needs it'


def test_recipes_that_need_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", 'needs = ["b"]')
    write(tmp_path, "b", 'needs = ["c"]')
    write(tmp_path, "c", 'needs = ["b"]')

    with pytest.raises(UsageError) as caught:
        load_recipes(["a"], user_folder=tmp_path)

    assert caught.value.detail == "b → c → b"


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('neds = ["base"]', 'unknown key "neds"; nearest: needs'),
        ('step = "x"', '"step" must be written as [[step]]'),
        ("needs = [1]", 'must have a list of texts as "needs"'),
        ('needs = ["../base"]', 'has a bad "needs"'),
        ("[[step]]\npackages = []", 'must have a text as "step.id"'),
        ('[[step]]\nid = "a"', "must have exactly one of packages, file, script, asset"),
        ('[[step]]\nid = "a"\nasset = "x"\npackages = []', "must have exactly one of"),
        ('[[step]]\nid = "a"\npackages = ["git"]\nchek = "x"', 'unknown key "a.chek"'),
        ('[[step]]\nid = "a"\npackages = ["--force-yes"]', 'has a bad "a.packages"'),
        ('[[step]]\nid = "a"\npackages = ["git; reboot"]', 'has a bad "a.packages"'),
        ('[[step]]\nid = "a"\nscript = "s"', 'must have a text as "a.as"'),
        ('[[step]]\nid = "a"\nscript = "s"\nas = "nobody"', 'must have "root" or "user" as "a.as"'),
        ('[[step]]\nid = "a"\nscript = "absent"\nas = "user"', 'a file that cannot be read: "absent"'),
        ('[[step]]\nid = "a"\nscript = "../secret"\nas = "user"', "a file outside its folder"),
        ('[[step]]\nid = "a"\nscript = "s"\nas = "user"\nuses = "x"', 'no asset step "x" before the step "a"'),
        ('[[step]]\nid = "a"\nfile = "s"\nto = "etc/x"\nowner = "root"', 'has a bad "a.to"'),
        ('[[step]]\nid = "a"\nfile = "s"\nto = "/etc/../x"\nowner = "root"', 'has a bad "a.to"'),
        ('[[step]]\nid = "a"\nfile = "s"\nto = "/etc/$(reboot)"\nowner = "root"', 'has a bad "a.to"'),
        ('[[step]]\nid = "a"\nfile = "s"\nto = "/etc/x"\nowner = "root"\nmode = "u+s"', 'has a bad "a.mode"'),
        ('[[step]]\nid = "a"\nfile = "s"\nto = "/etc/x"\nowner = "root"\nmode = "4755"', 'has a bad "a.mode"'),
        ('[[step]]\nid = "a"\npackages = []\ntimeout = 0', 'must have a number from 1 to 86400 as "a.timeout"'),
        ('[[step]]\nid = "a"\npackages = []\ntimeout = true', 'must have a number from 1 to 86400 as "a.timeout"'),
        ('[[step]]\nid = "a"\npackages = []\n[[step]]\nid = "a"\npackages = []', 'has two steps "a"'),
        ("x = " + "[" * 20000, "is not TOML"),
        ("summary = 1", "is not TOML"),
    ],
)
def test_bad_recipe_is_refused_with_file_and_key(tmp_path: Path, toml: str, problem: str) -> None:
    (tmp_path / "secret").write_text("x")
    folder = write(tmp_path, "bad", toml, s="true")

    with pytest.raises(UsageError) as caught:
        read_recipe(folder)

    assert problem in caught.value.message
    assert caught.value.detail == str(folder / "recipe.toml")


def test_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    folder = write(tmp_path, "bad", '[[step]]\nid = "a"\nfile = "link"\nto = "/etc/x"\nowner = "root"')
    (folder / "link").symlink_to("../secret")

    with pytest.raises(UsageError, match="outside its folder"):
        read_recipe(folder)


def test_digest_follows_what_a_step_does_and_not_how_it_is_checked() -> None:
    step = Script(id="a", content=b"echo", account=Account.USER, check=None, uses="x", timeout_s=1)
    checked = Script(id="b", content=b"echo", account=Account.USER, check="true", uses="x", timeout_s=2)
    as_root = Script(id="a", content=b"echo", account=Account.ROOT, check=None, uses="x", timeout_s=1)

    digests = [digest_of(step), digest_of(as_root), digest_of(step, "aa"), digest_of(step, "bb")]

    assert digest_of(step) == digest_of(checked)
    assert len(set(digests)) == 4
