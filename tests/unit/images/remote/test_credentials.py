"""Credentials are found where docker keeps them, and a helper's output is never shown."""

import base64
import json
from pathlib import Path

import pytest

from vmkit.errors import HostLacks, UsageError
from vmkit.host.process import Runner
from vmkit.images.remote.credentials import Credential, DockerCredentials


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(folder: Path, config: object) -> DockerCredentials:
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return DockerCredentials(path, runner=Runner())


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Install a credential helper that is a shell script."""

    def install(name: str, script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / f"docker-credential-{name}"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return install


def test_without_a_file_there_are_none(tmp_path):
    assert DockerCredentials(tmp_path / "none.json", runner=Runner()).find("registry.example") is None


@pytest.mark.parametrize(
    "key", ["registry.example:5000", "https://registry.example:5000", "https://registry.example:5000/v2/"]
)
def test_a_password_is_found_however_its_host_is_written(tmp_path, key):
    found = write(tmp_path, {"auths": {key: {"auth": encoded("alice:se:cret")}}})

    assert found.find("registry.example:5000") == Credential(user="alice", password="se:cret")
    assert found.find("registry.example") is None
    assert found.find("registry.example:5001") is None


def test_an_identity_token_is_found(tmp_path):
    found = write(tmp_path, {"auths": {"r.example": {"auth": encoded("x:y"), "identitytoken": "T"}}})

    assert found.find("r.example") == Credential(refresh_token="T")


def test_a_helper_comes_before_the_file(tmp_path, helper):
    helper("one", 'read host; echo "{\\"Username\\":\\"$host\\",\\"Secret\\":\\"s\\"}"')
    config = {"credHelpers": {"r.example": "one"}, "auths": {"r.example": {"auth": encoded("a:b")}}}

    assert write(tmp_path, config).find("r.example") == Credential(user="r.example", password="s")


def test_the_store_is_asked_with_the_name_that_docker_gave_it(tmp_path, helper):
    helper("store", 'read host; echo "{\\"Username\\":\\"$host\\",\\"Secret\\":\\"s\\"}"')
    config = {"credsStore": "store", "auths": {"https://r.example": {}}}

    assert write(tmp_path, config).find("r.example").user == "https://r.example"


def test_a_helper_may_give_a_refresh_token(tmp_path, helper):
    helper("t", 'echo \'{"Username":"<token>","Secret":"R"}\'')

    assert write(tmp_path, {"credsStore": "t"}).find("r.example") == Credential(refresh_token="R")


def test_a_helper_without_credentials_is_no_error(tmp_path, helper):
    helper("none", "echo 'credentials not found in native keychain'; exit 1")

    assert write(tmp_path, {"credsStore": "none"}).find("r.example") is None


@pytest.mark.parametrize("script", ["echo topsecret; exit 3", "echo topsecret", "echo '[\"topsecret\"]'", "exit 1"])
def test_a_failing_helper_is_named_and_its_output_is_not(tmp_path, helper, script):
    helper("bad", script)

    with pytest.raises(HostLacks) as caught:
        write(tmp_path, {"credsStore": "bad"}).find("r.example")

    assert "docker-credential-bad" in caught.value.message
    assert "topsecret" not in f"{caught.value.message}{caught.value.detail}{caught.value.hint}"


def test_a_helper_sees_no_more_of_the_environment_than_it_needs(tmp_path, helper, monkeypatch):
    monkeypatch.setenv("CANARY_TOKEN", "canary")
    helper("env", 'echo "{\\"Username\\":\\"u$CANARY_TOKEN\\",\\"Secret\\":\\"s\\"}"')

    assert write(tmp_path, {"credsStore": "env"}).find("r.example").user == "u"


@pytest.mark.parametrize("name", ["../x", "a b", "-x", "", "$(id)", "x" * 65])
def test_a_helper_s_name_is_no_path(tmp_path, name):
    with pytest.raises(UsageError):
        write(tmp_path, {"credHelpers": {"r.example": name}}).find("r.example")


@pytest.mark.parametrize("config", ["", "{", "[" * 100_000, " " * (2 << 20)])
def test_a_file_that_cannot_be_read_is_named(tmp_path, config):
    with pytest.raises(UsageError, match="cannot be read"):
        write(tmp_path, config).find("r.example")


@pytest.mark.parametrize(
    "config",
    [[], {"auths": []}, {"auths": {"r.example": 5}}, {"auths": {"r.example": {"auth": 5}}}, {"credHelpers": 1}],
)
def test_a_file_of_another_form_holds_none(tmp_path, config):
    assert write(tmp_path, config).find("r.example") is None


@pytest.mark.parametrize("auth", ["%%%", encoded("nocolon"), base64.b64encode(b"\xff:\xff").decode()])
def test_what_is_no_password_is_named(tmp_path, auth):
    with pytest.raises(UsageError, match="auth"):
        write(tmp_path, {"auths": {"r.example": {"auth": auth}}}).find("r.example")
