"""What the user told `docker login`, `podman` or a credential helper about a registry; read, never written."""

import base64
import binascii
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmkit.errors import HostLacks, Refused, UsageError
from vmkit.host.files import read_bounded
from vmkit.host.process import QUICK_S, Runner
from vmkit.host.text import printable

_MAX_CONFIG = 1 << 20
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN_USER = "<token>"  # noqa: S105  # what helpers call the user whose secret is a refresh token
_DOCKER_HUB = {"docker.io", "registry-1.docker.io", "index.docker.io", "auth.docker.io"}
# What the usual helpers need to find a key ring or a profile; nothing else of the environment reaches them.
_HELPER_ENVIRONMENT = (
    "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DISPLAY", "WAYLAND_DISPLAY", "GNUPGHOME",
    "GPG_TTY", "PASSWORD_STORE_DIR", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE", "DOCKER_CONFIG",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """A user and a password, or a token that buys others. Its text shows neither."""

    user: str = ""
    password: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """Return the value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class DockerCredentials:
    """Find credentials as docker does: a helper for the host, then the store, then the file itself."""

    def __init__(self, path: Path, *, runner: Runner) -> None:
        self._path, self._runner = path, runner

    @classmethod
    def of_user(cls, *, runner: Runner) -> "DockerCredentials":
        """Use `$DOCKER_CONFIG/config.json`, or the one in the home directory."""
        folder = os.environ.get("DOCKER_CONFIG")
        return cls((Path(folder) if folder else Path.home() / ".docker") / "config.json", runner=runner)

    def find(self, host: str) -> Credential | None:
        """Return what is known for `HOST[:PORT]`, or None.

        Raises UsageError for a file that cannot be read, HostLacks for a helper that fails.
        """
        config = self._config()
        helpers = _table(config, "credHelpers")
        for name in _names(host):
            if isinstance(helpers.get(name), str):
                return self._ask(helpers[name], name)
        entries = {_plain(key): (key, value) for key, value in _table(config, "auths").items()}
        found = next((entries[name] for name in _names(host) if name in entries), None)
        store = config.get("credsStore")
        if isinstance(store, str) and store:
            return self._ask(store, found[0] if found else host)
        return self._parse_entry(found[1]) if found else None

    def _config(self) -> dict[str, Any]:
        try:
            value = json.loads(read_bounded(self._path, max_bytes=_MAX_CONFIG))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError, Refused) as error:
            raise UsageError(f'"{self._path}" cannot be read', detail=printable(str(error), max_chars=200)) from None
        return value if isinstance(value, dict) else {}

    def _parse_entry(self, entry: object) -> Credential | None:
        if not isinstance(entry, dict):
            return None
        if isinstance(entry.get("identitytoken"), str) and entry["identitytoken"]:
            return Credential(refresh_token=entry["identitytoken"])
        auth = entry.get("auth")
        if not isinstance(auth, str) or not auth:
            return None
        try:
            user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = user = password = ""
        if not colon:
            raise UsageError(f'"{self._path}" has an "auth" that is not USER:PASSWORD in base64', hint="docker login")
        return Credential(user=user, password=password.rstrip("\0"))

    def _ask(self, helper: str, server: str) -> Credential | None:
        if not _HELPER.fullmatch(helper):
            raise UsageError(f'"{self._path}" names a helper that cannot be: "{printable(helper, max_chars=80)}"')
        program = f"docker-credential-{helper}"
        env = {name: os.environ[name] for name in _HELPER_ENVIRONMENT if name in os.environ}
        done = self._runner.run([program, "get"], stdin=server.encode(), env=env, timeout_s=QUICK_S, ok_codes=None)
        if done.code != 0:
            # Its output is not shown: nobody knows what a helper prints. This sentence of it means "none".
            if b"credentials not found" in done.stdout + done.stderr:
                return None
            raise HostLacks(f'"{program}" gave no credentials for "{printable(server, max_chars=200)}"')
        try:
            answer = json.loads(done.stdout[: 1 << 20])
            user, secret = answer["Username"], answer["Secret"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise HostLacks(f'"{program}" answered with something that is not a credential') from None
        if not isinstance(user, str) or not isinstance(secret, str) or not secret:
            return None
        return Credential(refresh_token=secret) if user == _TOKEN_USER else Credential(user=user, password=secret)


def _table(config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _names(host: str) -> list[str]:
    """Return under which names docker keeps the credentials of a host."""
    return [host, "index.docker.io", "https://index.docker.io/v1/"] if host in _DOCKER_HUB else [host]


def _plain(key: str) -> str:
    return key.split("://", 1)[-1].split("/", 1)[0].lower()
